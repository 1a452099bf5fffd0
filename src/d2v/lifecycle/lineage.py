"""Registration with everything that later nights need: what a model was made of, and where its data lay."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from d2v.config import FinetuneConfig, parse
from d2v.data.prepared import Corpus
from d2v.evaluation.measured import METRICS
from d2v.interchange.folder import load_encoder
from d2v.lifecycle.embeddings import REFERENCE_ITEMS, embed_some, save_reference
from d2v.lifecycle.items import items_of
from d2v.modalities.base import Modality
from d2v.progress import say
from d2v.reporting.model_card import write_tuned_card
from d2v.tracking import registry
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
            notes = _notes(Path(scratch), corpus, data, card)
            save_reference(embed_some(encoder, data, recipe, REFERENCE_ITEMS, seed=0), Path(scratch) / LINEAGE)
        version = registry.register_encoder(modality.name, run_folder / "encoder", _figures(report), notes=notes)
    say(f"register: {registry.encoder_name(modality.name)} version {version} is the challenger")
    return version


def register_tuned_of(
    modality: Modality, config: FinetuneConfig, corpus: Path, prepared: Path, tuned: Path, report: Path
) -> str:
    """Register a fine-tuned model as challenger, with its card and its items.

    Args:
        modality: what the data is.
        config: the finetune block.
        corpus: folder that ingest left.
        prepared: folder that prepare left.
        tuned: folder that fine-tuning left.
        report: folder that its evaluation left.

    Returns:
        The version.
    """
    data, figures = modality.open(prepared), _figures(report)
    source = {"source": Corpus(corpus).source, "fingerprint": data.fingerprint, "licence": ""}
    result = resume.finished_result(tuned) or {}
    card = write_tuned_card(report / CARD, modality.name, config, source, figures, result).read_text()
    with tempfile.TemporaryDirectory() as scratch:
        notes = _notes(Path(scratch), corpus, data, card) if was_made_of(corpus, data, tuned) else registry.Notes(card)
        version = registry.register_tuned(modality.name, tuned / "model", figures, notes=notes)
    say(f"register: {registry.tuned_name(modality.name)} version {version} is the challenger")
    return version


def was_made_of(corpus: Path, data: Any, run_folder: Path) -> bool:
    """Whether a run was trained on these prepared data, and these on this corpus: it may be measured on others, or the
    corpus may have grown since, and its lineage is then not known."""
    result = resume.finished_result(run_folder) or {}
    trained_on = result.get("data_fingerprint", "").partition("+")[0]
    return trained_on == data.fingerprint and data.corpus_fingerprint == Corpus(corpus).fingerprint


def _notes(scratch: Path, corpus: Path, data: Any, card: str) -> registry.Notes:
    """Card, fingerprints, and the lineage folder with what all models have."""
    folder = scratch / LINEAGE
    folder.mkdir()
    items_of(corpus).save(folder)
    (folder / CARD).write_text(card)
    tags = {"data_fingerprint": data.fingerprint, "corpus_fingerprint": Corpus(corpus).fingerprint}
    return registry.Notes(card, tags, folder)


def _figures(report: Path) -> Mapping[str, float]:
    metrics = json.loads((report / METRICS).read_text())
    return {name: value for name, value in metrics.items() if isinstance(value, int | float)}
