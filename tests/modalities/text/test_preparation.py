"""From documents to blocks of tokens, and the probe beside them."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from d2v.config import parse
from d2v.data.batch import Inputs, SampleKeys
from d2v.data.ingest import ingest
from d2v.data.sources.source import Item, Source
from d2v.errors import ConfigError, DataError
from d2v.modalities.text import preparation
from d2v.modalities.text.config import TextIngestConfig, TextPrepareConfig, TextTrainConfig
from d2v.modalities.text.data import TextData, _fitted, baseline_features, image_grid, to_images, to_texts
from d2v.modalities.text.modality import Text
from d2v.modalities.text.preparation import prepare
from d2v.modalities.text.pydocs import pydocs_source
from d2v.modalities.text.reading import FACTS, PAIR, TEXTS, read_document
from d2v.modalities.text.tokenizer import BOS, EOS, PAD, TextTokenizer

PREPARE = TextPrepareConfig(
    vocab_size=600, block_tokens=32, probe_train_items=40, probe_test_items=20, probe_max_tokens=48
)
TRAIN = {
    "encoder": {"vocab_size": 600, "max_tokens": 48, "width": 32, "depth": 2, "heads": 2},
    "mask": {"kind": "random"},
    "objective": {
        "name": "data2vec2",
        "targets": {"top_k_layers": 2},
        "ema": {"decay_start": 0.9, "decay_end": 0.99},
    },
    "optimizer": {"lr": 1e-3},
    "batch_size": 4,
    "max_updates": 5,
}


def recipe(**encoder: int) -> TextTrainConfig:
    return parse(TextTrainConfig, TRAIN | {"encoder": TRAIN["encoder"] | encoder})


def keys(rows: Sequence[int]) -> SampleKeys:
    return SampleKeys(7, np.asarray(rows), np.ones(len(rows), dtype=np.int64))


def make_corpus(folder: Path, items: list[Item]) -> Path:
    source = Source("documents", str(len(items)), len(items), lambda start: iter(items[start:]))
    read = partial(read_document, config=TextIngestConfig(source="x"))
    ingest(source, read, FACTS, folder, {}, 50_000, 0.1, TEXTS)
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty modules' docstrings, every fourth for testing."""
    found = [item for item in pydocs_source().items(0) if item.key.startswith("modules/") and len(item.data) > 1000][
        :40
    ]
    items = [Item(item.key, item.data, split="train" if n % 4 else "test") for n, item in enumerate(found)]
    return make_corpus(tmp_path_factory.mktemp("text") / "corpus", items)


@pytest.fixture(scope="module")
def prepared(corpus: Path) -> Path:
    prepare(PREPARE, corpus, corpus.parent / "prepared")
    return corpus.parent / "prepared"


def labelled(folder: Path) -> Path:
    """Sentences of three classes, some of them pairs, and rows that nothing may use."""
    items = []
    for n in range(60):
        split = "unlabelled" if n % 5 == 0 else "test" if n % 5 == 1 else "train"
        second = PAIR + b"and a second one, number %d" % n if n % 2 else b""
        label = None if split == "unlabelled" else "abc"[n % 3]
        items.append(Item(str(n), b"This is the sentence of number %d" % n + second, label, split))
    return make_corpus(folder, items)


# ---------------------------------------------------------------------------------------------- blocks


def test_blocks_hold_the_documents_in_their_order(prepared: Path, corpus: Path) -> None:
    data = TextData(prepared)
    about = data.about
    assert (about["vocab_size"], about["probe"], about["token_type"]) == (600, "acceptability", "<u2")
    assert (about["train_documents"], about["test_documents"]) == (30, 10)
    assert about["train_items"] == data.num_train > 50
    batch = data.batch(keys(range(data.num_train)), recipe())
    assert batch.inputs.shape == (data.num_train, 32)
    assert (batch.inputs[:, 0] == BOS).all()
    assert batch.inputs[:-1].min() != PAD
    assert about["train_tokens"] == int((batch.inputs != PAD).sum())

    stream = batch.inputs[:, 1:].flatten()
    texts = data.tokenizer.decode(stream.tolist()).rstrip("\n")
    stored = preparation.Corpus(corpus)
    assert texts == "\n".join(one.decode() for one in stored.data(stored.items_by_split("documents")["train"]))
    assert int((stream == EOS).sum()) == 30


def test_lines_of_documents_fill_blocks(corpus: Path, tmp_path: Path) -> None:
    prepare(PREPARE.model_copy(update={"packing": "documents"}), corpus, tmp_path / "prepared")
    data = TextData(tmp_path / "prepared")
    batch = data.batch(keys(range(data.num_train)), recipe())
    assert batch.lengths is not None
    assert batch.lengths.min() >= 8
    inside = batch.inputs[torch.arange(len(batch.inputs)), batch.lengths - 1]
    assert (inside == EOS).float().mean() > 0.7  # all but pieces of lines longer than a block
    assert all((row[length:] == PAD).all() for row, length in zip(batch.inputs, batch.lengths, strict=True))


