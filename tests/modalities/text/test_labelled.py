"""From labelled files to the items that fine-tuning takes."""

from __future__ import annotations

import json
import math
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from d2v.config import parse
from d2v.data.batch import SampleKeys
from d2v.errors import ConfigError, DataError
from d2v.modalities.base import LabelledSplit
from d2v.modalities.text.config import (
    TextFinetuneConfig,
    TextIngestConfig,
    TextPrepareConfig,
    TextRecipe,
)
from d2v.modalities.text.data import TextData
from d2v.modalities.text.labelled import check_fits, labelled
from d2v.modalities.text.modality import Text
from d2v.modalities.text.preparation import prepare
from d2v.modalities.text.tokenizer import BOS, EOS, PAD
from d2v.modalities.text.tokenizer_files import load_tokenizer
from tests.modalities.text.test_preparation import TRAIN, recipe

PREPARE = TextPrepareConfig(vocab_size=320, block_tokens=48, probe_train_items=3, probe_test_items=2)
FINETUNE = parse(
    TextFinetuneConfig,
    {"task": {"name": "classification"}, "optimizer": {"lr": 1e-3}, "batch_size": 4, "max_updates": 5},
)
COLA = ['gj04\t1\t\tHe "said so.', "gj04\t0\t*\tSo he.", "bc01\t1\t\tGo.", "bc01\t0\t*\tHim it is", "bc01\t1\t\tStay."]
PAIRS = (
    "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t7\t8\tIt rains .\tRain falls .\n0\t7\t9\tIt rains .\tNo .\n"
)
SCORED = (
    "index\tsentence1\tsentence2\tscore\n0\tA cat .\tOne cat .\t4.750\n1\tA dog .\tThe sea .\t0\n2\tOne .\tTwo .\t2.5\n"
)


def prepared(folder: Path, files: Mapping[str, str], config: TextPrepareConfig = PREPARE, **source: Any) -> TextData:
    """The files of a task after ingest and prepare."""
    (folder / "source").mkdir(parents=True)
    for name, text in files.items():
        (folder / "source" / name).write_text(text, encoding="utf-8")
    Text().ingest(TextIngestConfig(source=str(folder / "source"), **source), folder / "corpus")
    prepare(config, folder / "corpus", folder / "prepared")
    return TextData(folder / "prepared")


def parts_of(data: TextData, **encoder: int) -> Mapping[str, LabelledSplit]:
    return labelled(data, FINETUNE, recipe(**encoder))


def shown(data: TextData, part: LabelledSplit) -> list[str]:
    """All items as people read them."""
    inputs = part.inputs(np.arange(len(part.labels)))
    assert inputs.lengths is not None
    return [data.tokenizer.decode(row[:length]) for row, length in zip(inputs.values, inputs.lengths, strict=True)]


@pytest.fixture(scope="module")
def cola(tmp_path_factory: pytest.TempPathFactory) -> TextData:
    files = {"train.tsv": "\n".join(COLA), "dev.tsv": COLA[4] + "\nx\t0\t*\tAm he."}
    return prepared(tmp_path_factory.mktemp("cola"), files | {"test.tsv": "index\tsentence\n0\tUnknown.\n"})


def test_every_labelled_sentence_is_there_as_it_stands(cola: TextData) -> None:
    parts = parts_of(cola)
    assert shown(cola, parts["train"]) == ['He "said so.', "So he.", "Go.", "Him it is"]
    assert cola.class_names == ("unacceptable", "acceptable")
    assert parts["train"].labels.tolist() == [1, 0, 1, 0]  # what is in test too is a duplicate
    assert parts["test"].labels.tolist() == [1, 0]
    assert np.isnan(parts["train"].scores).all()
    assert set(parts["train"].texts) == {None}
    assert cola.about["probe_train_items"] == 3  # the probe has fewer


def test_items_stand_side_by_side(cola: TextData) -> None:
    part = parts_of(cola)["train"]
    inputs = part.inputs(np.array([0, 2, 0]))
    assert inputs.lengths.tolist() == [int(inputs.values.shape[1]), int(inputs.lengths[1]), inputs.values.shape[1]]
    assert (inputs.values[:, 0] == BOS).all()
    assert inputs.values[1, inputs.lengths[1] - 1] == EOS
    assert (inputs.values[1, inputs.lengths[1] :] == PAD).all()
    again = part.augmented(SampleKeys(9, np.array([0, 2, 0]), np.array([0, 0, 1])))
    assert (again.values == inputs.values).all()
    copy = pickle.loads(pickle.dumps(part))  # as worker processes get it
    assert (copy.inputs(np.array([0, 2, 0])).values == inputs.values).all()


