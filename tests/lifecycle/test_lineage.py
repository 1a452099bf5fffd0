"""What models were made of, seen from later: new items, leaks, and the champion's own way to see data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from d2v.config import parse
from d2v.data.disk import write_json
from d2v.errors import CheckpointError
from d2v.lifecycle.corpus_items import Items, items_of, leaked, new_content, new_rows, read_items
from d2v.lifecycle.lineage import lineage_of, was_made_of
from d2v.lifecycle.symlink_views import as_known_by, some_items
from d2v.modalities import registry
from d2v.modalities.vision.config import VisionRecipe
from tests.lifecycle.retrainings import CLASSES, RECIPE, add_pictures

VISION = registry.get("vision")


def ingested(source: Path, out: Path) -> Path:
    recipe = parse(VisionRecipe, RECIPE | {"ingest": {"source": str(source)}})
    VISION.ingest(recipe.ingest, out)
    return out


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for part, count in (("train", 12), ("test", 8)):
        add_pictures(tmp_path / "source", part, count, 0)
    return ingested(tmp_path / "source", tmp_path / "corpus")


def test_a_grown_corpus_has_new_items_and_nothing_else(corpus: Path, tmp_path: Path) -> None:
    before = items_of(corpus)
    add_pictures(tmp_path / "source", "train", 4, 12)
    add_pictures(tmp_path / "source", "test", 4, 8)
    now = items_of(ingested(tmp_path / "source", corpus))
    assert (new_content(now, [before]).sum(), new_rows(now, [before]).sum()) == (4, 4)
    assert not new_content(now, [before, now]).any()
    assert new_content(now, []).sum() == now.is_train.sum() == 16


def test_a_new_label_is_new_to_labels_alone(corpus: Path, tmp_path: Path) -> None:
    before = items_of(corpus)
    train = tmp_path / "source" / "train"
    moved = next((train / CLASSES[0]).iterdir())
    moved.rename(train / CLASSES[1] / moved.name)
    now = items_of(ingested(tmp_path / "source", corpus))
    assert (new_content(now, [before]).sum(), new_rows(now, [before]).sum()) == (0, 1)


def test_a_held_out_item_that_was_trained_on_is_a_leak(corpus: Path, tmp_path: Path) -> None:
    trained_on = items_of(corpus)
    assert leaked(trained_on, trained_on) == 0
    source = tmp_path / "source"
    moved = next((source / "train" / CLASSES[0]).iterdir())
    moved.rename(source / "test" / CLASSES[0] / f"from-{moved.name}")
    assert leaked(items_of(ingested(source, corpus)), trained_on) == 1


def test_a_run_is_of_the_corpus_that_was_prepared_for_it(corpus: Path, tmp_path: Path) -> None:
    prepared, run = tmp_path / "prepared", tmp_path / "run"
    VISION.prepare(parse(VisionRecipe, RECIPE).prepare, corpus, prepared)
    data = VISION.open(prepared)
    run.mkdir()
    write_json(run / "result.json", {"recipe": {}, "data_fingerprint": data.fingerprint})
    assert was_made_of(corpus, data, run)
    add_pictures(tmp_path / "source", "train", 4, 12)
    assert not was_made_of(ingested(tmp_path / "source", corpus), data, run), "its items are no longer known"


def test_what_its_ancestors_were_trained_on_counts_as_a_leak(corpus: Path, tmp_path: Path) -> None:
    ancestor = items_of(corpus)
    source = tmp_path / "source"
    moved = next((source / "train" / CLASSES[0]).iterdir())
    moved.rename(source / "test" / CLASSES[0] / f"from-{moved.name}")
    now = items_of(ingested(source, corpus))
    assert leaked(now, now) == 0, "its own training does not have the item any more"
    assert leaked(now, now.after(ancestor)) == 1, "the weights that it goes on from do"


def test_a_start_that_nobody_knows_leaves_no_lineage(corpus: Path, tmp_path: Path) -> None:
    assert lineage_of(corpus, [None, "pretrained", "scratch"], tmp_path) is not None
    assert lineage_of(corpus, ["some/folder"], tmp_path) is None


def test_items_come_back_from_their_file(corpus: Path, tmp_path: Path) -> None:
    items = items_of(corpus)
    items.save(tmp_path)
    back = read_items(tmp_path)
    assert isinstance(back, Items)
    assert all(np.array_equal(value, vars(back)[name]) for name, value in vars(items).items())
    assert read_items(None) is None
    (tmp_path / "items.npz").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="d2v rollback"):
        read_items(tmp_path)


def test_a_part_of_a_corpus_is_prepared_as_the_champion_knows_it(corpus: Path, tmp_path: Path) -> None:
    items, config = items_of(corpus), parse(VisionRecipe, RECIPE).prepare
    chosen = items.is_train & (np.cumsum(items.is_train) <= 5)
    part = some_items(corpus, chosen, tmp_path / "part")
    VISION.prepare(config, part, tmp_path / "prepared")
    about = {"mean": [0.1, 0.2, 0.3], "std": [0.9, 0.9, 0.9], "class_names": ["another"]}
    known = VISION.open(as_known_by(about, VISION, tmp_path / "prepared", tmp_path / "known"))
    own = VISION.open(tmp_path / "prepared")
    assert known.num_train == 5
    assert known.mean.flatten().tolist() == pytest.approx(about["mean"])
    assert known.class_names == own.class_names == CLASSES
    recipe = parse(VisionRecipe, RECIPE).train
    ours, theirs = (data.probe_set(recipe).train_inputs.values for data in (own, known))
    assert ((ours * own.std + own.mean) - (theirs * known.std + known.mean)).abs().max() < 1e-5
