"""From a checkpoint or a folder of others to a model folder of ours, with its head where ours can express it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from d2v.errors import DataError
from d2v.interchange.ctc_tokenizer import read_ctc_tokenizer
from d2v.interchange.heads import Names, has_ctc, make_head
from d2v.interchange.imported import FinetunedHead, Imported, save_imported
from d2v.interchange.labels import read_names
from d2v.interchange.readers import read_source

LETTERS = ("vocab.json", "dict.ltr.txt")
"""Files with the letters of a CTC head, beside its weights."""


@dataclass(frozen=True)
class ImportedModel:
    """A model from elsewhere.

    Attributes:
        source: the encoder, and all else that the source holds under its own names.
        head: what makes it a fine-tuned model; None if it has no head, or one that has no counterpart here.
    """

    source: Imported
    head: FinetunedHead | None


def import_model(
    source: Path, folder: Path, tokenizer: Path | None = None, labels: Path | None = None
) -> ImportedModel:
    """Read a model and write it as a model folder: an encoder, or a fine-tuned model.

    Args:
        source: a file of the reference (fairseq, BEiT, DeepSpeed), or a folder of transformers.
        folder: of the model, new.
        tokenizer: of a text encoder: what `text.prepare.tokenizer` takes. Without it the source's own.
        labels: a file of the head's letters or class names, see `d2v.interchange.labels.read_names`. Without it what
            stands beside the weights.

    Raises:
        CheckpointError: the source cannot be read, or its weights do not fit (all keys named).
        ConfigError: a tokenizer for a model of another modality.
        DataError: tokenizer or labels cannot be read, or do not belong to the model.
    """
    model = read_model(source, tokenizer, labels)
    save_imported(folder, model.source, str(source), model.head)
    return model


def read_model(source: Path, tokenizer: Path | None = None, labels: Path | None = None) -> ImportedModel:
    """As `import_model`, and nothing is written."""
    imported = read_source(source, tokenizer)
    head, notes = make_head(imported, _names(imported, source, labels))
    if labels is not None and head is None:
        raise DataError(
            f"{source} has no head that --labels could name"
            + "".join(f" ({note})" for note in notes)
            + ": leave --labels out"
        )
    return ImportedModel(replace(imported, notes=imported.notes + notes), head)


def _names(imported: Imported, source: Path, labels: Path | None) -> Names:
    """Of the head's outputs: what the user gave, else what the source itself tells, else what stands beside it."""
    tokenizer = read_ctc_tokenizer(source) if source.is_dir() and has_ctc(imported) else None
    boundary = tokenizer.boundary if tokenizer else "|"
    if labels is not None:
        return Names(read_names(labels), boundary)
    if tokenizer is not None:
        return Names(None, boundary, tokenizer)
    if not has_ctc(imported):
        return Names()
    if imported.symbols:
        return Names(imported.symbols)
    beside = source if source.is_dir() else source.parent
    found = [beside / name for name in LETTERS if (beside / name).is_file()]
    return Names(read_names(found[0]) if found else None)
