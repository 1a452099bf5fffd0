"""From a checkpoint or a folder of others to a model folder of ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from d2v.errors import CheckpointError, ConfigError, DataError
from d2v.interchange.fairseq import import_fairseq
from d2v.interchange.huggingface import IMAGENET, import_huggingface
from d2v.interchange.imported import Imported, save_imported
from d2v.modalities.speech.config import RATE_HZ
from d2v.modalities.text.tokenizer_files import FAIRSEQ_FILES, GPT2_FILES, TOKENIZER, load_tokenizer


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
        CheckpointError: the source cannot be read.
        ConfigError: a tokenizer for a model of another modality.
        DataError: the tokenizer given cannot be read or is larger than the token table.
    """
    if not source.exists():
        raise CheckpointError(f"{source} is not there: give a checkpoint file or a folder of transformers")
    imported = import_huggingface(source) if source.is_dir() else import_fairseq(source)
    if tokenizer is not None and imported.modality != "text":
        raise ConfigError(f"{source} is a {imported.modality} encoder and takes no tokenizer: leave --tokenizer out")
    about, notes = _about(imported, source, tokenizer)
    return replace(imported, about=about | imported.about, notes=imported.notes + notes)


def _about(imported: Imported, source: Path, tokenizer: Path | None) -> tuple[dict[str, Any], tuple[str, ...]]:
    """(what feeds the encoder as far as the source does not say it, notes)."""
    if imported.modality == "vision":
        return dict(IMAGENET), ()
    if imported.modality == "speech":
        return {"rate_hz": RATE_HZ}, ()
    rows = imported.recipe.encoder.vocab_size  # type: ignore[attr-defined]
    if tokenizer is not None:
        return _tokenizer(tokenizer, rows), ()
    files = {file.name for file in source.iterdir()} if source.is_dir() else set()
    if not any(set(names) <= files for names in ((TOKENIZER,), GPT2_FILES, FAIRSEQ_FILES)):
        return {}, ("the source holds no tokenizer: give --tokenizer to feed the encoder with text",)
    try:
        return _tokenizer(source, rows), ()
    except DataError as error:
        return {}, (f"the source's tokenizer is left out: {error}",)


def _tokenizer(path: Path, rows: int) -> dict[str, Any]:
    tokenizer = load_tokenizer(path)
    if tokenizer.vocab_size > rows:
        raise DataError(
            f"The tokenizer {path} has {tokenizer.vocab_size} ids, and the encoder's table {rows} rows: give the "
            "tokenizer that the encoder was trained with"
        )
    return {"tokenizer": tokenizer.to_json(), "vocab_size": tokenizer.vocab_size}
