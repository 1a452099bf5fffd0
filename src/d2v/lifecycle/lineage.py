"""Registration of models with their lineage: the items they were trained on, and a sample of embeddings."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from d2v.config import FinetuneConfig, parse
from d2v.data.disk import read_json
from d2v.data.prepared import Corpus
from d2v.errors import DataError
from d2v.evaluation.flags import blocking, encoder_flags, read_flags, sentence, tags_of
from d2v.evaluation.metrics_file import METRICS
from d2v.evaluation.search_space import SearchSpace
from d2v.lifecycle.corpus_items import Items, items_of, read_items
from d2v.lifecycle.embeddings import REFERENCE_ITEMS, embed_some, save_reference
from d2v.modalities.base import Modality
from d2v.model_folder import load_encoder, read_config
from d2v.progress import log
from d2v.reporting.model_card import write_finetuned_card
from d2v.tracking import registry, versions
from d2v.tracking.models import REGISTERED
from d2v.tracking.versions import LINEAGE
from d2v.training import resume

CARD = "model_card.md"


def register_encoder_of(modality: Modality, corpus: Path, prepared: Path, run_folder: Path, report: Path) -> str:
    """Register a run's encoder as challenger, with its card, its items and a sample of their embeddings.

    Args:
        modality: what the data is.
        corpus: folder that ingest left.
        prepared: folder that prepare left.
        run_folder: folder that train left.
        report: folder that evaluate left.

    Returns:
        The version.
    """
    data, card = modality.open(prepared), (report / CARD).read_text()
    with tempfile.TemporaryDirectory() as scratch:
        notes = registry.Notes(card)
        if was_made_of(corpus, data, run_folder):
            encoder, about = load_encoder(run_folder / "encoder")
            recipe = parse(modality.train_config, about["recipe"], at="recipe")
            if items := lineage_of(corpus, [recipe.start], Path(scratch)):
                notes = _notes(Path(scratch), items, corpus, data, card)
                space = SearchSpace.read(run_folder / "encoder")
                sample = embed_some(encoder, data, recipe, REFERENCE_ITEMS, seed=0, space=space)
                save_reference(sample, Path(scratch) / LINEAGE)
        notes = replace(notes, tags={**notes.tags, **tags_of(encoder_flags(_metrics(report)))})
        version = registry.register_encoder(modality.name, run_folder / "encoder", _metrics(report), notes=notes)
    log(f"register: {registry.encoder_name(modality.name)} version {version} is the challenger")
    return version


def register_finetuned_of(
    modality: Modality,
    config: FinetuneConfig,
    corpus: Path,
    prepared: Path,
    finetuned: Path,
    report: Path,
    start: str | None = None,
) -> str | None:
    """Register a fine-tuned model as challenger, with its card and its items.

    Args:
        modality: what the data is.
        config: the finetune block.
        corpus: folder that ingest left.
        prepared: folder that prepare left.
        finetuned: folder that fine-tuning left.
        report: folder that its evaluation left.
        start: the registered encoder that it was fine-tuned from, if `finetune.start` does not name it.

    Returns:
        The version; None where its report flags the model as useless and the recipe does not ask for it all the same.
    """
    data, metrics, flags = modality.open(prepared), _metrics(report), read_flags(report)
    if (words := blocking(flags)) and not config.register_flagged:
        log(
            f"register: the model is NOT registered: {words}. See {report / 'report.html'}; to register it all the "
            f"same set {modality.name}.finetune.register_flagged=true"
        )
        return None
    opened = Corpus(corpus)
    source = {"source": opened.source, "fingerprint": data.fingerprint, "licence": opened.licence}
    result = resume.finished_result(finetuned) or {}
    said = [sentence(flag) for flag in flags]
    card = write_finetuned_card(report / CARD, modality.name, config, source, metrics, result, said).read_text()
    with tempfile.TemporaryDirectory() as scratch:
        notes = registry.Notes(card)
        if was_made_of(corpus, data, finetuned):
            starts = [read_config(finetuned / "model")["recipe"].get("start"), config.start, start]
            if items := lineage_of(corpus, starts, Path(scratch)):
                notes = _notes(Path(scratch), items, corpus, data, card)
        notes = replace(notes, tags={**notes.tags, **tags_of(flags)})
        version = registry.register_finetuned(modality.name, finetuned / "model", metrics, notes=notes)
    log(f"register: {registry.finetuned_name(modality.name)} version {version} is the challenger")
    return version


def lineage_of(corpus: Path, starts: Iterable[str | None], scratch: Path) -> Items | None:
    """The items of a corpus, with all that the weights a model goes on from were trained on.

    Args:
        corpus: folder that ingest left.
        starts: as recipes name them.
        scratch: folder for registered versions' files.

    Returns:
        None where that is not known, as of a folder from elsewhere.
    """
    items = items_of(corpus)
    for start in starts:
        if start in (None, "scratch", "pretrained"):  # the last one's own start is among the others
            continue
        version = versions.by_uri(start) if start.startswith(REGISTERED) else None
        ancestor = read_items(versions.fetch(version, scratch / "starts").lineage) if version else None
        if ancestor is None:
            return None
        items = items.after(ancestor)
    return items


def was_made_of(corpus: Path, data: Any, run_folder: Path) -> bool:
    """Whether a run was trained on these prepared data, and these on this corpus: it may be measured on others, or the
    corpus may have grown since, and its lineage is then not known."""
    result = resume.finished_result(run_folder) or {}
    trained_on = result.get("data_fingerprint", "").partition("+")[0]
    return trained_on == data.fingerprint and data.corpus_fingerprint == Corpus(corpus).fingerprint


def _notes(scratch: Path, items: Items, corpus: Path, data: Any, card: str) -> registry.Notes:
    """Card, fingerprints, and the lineage folder with what all models have."""
    folder = scratch / LINEAGE
    folder.mkdir()
    items.save(folder)
    (folder / CARD).write_text(card)
    tags = {"data_fingerprint": data.fingerprint, "corpus_fingerprint": Corpus(corpus).fingerprint}
    return registry.Notes(card, tags, folder)


def _metrics(report: Path) -> Mapping[str, float]:
    metrics = read_json(report / METRICS, DataError, "run the evaluate step again")
    return {name: value for name, value in metrics.items() if isinstance(value, int | float)}
