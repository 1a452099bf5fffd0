"""From a checkpoint or a folder of others to a model folder of ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from d2v.errors import CheckpointError
from d2v.interchange.fairseq import import_fairseq
from d2v.interchange.huggingface import import_huggingface
from d2v.interchange.imported import Imported, save_imported
from d2v.interchange.weights import refuse_not_finite
from d2v.modalities import registry
from d2v.modalities.base import Foreign


def import_into(source: Path, folder: Path, tokenizer: Path | None = None) -> Imported:
    """Read an encoder and write it as a model folder; what its source holds beside it goes into `head.safetensors`
    as it is. `d2v.interchange.importing` makes fine-tuned models of those that have a head.

    Args:
        source: a file of the reference (fairseq, BEiT, DeepSpeed), or a folder of transformers.
        folder: of the model, new.
        tokenizer: of a text encoder: what `text.prepare.tokenizer` takes. Without it the source's own.

    Raises:
        CheckpointError: the source cannot be read, or its weights do not fit (all keys named).
        ConfigError: a tokenizer for a model of another modality.
        DataError: the tokenizer given cannot be read or is larger than the token table.
    """
    imported = read_source(source, tokenizer)
    save_imported(folder, imported, str(source))
    return imported


def read_source(source: Path, tokenizer: Path | None = None) -> Imported:
    """An encoder with all that feeds it; see `import_into`.

    Raises:
        CheckpointError: the source cannot be read, prepares its items in a way that cannot be followed, or holds
            weights that are NaN or infinite.
        ConfigError: a tokenizer for a model of another modality.
        DataError: the tokenizer given cannot be read or is larger than the token table.
    """
    if not source.exists():
        raise CheckpointError(f"{source} is not there: give a checkpoint file or a folder of transformers")
    imported = import_huggingface(source) if source.is_dir() else import_fairseq(source)
    for part in (imported.encoder, imported.teacher, imported.head):
        refuse_not_finite(part, str(source))
    modality = registry.get(imported.modality)
    about, notes = modality.about_foreign(imported.recipe, Foreign(source, imported.preprocessor, tokenizer))
    return replace(imported, about=about | imported.about, notes=imported.notes + notes)
