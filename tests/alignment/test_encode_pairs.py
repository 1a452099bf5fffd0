"""Pairs from a corpus and from tables: what is paired, encoded once and kept, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

import d2v
from d2v.alignment.measure import encode, measure
from d2v.alignment.pair_features import read_pair_features
from d2v.alignment.train import train_heads
from d2v.config import parse
from d2v.config.alignment import AlignConfig
from d2v.data.prepared import Corpus
from d2v.errors import ConfigError, DataError
from d2v.interchange.encode_pairs import encode_pairs
from d2v.modalities import registry
from d2v.modalities.vision.config import VisionIngestConfig
from d2v.modalities.vision.glyphs import GlyphOptions, glyph_captions
from tests.interchange.test_load import model_of

OPTIONS = {"count": 60, "test_count": 40, "px": 16}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, d2v.Model]:
    folder = tmp_path_factory.mktemp("encoders")
    return {name: model_of(folder, name) for name in ("vision", "text")}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "glyphs"
    registry.get("vision").ingest(VisionIngestConfig(source="glyphs", options=OPTIONS), folder)
    return folder


def recipe(**pairs: object) -> AlignConfig:
    return parse(
        AlignConfig,
        {"pairs": {"captions": {"first": "vision", "second": "text", **pairs}}, "held_out": 0.4},
        at="align",
    )


def test_captions_are_what_the_generator_drew(corpus: Path) -> None:
    captions = registry.get("vision").captions(Corpus(corpus))
    assert captions[:60] == glyph_captions(GlyphOptions(**OPTIONS), "train", 0, 60)
    assert captions[60:] == glyph_captions(GlyphOptions(**OPTIONS), "test", 0, 40)
    for label, caption in zip(Corpus(corpus).column("label"), captions, strict=True):
        assert f"{'digit' if label.isdigit() else 'letter'} {label} on a" in caption


def test_the_captions_of_one_image_do_not_depend_on_the_others() -> None:
    options = GlyphOptions(**OPTIONS)
    assert glyph_captions(options, "test", 7, 9) == glyph_captions(options, "test", 0, 20)[7:9]


def test_a_corpus_is_paired_encoded_once_and_left_as_it_was(
    corpus: Path, models: dict[str, d2v.Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = {
        name: {key: one.clone() for key, one in model.encoder.state_dict().items()} for name, model in models.items()
    }
    folder = encode_pairs(recipe(), {"vision": corpus}, models, tmp_path / "features")
    found = read_pair_features(folder)
    held = found.held_out["captions"]
    captions = registry.get("vision").captions(Corpus(corpus))
    assert found.features["vision"].shape == (100, models["vision"].num_layers * 32)
    assert sorted(found.texts["text"]) == sorted(set(captions))
    for pairs in (held.train, held.test, held.known):
        assert [found.texts["text"][row] for row in pairs.second_rows] == [captions[row] for row in pairs.first_rows]
    assert held.train.first_rows.max() < 60 <= held.test.first_rows.min()
    row = int(held.test.second_rows[0])
    alone = models["text"].head_inputs(models["text"].to_inputs([found.texts["text"][row]], long="windows"), "all")
    np.testing.assert_allclose(found.features["text"][row].numpy(), alone[0], atol=1e-5)
    for name, model in models.items():
        assert all(torch.equal(one, model.encoder.state_dict()[key]) for key, one in frozen[name].items())
    monkeypatch.setattr(d2v.Model, "head_inputs", None)  # what is there is not computed again
    encode_pairs(recipe(), {"vision": corpus}, models, tmp_path / "features")


def test_damaged_features_are_refused_and_made_again(
    corpus: Path, models: dict[str, d2v.Model], tmp_path: Path
) -> None:
    folder = encode_pairs(recipe(), {"vision": corpus}, models, tmp_path / "features")
    before = read_pair_features(folder).features["text"]
    (folder / "text.npz").write_bytes(b"nothing")
    with pytest.raises(DataError, match="not what was written"):
        read_pair_features(folder)
    encode_pairs(recipe(), {"vision": corpus}, models, folder)
    torch.testing.assert_close(read_pair_features(folder).features["text"], before)


def write_table(folder: Path, name: str, rows: list[dict[str, str]]) -> Path:
    file = folder / name
    if name.endswith(".jsonl"):
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        cut = "\t" if name.endswith(".tsv") else ","
        file.write_text("\n".join(cut.join(line) for line in [list(rows[0]), *(row.values() for row in rows)]) + "\n")
    return file


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.tsv", "pairs.jsonl"])
def test_a_table_pairs_files_beside_it_with_texts(models: dict[str, d2v.Model], tmp_path: Path, name: str) -> None:
    rows = []
    for number in range(12):
        Image.new("RGB", (16, 16), (20 * number, 10, 200)).save(tmp_path / f"{number}.png")
        rows.append({"image": f"{number}.png", "said": f"number {number}", "split": "test" if number > 5 else "train"})
    table = write_table(tmp_path, name, rows)
    folder = encode_pairs(recipe(table=str(table), columns=["image", "said"]), {}, models, tmp_path / "features")
    held = read_pair_features(folder).held_out["captions"]
    assert {*held.test.first_rows.tolist(), *held.known.first_rows.tolist()} == set(range(6, 12))
    with pytest.raises(ConfigError, match="no column words, only image, said, split"):
        encode_pairs(recipe(table=str(table), columns=["image", "words"]), {}, models, tmp_path / "other")


def test_what_is_not_there_or_says_nothing_is_named(models: dict[str, d2v.Model], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"align\.pairs\.captions\.table"):
        encode_pairs(recipe(table=str(tmp_path / "no.csv")), {}, models, tmp_path / "out")
    with pytest.raises(ConfigError, match="give a table"):
        encode_pairs(recipe(second="speech"), {"vision": tmp_path}, models, tmp_path / "out")
    digits = tmp_path / "digits"
    registry.get("vision").ingest(VisionIngestConfig(source="digits"), digits)
    with pytest.raises(ConfigError, match="says no texts of its items"):
        encode_pairs(recipe(), {"vision": digits}, models, tmp_path / "out")


def test_a_table_pairs_pictures_with_recordings(tmp_path: Path) -> None:
    models = {name: model_of(tmp_path / "encoders", name) for name in ("vision", "speech")}
    rows = []
    for number in range(12):
        Image.new("RGB", (16, 16), (20 * number, 10, 200)).save(tmp_path / f"{number}.png")
        soundfile.write(tmp_path / f"{number}.wav", np.sin(np.arange(4000) * 0.01 * (number + 1)) * 0.3, 16_000)
        rows.append({"vision": f"{number}.png", "speech": f"{number}.wav"})
    table = write_table(tmp_path, "pairs.csv", rows)
    config = recipe(table=str(table), second="speech")
    found = read_pair_features(encode_pairs(config, {}, models, tmp_path / "features"))
    held = found.held_out["captions"]
    assert len(held.train) + len(held.test) == 12
    assert not found.texts
    heads, _ = train_heads(found.features, [held.train], config.model_copy(update={"max_updates": 2}))
    vectors = encode({name: heads.head(name) for name in models}, found.features)
    directions = measure(vectors, found.features, found.held_out, found.texts, 10)
    assert [(one.name, one.baseline) for one in directions] == [("vision_to_speech", {}), ("speech_to_vision", {})]