def test_short_sentences_need_no_blocks(tmp_path: Path) -> None:
    texts = ["Go.", "No.", "Me.", "It."]
    lines = "".join(json.dumps({"text": text, "label": "ab"[n % 2]}) + "\n" for n, text in enumerate(texts))
    config = PREPARE.model_copy(update={"packing": "documents"})
    data = prepared(tmp_path, {"train.jsonl": lines, "test.jsonl": lines.replace(".", "!")}, config)
    assert (data.num_train, data.about["labelled"]) == (0, {"train": 4, "test": 4})
    assert shown(data, parts_of(data)["test"]) == ["Go!", "No!", "Me!", "It!"]


def test_pairs_are_read_as_roberta_reads_them(tmp_path: Path) -> None:
    data = prepared(tmp_path, {"train.tsv": PAIRS, "dev.tsv": PAIRS.replace("rains", "snows")})
    part = parts_of(data)["train"]
    assert shown(data, part) == ["It rains .\nRain falls .", "It rains .\nNo ."]
    row = part.inputs(np.array([1])).values[0].tolist()
    assert [place for place, number in enumerate(row) if number == EOS][1:] == [row.index(EOS) + 1, len(row) - 1]
    assert data.class_names == ("not_equivalent", "equivalent")
    assert part.labels.tolist() == [1, 0]


def test_scores_are_numbers(tmp_path: Path) -> None:
    data = prepared(tmp_path, {"train.tsv": SCORED, "dev.tsv": SCORED.replace(" .", " !")})
    part = parts_of(data)["train"]
    assert part.scores.dtype == np.float64
    assert part.scores.tolist() == [4.75, 0.0, 2.5]
    assert part.labels.tolist() == [5, 0, 3]


def test_mismatched_genres_are_a_part_of_their_own(tmp_path: Path) -> None:
    text = "index\tsentence1\tsentence2\tgold_label\n0\tA {0}\tB\tneutral\n1\tC {0}\tD\tentailment\n"
    names = {"train": "one", "dev_matched": "two", "dev_mismatched": "three", "test_matched": "four"}
    data = prepared(tmp_path, {f"{name}.tsv": text.format(word) for name, word in names.items()})
    parts = parts_of(data)
    assert list(parts) == ["train", "test", "mismatched"]
    assert [shown(data, part)[0] for part in parts.values()] == ["A one\nB", "A two\nB", "A three\nB"]


def test_long_items_are_cut_to_their_own_length(tmp_path: Path) -> None:
    long = "sentence\tlabel\n" + "and so on " * 40 + "\t1\nShort .\t0\n"
    files = {"train.tsv": long, "dev.tsv": long.replace("so", "go").replace("Short", "Brief")}
    data = prepared(tmp_path, files, PREPARE.model_copy(update={"labelled_max_tokens": 24}))
    lengths = parts_of(data)["train"].inputs(np.array([0, 1])).lengths
    assert lengths[0] == 24 == data.about["labelled_tokens"]
    assert lengths[1] < 24
    with pytest.raises(
        ConfigError, match=r"up to 24 tokens .* 20 positions: set text\.prepare\.labelled_max_tokens=20"
    ):
        parts_of(data, max_tokens=20)
    prepare(PREPARE, tmp_path / "corpus", tmp_path / "prepared")
    assert TextData(tmp_path / "prepared").about["labelled_tokens"] == 48


def test_without_labels_the_acceptability_items_are_what_is_learned(tmp_path: Path) -> None:
    texts = [f"The {animal} went over the green hill and came back with a red hat." for animal in ("cat", "dog", "owl")]
    files = {"train.txt": " ".join(texts), "test.txt": " ".join(texts).replace("hill", "field")}
    data = prepared(tmp_path, files)
    assert data.about["probe"] == "acceptability"
    parts = parts_of(data)
    assert sorted(parts["train"].labels.tolist()) == [0, 0, 1]
    good = [text for text, label in zip(shown(data, parts["train"]), parts["train"].labels, strict=True) if label]
    assert set(good) < set(texts)


