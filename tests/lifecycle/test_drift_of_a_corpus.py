"""Drift from a corpus folder to a finding: brighter pictures are others, more of the same are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from d2v.config import parse
from d2v.evaluation.search_space import learn
from d2v.lifecycle.corpus_items import items_of, new_content
from d2v.lifecycle.drift import Drift, of_new_items
from d2v.lifecycle.embeddings import embed_some, save_reference
from d2v.modalities import registry
from d2v.modalities.vision.config import VisionRecipe
from d2v.model_folder import load_encoder, save_encoder
from d2v.objectives.build import build_objective
from d2v.tracking.versions import Fetched
from tests.lifecycle.retrainings import RECIPE, add_pictures

VISION = registry.get("vision")


@pytest.mark.parametrize("has_space", [True, False])
@pytest.mark.parametrize(("brighter", "drifted"), [(0, False), (60, True)])
def test_brighter_pictures_have_drifted(tmp_path: Path, brighter: int, drifted: bool, has_space: bool) -> None:
    source, corpus = tmp_path / "source", tmp_path / "corpus"
    recipe = parse(VisionRecipe, RECIPE | {"ingest": {"source": str(source)}})
    add_pictures(source, "train", 60, 0)
    VISION.ingest(recipe.ingest, corpus)
    VISION.prepare(recipe.prepare, corpus, tmp_path / "prepared")
    data, old = VISION.open(tmp_path / "prepared"), items_of(corpus)
    save_encoder(
        tmp_path / "encoder", build_objective(VISION, recipe.train), "vision", recipe.train, VISION.describe(data)
    )
    encoder, _ = load_encoder(tmp_path / "encoder")
    space = learn(encoder, data.probe_set(recipe.train).train_inputs, VISION.grid(recipe.train)) if has_space else None
    if space is not None:
        space.save(tmp_path / "encoder")
    save_reference(embed_some(encoder, data, recipe.train, 60, 0, space), tmp_path)

    add_pictures(source, "train", 60, 60)
    for number in range(60, 120):
        (path,) = (source / "train").glob(f"*/{number:05d}.png")
        pixels = np.asarray(Image.open(path)).astype(int) + brighter
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    VISION.ingest(recipe.ingest, corpus)
    chosen = new_content(items_of(corpus), [old])
    assert chosen.sum() == 60
    champion = Fetched(tmp_path / "encoder", tmp_path)
    found = of_new_items(champion, VISION, recipe.prepare, corpus, chosen, recipe.retrain.drift)
    assert isinstance(found, Drift)
    assert found.drifted is drifted
    assert found.old_ND.shape[1] == (encoder.width if space is None else space.width)

    few = chosen & (np.cumsum(chosen) <= 5)
    assert "fewer than" in str(of_new_items(champion, VISION, recipe.prepare, corpus, few, recipe.retrain.drift))
    assert "without a sample" in str(
        of_new_items(Fetched(tmp_path / "encoder", None), VISION, recipe.prepare, corpus, chosen, recipe.retrain.drift)
    )
