"""A first look at a source."""

from __future__ import annotations

from pathlib import Path

import pytest

from d2v.data.sources.source import Item, Source
from d2v.errors import ConfigError, DataError
from d2v.modalities import registry
from d2v.modalities import survey as survey_module
from d2v.modalities.suggestion import Hardware
from d2v.modalities.survey import survey
from tests.planning.conftest import CLASSES

CPU, GPU = Hardware("a processor", False, 8 * 10**9), Hardware("a GPU", True, 80 * 10**9)


def test_class_folders_are_images_with_classes(photographs: Path) -> None:
    found = survey(str(photographs))
    assert (found.modality, found.items, found.is_whole) == ("vision", 120, True)
    assert dict(found.classes) == CLASSES
    assert found.majority == 0.75
    assert found.can_classify
    assert not found.splits
    assert set(found.facts["height"]) == {40}


def test_a_table_beside_recordings_tells_classes_and_folds(sounds: Path) -> None:
    found = survey(str(sounds))
    assert found.modality == "speech"
    assert found.ingest["columns"] == {"label": "category"}, "a likely column is taken, and written down"
    assert dict(found.classes) == {"low": 80, "high": 40}
    assert dict(found.splits) == {"train": 90, "test": 30}, "the last fold"
    assert dict(found.folds) == {"1": 30, "2": 30, "3": 30, "4": 30}


def test_a_csv_is_text_with_labels(reviews: Path) -> None:
    found = survey(str(reviews))
    assert found.modality == "text"
    assert dict(found.classes) == {"bad": 300, "good": 300}


def test_settings_and_the_modality_can_be_said(sounds: Path, reviews: Path) -> None:
    assert not survey(str(reviews), settings={"columns": {"label": ""}}).can_classify
    with pytest.raises(DataError):
        survey(str(sounds), "vision")
    with pytest.raises(ConfigError, match=r"text\.ingest\.colums: unknown key"):
        survey(str(reviews), "text", {"colums": {}})


def test_nothing_to_train_on_is_told_for_each_modality(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"\x00\x01")
    with pytest.raises(DataError, match="holds nothing that can be trained on; --modality says what it is") as error:
        survey(str(tmp_path))
    assert all(f"  {name}: " in str(error.value) for name in registry.MODALITIES)
    with pytest.raises(DataError, match="nowhere"):
        survey(str(tmp_path / "nowhere"))


def test_a_long_source_is_looked_at_in_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey_module, "LIST_S", 0.0)
    items = [Item(f"{index:04d}", b"x" * 10, "a" if index < 500 else "b") for index in range(1000)]
    listing = survey_module._Listing()
    listing.look(Source("a folder", "1", 1000, lambda start: iter(items[start:])))
    assert not listing.is_whole
    assert listing.sample
    monkeypatch.setattr(survey_module, "LIST_S", 60.0)
    again = survey_module._Listing()
    again._look_in_places(Source("a folder", "1", 1000, lambda start: iter(items[start:])), 1000)
    assert dict(again.classes) == {"a": 100, "b": 100}, "though they stand one behind the other"


def test_a_sample_is_drawn_from_all_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey_module, "SAMPLE_ITEMS", 100)
    items = [Item(f"{index:04d}", b"x", "a" if index < 500 else "b") for index in range(1000)]
    listing = survey_module._Listing()
    listing.look(Source("a folder", "1", None, lambda start: iter(items[start:])))
    assert (listing.count, len(listing.sample)) == (1000, 100)
    assert 30 < sum(item.label == "a" for item in listing.sample) < 70


@pytest.mark.parametrize("hardware", [CPU, GPU], ids=["cpu", "gpu"])
@pytest.mark.parametrize("source", ["photographs", "sounds", "reviews"])
def test_what_is_suggested_is_a_recipe(source: str, hardware: Hardware, request: pytest.FixtureRequest) -> None:
    from d2v.config import parse, read_recipe
    from d2v.config.changes import merged
    from tests.conftest import ROOT

    found = survey(str(request.getfixturevalue(source)))
    suggestion = registry.get(found.modality).suggest(found, hardware)
    base = read_recipe(ROOT / "conf", "own_data", found.modality)
    recipe = parse(registry.recipe_type(found.modality), merged(base, suggestion.changes, "x"), at=found.modality)
    assert recipe.train.remarks("x") == []
    assert recipe.train.encoder.width == (384 if hardware.is_gpu else 128)
    assert recipe.finetune.task.name == "classification"
    for key in suggestion.reasons:
        block = suggestion.changes
        for part in key.split("."):
            block = block[part]