def test_batches_are_rows_of_the_store_in_any_process(prepared: Path) -> None:
    data = TextData(prepared)
    batch = data.batch(keys([5, 0, 5]), recipe())
    assert (batch.inputs.dtype, batch.update, batch.lengths) == (torch.int64, 7, None)
    assert torch.equal(batch.inputs[0], batch.inputs[2])
    assert batch.sample_ids.tolist() == [5, 0, 5]
    last = data.batch(keys([0, data.num_train - 1]), recipe())
    assert last.lengths is None or last.lengths.tolist()[0] == 32 > last.lengths.tolist()[1]
    copy = pickle.loads(pickle.dumps(data))
    assert torch.equal(copy.batch(keys([5, 0, 5]), recipe()).inputs, batch.inputs)
    assert data.train_lengths(recipe()) is None


def test_an_encoder_too_small_is_refused(prepared: Path) -> None:
    data = TextData(prepared)
    with pytest.raises(ConfigError, match=r"train\.encoder\.vocab_size=600"):
        data.batch(keys([0]), recipe(vocab_size=599))
    for ask in (lambda: data.batch(keys([0]), recipe(max_tokens=31)), lambda: data.probe_set(recipe(max_tokens=40))):
        with pytest.raises(ConfigError, match=r"train\.encoder\.max_tokens=48"):
            ask()


def test_mlm_needs_a_row_of_its_own_where_mask_is_not_the_last_id(prepared: Path) -> None:
    data = TextData(prepared)
    objective = {"name": "mlm"}
    mlm = parse(TextTrainConfig, TRAIN | {"objective": objective})
    data.batch(keys([0]), mlm)
    content = json.loads(data.tokenizer.to_json())
    content["model"]["vocab"] = {
        token: number if number < 300 else number + 1 for token, number in content["model"]["vocab"].items()
    } | {"<mask>": 300}
    content["added_tokens"][-1]["id"] = 300
    moved = TextTokenizer(Tokenizer.from_str(json.dumps(content)), vocab_size=600)
    data = TextData(prepared)
    data.tokenizer = moved
    with pytest.raises(ConfigError, match=r"<mask> has the id 300: set train\.encoder\.vocab_size=601"):
        data.batch(keys([0]), mlm)
    data.batch(keys([0]), recipe())
    data.batch(
        keys([0]), parse(TextTrainConfig, mlm.model_dump() | {"encoder": TRAIN["encoder"] | {"vocab_size": 601}})
    )


