"""Probes that are taken out of a prepared folder without labels."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from d2v.config import parse
from d2v.data.batch import Inputs
from d2v.modalities.probes import Choice, ItemClasses, MaskedTokens, TokenClasses
from d2v.modalities.text.config import TextIngestConfig, TextPrepareConfig
from d2v.modalities.text.data import TextData
from d2v.modalities.text.modality import Text
from d2v.modalities.text.probes import MASK_EVERY, further_probes
from d2v.modalities.text.tokenizer import BOS, EOS
from tests.modalities.text.contract_case import CASE

TEXT = Text()
RECIPE = parse(
    TEXT.train_config, CASE.recipes["data2vec2"] | {"optimizer": {"lr": 1e-3}, "batch_size": 4, "max_updates": 2}
)
RECIPE = RECIPE.model_copy(update={"encoder": RECIPE.encoder.model_copy(update={"max_tokens": 64})})


def write_book(folder: Path, seed: int, documents: int) -> None:
    """Documents of some plain paragraphs of sentences with commas."""
    draw = random.Random(seed)
    nouns, verbs = ("cat", "dog", "owl", "storm", "river", "town"), ("sees", "follows", "leaves", "reaches")
    folder.mkdir(parents=True)
    for number in range(documents):
        paragraphs = []
        for _ in range(10):
            words = [[draw.choice(nouns), draw.choice(verbs), draw.choice(nouns), draw.choice(nouns)] for _ in range(5)]
            paragraphs.append(
                " ".join(f"The {a} {b} the {c}, and the {d} is {number} to the {a}." for a, b, c, d in words)
            )
        (folder / f"{number}.txt").write_text("\n\n".join(paragraphs))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TextData:
    folder = tmp_path_factory.mktemp("book")
    write_book(folder / "source" / "train", 0, 20)
    write_book(folder / "source" / "test", 1, 6)
    TEXT.ingest(TextIngestConfig(source=str(folder / "source")), folder / "corpus")
    config = TextPrepareConfig(vocab_size=320, block_tokens=64, probe_max_tokens=64, probe_train_items=8)
    TEXT.prepare(config, folder / "corpus", folder / "prepared")
    return TextData(folder / "prepared")


@pytest.fixture(scope="module")
def probes(data: TextData) -> dict[str, object]:
    return {probe.name: probe for probe in further_probes(data, RECIPE, 50)}


def texts(data: TextData, inputs: Inputs) -> list[str]:
    return [
        data.tokenizer.decode(ids[:length].tolist()).strip()
        for ids, length in zip(inputs.values, inputs.lengths, strict=True)
    ]


def test_every_probe_is_there(probes: dict[str, object]) -> None:
    kinds = {"forced_choice": Choice, "masked_word": MaskedTokens, "punctuation": TokenClasses, "source": ItemClasses}
    assert {name: type(probe) for name, probe in probes.items()} == kinds


def test_pairs_of_the_online_probe_are_others(data: TextData, probes: dict[str, object]) -> None:
    first, all_of = texts(data, probes["forced_choice"].whole), probes["forced_choice"]
    counted = TEXT.choice(data, RECIPE, range(50), counted=True)
    assert torch.equal(counted.whole.values, all_of.whole.values)
    assert np.array_equal(counted.counts.right, all_of.counts.right)
    later = TEXT.choice(data, RECIPE, range(50, 60))
    assert later.counts is None
    assert 0 < len(later.whole) <= 10
    assert not set(texts(data, later.whole)) & set(first)
    assert TEXT.choice(data, RECIPE, range(0)) is None


def test_a_corpus_with_labels_of_its_own_has_no_choice(data: TextData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(data.about, "probe", "labels")
    assert TEXT.choice(data, RECIPE, range(50)) is None


def test_a_spoiled_sentence_has_the_same_tokens(data: TextData, probes: dict[str, object]) -> None:
    choice = probes["forced_choice"]
    assert len(choice.whole) == len(choice.spoiled) == len(choice.counts.right) > 10
    assert torch.equal(choice.whole.lengths, choice.spoiled.lengths)
    whole, spoiled = (texts(data, side) for side in (choice.whole, choice.spoiled))
    for a, b in zip(whole, spoiled, strict=True):
        assert a != b
        assert sorted(a) == sorted(b)


def test_no_test_sentence_stands_in_the_training_text(data: TextData, probes: dict[str, object]) -> None:
    blocks = (
        data.batch_of_all() if hasattr(data, "batch_of_all") else data._items(data.train, np.arange(len(data.train)))
    )
    ids = blocks.values[(blocks.values != BOS) & (blocks.values != 1)].tolist()
    known = " ".join(data.tokenizer.decode(ids).split())
    assert not any(sentence in known for sentence in texts(data, probes["forced_choice"].whole))


def test_masked_tokens_have_visible_neighbours(probes: dict[str, object]) -> None:
    probe = probes["masked_word"]
    for part in (probe.train, probe.test):
        ids = part.inputs.values
        assert torch.equal(ids[part.row_N, part.at_N], part.labels_N)
        assert (ids[:, 0] == BOS).all()
        assert part.at_N.max() < ids.shape[1] - 1
        assert len(part.at_N) == len(ids) * len(part.at_N.unique())
        assert (part.at_N.unique().diff() == MASK_EVERY).all()
    assert (probe.counts.nats > 0).all()


def test_pairs_score_all_but_special_tokens(probes: dict[str, object]) -> None:
    pairs = probes["masked_word"].pairs
    assert {one.name for one in pairs} >= {"agreement", "word_order"}
    for one in pairs:
        for inputs, scored in zip((one.right, one.wrong), one.masked, strict=True):
            for row, length in enumerate(inputs.lengths.tolist()):
                mine = [(at, masked_at) for item, at, masked_at in scored if item == row]
                assert [at for at, _ in mine] == list(range(1, length - 1))
                assert all(
                    masked_at == list(range(at, masked_at[-1] + 1)) and masked_at[-1] < length - 1
                    for at, masked_at in mine
                )
                assert inputs.values[row, length - 1] == EOS


def test_later_parts_of_a_word_are_hidden_with_it(data: TextData, probes: dict[str, object]) -> None:
    one = probes["masked_word"].pairs[0]
    pieces = data.tokenizer.pieces(one.right.values[0, : int(one.right.lengths[0])].tolist())
    for item, _, masked_at in one.masked[0]:
        if item == 0:
            assert all(not pieces[t].startswith("·") for t in masked_at[1:])
            assert pieces[masked_at[-1] + 1].startswith("·") or not pieces[masked_at[-1] + 1].isalnum()


def test_all_classes_of_punctuation_are_as_frequent(probes: dict[str, object]) -> None:
    for part in (probes["punctuation"].train, probes["punctuation"].test):
        counts = torch.bincount(part.labels_N)
        assert len(counts) == 3
        assert (counts == counts[0]).all()


def test_paragraphs_of_a_document_are_shared_out(probes: dict[str, object]) -> None:
    source = probes["source"]
    assert torch.bincount(source.train_labels).tolist() == torch.bincount(source.test_labels).tolist()
    assert len(source.train_labels.unique()) >= 2