def test_text_without_anything_to_learn_is_refused(tmp_path: Path, cola: TextData) -> None:
    with pytest.raises(DataError, match="no labelled items: give a corpus with labels"):
        parts_of(prepared(tmp_path / "a", {"train.txt": "nothing here " * 20, "test.txt": "nor here " * 9}))
    shutil.copytree(cola.folder, tmp_path / "b")
    shutil.rmtree(tmp_path / "b" / "labelled_test")
    with pytest.raises(DataError, match="lacks shards of labelled items"):
        parts_of(TextData(tmp_path / "b"))


# ------------------------------------------------------------------------------- the encoder's tokenizer


def write_model(folder: Path, data: TextData) -> dict[str, Any]:
    """A model folder as far as the tokenizer goes."""
    about = {"modality": "text", **Text().describe(data)}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(about))
    return about


def test_a_model_folder_gives_its_tokenizer(cola: TextData, tmp_path: Path) -> None:
    about = write_model(tmp_path / "model", cola)
    assert load_tokenizer(tmp_path / "model").to_json() == cola.tokenizer.to_json()
    config = PREPARE.model_copy(update={"tokenizer": str(tmp_path / "model")})
    data = prepared(tmp_path, {"train.tsv": PAIRS, "dev.tsv": PAIRS.replace("rains", "snows")}, config)
    check_fits(data, about)
    check_fits(data, {})
    (tmp_path / "model" / "config.json").write_text("[]")
    with pytest.raises(DataError, match=r"config\.json is no JSON object"):
        load_tokenizer(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text("{}")
    with pytest.raises(DataError, match="the folder of a text model"):
        load_tokenizer(tmp_path / "model")


def test_another_tokenizer_than_the_encoders_is_refused(cola: TextData, tmp_path: Path) -> None:
    data = prepared(tmp_path, {"train.tsv": PAIRS, "dev.tsv": PAIRS.replace("rains", "snows")})
    about = write_model(tmp_path / "model", cola)
    with pytest.raises(
        ConfigError, match=r"another tokenizer .* set text\.prepare\.tokenizer to the folder of the enc"
    ):
        check_fits(data, about)
    with pytest.raises(ConfigError, match="types and the encoder's table 100 rows"):
        parts_of(data, vocab_size=100)


# ---------------------------------------------------------------------------------------------- recipe


def test_a_recipe_asks_for_what_text_has() -> None:
    values = FINETUNE.model_dump() | {"task": {"name": "transcription"}}
    with pytest.raises(ConfigError, match=r"set task\.name to classification or regression"):
        parse(TextFinetuneConfig, values)
    blocks = {"ingest": {"source": "x"}, "train": TRAIN}
    whole = {**blocks, "prepare": {"vocab_size": 600, "block_tokens": 32, "probe_max_tokens": 32}}
    assert parse(TextRecipe, whole).finetune is None
    whole["prepare"]["labelled_max_tokens"] = 64
    with pytest.raises(ConfigError, match=r"labelled_max_tokens 64 is more than train\.encoder\.max_tokens 48"):
        parse(TextRecipe, whole)


# ------------------------------------------------------------------------------------------- real data


@pytest.mark.data
@pytest.mark.parametrize(
    ("task", "train", "test", "share"),
    [("CoLA", 8497, 1039, 721 / 1043), ("MRPC", 3668, 408, 279 / 408), ("RTE", 2488, 277, 131 / 277)],
)
def test_real_tasks(shared_data: Path, tmp_path: Path, task: str, train: int, test: int, share: float) -> None:
    """Counts as after ingest, and the published share of class 1 in dev."""
    Text().ingest(TextIngestConfig(source=str(shared_data / f"text/glue/{task}.zip")), tmp_path / "corpus")
    prepare(PREPARE, tmp_path / "corpus", tmp_path / "prepared")
    data = TextData(tmp_path / "prepared")
    parts = parts_of(data)
    assert data.about["labelled"] == {"train": train, "test": test}
    assert parts["test"].labels.mean() == pytest.approx(share, abs=0.005)


@pytest.mark.data
def test_real_scores(shared_data: Path, tmp_path: Path) -> None:
    Text().ingest(TextIngestConfig(source=str(shared_data / "text/glue/STS-B.zip")), tmp_path / "corpus")
    prepare(PREPARE, tmp_path / "corpus", tmp_path / "prepared")
    scores = parts_of(TextData(tmp_path / "prepared"))["test"].scores
    assert len(scores) == 1498
    assert scores.mean() == pytest.approx(2.364, abs=0.01)
    assert (scores.min(), scores.max(), math.isfinite(scores.sum())) == (0.0, 5.0, True)