def test_the_same_again_is_a_quick_check_and_a_change_is_not(
    prepared: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (prepared / "prepared.json").stat().st_mtime_ns
    about = prepare(PREPARE, corpus, prepared)
    assert (prepared / "prepared.json").stat().st_mtime_ns == before
    again = prepare(PREPARE, corpus, tmp_path / "again")
    assert again == about
    for name in ("tokenizer.json", "train/part-00000.arrow", "probe_test/part-00000.arrow"):
        assert (tmp_path / "again" / name).read_bytes() == (prepared / name).read_bytes()
    monkeypatch.setattr(preparation, "TRAINING_CHARACTERS", 5_000)
    other = prepare(PREPARE.model_copy(update={"seed": 1, "vocab_size": 500}), corpus, tmp_path / "other")
    assert other["fingerprint"] != about["fingerprint"]
    assert other["vocab_size"] <= 500


def test_a_tokenizer_of_ones_own(prepared: Path, corpus: Path, tmp_path: Path) -> None:
    config = PREPARE.model_copy(update={"tokenizer": str(prepared / "tokenizer.json")})
    about = prepare(config, corpus, tmp_path / "own")
    assert (tmp_path / "own" / "tokenizer.json").read_text() == (prepared / "tokenizer.json").read_text()
    assert about["train_items"] == TextData(prepared).num_train
    with pytest.raises(DataError, match="is not there"):
        prepare(PREPARE.model_copy(update={"tokenizer": str(tmp_path / "none")}), corpus, tmp_path / "own")


# ----------------------------------------------------------------------------------------------- probe


def test_the_acceptability_probe(prepared: Path) -> None:
    data = TextData(prepared)
    probe = data.probe_set(recipe())
    assert probe.class_names == data.class_names == ("unacceptable", "acceptable")
    for items, labels, count in (
        (probe.train_inputs, probe.train_labels, 40),
        (probe.test_inputs, probe.test_labels, 20),
    ):
        assert len(items) == len(labels) == count
        assert labels.sum() == count // 2
        assert items.lengths.max() == items.values.shape[1] <= 48
        assert (items.values[:, 0] == BOS).all()
        assert (items.values[torch.arange(count), items.lengths - 1] == EOS).all()
    texts = [to_texts(items, data) for items in (probe.train_inputs, probe.test_inputs)]
    assert not set(texts[0]) & set(texts[1])
    corpus = "\n".join(to_texts(Inputs(data.batch(keys(range(data.num_train)), recipe()).inputs), data))
    corpus = " ".join(corpus.split())
    whole = [text for text, label in zip(texts[0], probe.train_labels, strict=True) if label and len(text) < 60]
    assert sum(text in corpus for text in whole) > len(whole) / 2  # others straddle two blocks
    assert not any(text in corpus for text, label in zip(texts[0], probe.train_labels, strict=True) if not label)


def test_labels_of_the_corpus_are_probed_where_there_are_some(tmp_path: Path) -> None:
    about = prepare(PREPARE, labelled(tmp_path / "corpus"), tmp_path / "prepared")
    data = TextData(tmp_path / "prepared")
    assert (about["probe"], data.class_names) == ("labels", ("a", "b", "c"))
    probe = data.probe_set(recipe())
    assert (len(probe.train_inputs), len(probe.test_inputs)) == (36, 12)
    assert sorted(probe.test_labels.tolist()) == [0] * 4 + [1] * 4 + [2] * 4
    texts = to_texts(probe.test_inputs, data)
    assert "This is the sentence of number 1\nand a second one, number 1" in texts
    assert "This is the sentence of number 6" in texts
    assert about["train_documents"] == 36
    inside = to_texts(Inputs(data.batch(keys(range(data.num_train)), recipe()).inputs), data)
    assert not any("number 5" in text.replace("\n", " ").split("number 50")[0].split() for text in inside)


def test_without_labels_and_sentences_there_is_no_probe(tmp_path: Path) -> None:
    items = [
        Item(str(n), f"{n} 日本語の文章です。".encode() * 20, None, "test" if n % 3 else "train") for n in range(9)
    ]
    make_corpus(tmp_path / "corpus", items)
    about = prepare(PREPARE, tmp_path / "corpus", tmp_path / "prepared")
    assert (about["probe"], about["class_names"]) == ("none", [])
    probe = TextData(tmp_path / "prepared").probe_set(recipe())
    assert probe.class_names == ()
    assert len(probe.train_inputs) == about["train_items"] > 2
    assert set(probe.train_labels.tolist()) == {-1}
    for kind, message in (("labels", "no labels to probe"), ("acceptability", "fewer than two sentences")):
        with pytest.raises(DataError, match=message):
            prepare(PREPARE.model_copy(update={"probe": kind}), tmp_path / "corpus", tmp_path / "other")


def test_too_little_text_is_refused(tmp_path: Path) -> None:
    make_corpus(tmp_path / "corpus", [Item("a", b"ab", None, "train")])
    with pytest.raises(DataError, match="no block of 8 tokens: ingest more text"):
        prepare(PREPARE, tmp_path / "corpus", tmp_path / "prepared")


def test_a_folder_that_is_not_prepared_is_refused(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="run the prepare step first"):
        TextData(tmp_path)


# ------------------------------------------------------------------------------------ features, pictures


def test_a_bag_of_words_does_not_see_order_padding_or_special_tokens() -> None:
    one = Inputs(torch.tensor([[BOS, 10, 11, 11, EOS, PAD], [BOS, 11, 10, 11, EOS, EOS]]), torch.tensor([5, 6]))
    features = baseline_features(one)
    assert features.shape == (2, 2048)
    torch.testing.assert_close(features[0], features[1])
    torch.testing.assert_close(features.norm(dim=1), torch.ones(2))
    assert features[0, [10, 11]].tolist() == pytest.approx([3**-0.5, (2 / 3) ** 0.5])
    cut = baseline_features(Inputs(torch.tensor([[BOS, 10, 12, 13]]), torch.tensor([2])))
    assert cut[0].nonzero().flatten().tolist() == [10]


def test_what_travels_with_an_encoder_is_plain(prepared: Path) -> None:
    data = TextData(prepared)
    described = Text().describe(data)
    assert json.loads(json.dumps(described)) == described
    assert described["data_fingerprint"] == data.fingerprint
    assert described["class_names"] == ["unacceptable", "acceptable"]


def test_a_long_word_of_a_picture_is_whole_in_smaller_letters() -> None:
    room_px = 84
    for word, is_whole in (("to", True), ("·internationally", True), ("·" + "a" * 30, False)):
        shown, font = _fitted(word, room_px)
        assert font.getlength(shown) <= room_px
        assert (shown == word) is is_whole
    assert _fitted("to", room_px)[1].size == 12
    assert _fitted("·internationally", room_px)[1].size < 12


def test_pictures_have_the_cells_that_their_grid_promises(prepared: Path) -> None:
    data = TextData(prepared)
    items = data.probe_set(recipe()).test_inputs.select(torch.arange(3))
    rows, columns = image_grid(items.values.shape[1])
    assert columns == 8
    assert 0 <= rows * columns - items.values.shape[1] < 8
    pictures = to_images(items, data)
    assert pictures.dtype == np.uint8
    assert pictures.shape == (3, rows * 22, columns * 92, 3)
    cells = pictures.reshape(3, rows, 22, columns, 92, 3).transpose(0, 1, 3, 2, 4, 5).reshape(3, rows * 8, -1)
    dark = (cells < 100).any(axis=2)
    for picture, length in zip(dark, items.lengths.tolist(), strict=True):
        assert picture[1:length].mean() > 0.9  # a lone "·" is not dark
        assert not picture[length:].any()
    assert to_images(items.select(torch.arange(0)), data).shape[0] == 0
