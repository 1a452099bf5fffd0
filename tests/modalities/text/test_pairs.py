"""Pairs of runs of lines for next-sentence prediction, and lines across documents."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from d2v.config import parse
from d2v.data.batch import SampleKeys
from d2v.errors import ConfigError
from d2v.modalities import registry
from d2v.modalities.text.data import word_numbers
from d2v.modalities.text.packing import DOCUMENT_END, LINE_END, PACKINGS, Tokens
from d2v.modalities.text.pairs import Pair, pack_pairs
from d2v.modalities.text.tokenizer import EOS, train_tokenizer
from tests.modalities.contract import make_prepared
from tests.modalities.contract.case import Case
from tests.modalities.text.contract_case import CASE, ENCODER

TEXT = registry.get("text")
ROOM = 20


def document(number: int, lines: int, tokens: int = 4) -> list[Tokens]:
    """Lines whose tokens say document, line and place."""
    ids = [np.arange(tokens, dtype=np.int32) + 10_000 * number + 100 * line for line in range(1, lines + 1)]
    return [*(Tokens(one, LINE_END) for one in ids), Tokens(np.zeros(0, np.int32), DOCUMENT_END)]


def packed(documents: int, lines: int, seed: int = 0) -> list[Pair]:
    stream = [tokens for number in range(1, documents + 1) for tokens in document(number, lines)]
    return list(pack_pairs(stream, ROOM, seed))


def runs(pair: Pair) -> tuple[list[int], list[int]]:
    ids = pair.ids.tolist()
    assert ids[-1] == EOS
    middle = ids.index(EOS)
    return ids[:middle], ids[middle + 1 : -1]


def test_half_of_the_second_runs_are_from_other_documents() -> None:
    pairs = packed(200, 12)
    assert sum(one.is_next for one in pairs) / len(pairs) == pytest.approx(0.5, abs=0.06)
    for pair in pairs:
        first, second = runs(pair)
        assert first
        assert second
        assert len(pair.ids) <= ROOM
        assert (first[0] // 10_000 == second[0] // 10_000) == pair.is_next
        if pair.is_next:
            line = max(ids // 100 for ids in first)
            assert second[0] // 100 in (line, line + 1), "the second run goes on where the first one ends"


def test_most_pairs_are_full_and_a_tenth_aims_lower() -> None:
    sizes = np.array([len(one.ids) for one in packed(300, 40)])
    assert (sizes == ROOM).mean() > 0.6
    assert 0.03 < (sizes < ROOM - 6).mean() < 0.2


def test_pairs_are_functions_of_the_seed() -> None:
    one, same, other = (packed(5, 12, seed) for seed in (0, 0, 1))
    assert [pair.ids.tolist() for pair in one] == [pair.ids.tolist() for pair in same]
    assert [pair.ids.tolist() for pair in one] != [pair.ids.tolist() for pair in other]


def test_a_document_that_is_alone_has_its_own_next_lines() -> None:
    assert all(pair.is_next for pair in packed(1, 30))
    assert packed(1, 1) == [], "one line has nothing behind it"


def test_lines_across_documents_have_one_more_end_between_them() -> None:
    stream = [*document(1, 2), *document(2, 3)]
    _, pack = PACKINGS["sentences"]
    blocks = [block.tolist() for block in pack(stream, 16)]
    assert blocks == [
        [
            10_100,
            10_101,
            10_102,
            10_103,
            EOS,
            10_200,
            10_201,
            10_202,
            10_203,
            EOS,
            EOS,
            20_100,
            20_101,
            20_102,
            20_103,
            EOS,
        ],
        [20_200, 20_201, 20_202, 20_203, EOS, 20_300, 20_301, 20_302, 20_303, EOS, EOS],
    ]
    _, alone = PACKINGS["documents"]
    assert [len(block) for block in alone(stream, 16)] == [10, 15]


def test_words_are_numbered_by_the_blanks_before_them() -> None:
    tokenizer = train_tokenizer(["the cat sees the mouse"] * 3 + ["cats and mice"], vocab_size=300)
    (ids,) = tokenizer.encode_batch(["the cats see zebras"])
    block = torch.tensor([[0, *ids.tolist(), 2, 1, 1]])
    numbers = word_numbers(block, torch.from_numpy(tokenizer.word_starts()))[0].tolist()
    assert numbers[0] == 0
    assert numbers[-3:] == [0, 0, 0]
    assert max(numbers) == 4
    for word, text in enumerate(("the", " cats", " see", " zebras"), start=1):
        own = [int(number) for number, of in zip(block[0].tolist(), numbers, strict=True) if of == word]
        assert tokenizer.decode(own) == text


def test_a_prepared_folder_of_pairs_says_which_follow(tmp_path: object) -> None:
    case = Case(CASE.recipes, CASE.ingest, dict(CASE.prepare) | {"packing": "pairs"}, CASE.write_source)
    data = TEXT.open(make_prepared(TEXT, case, tmp_path).path)  # type: ignore[arg-type]
    values = {
        "objective": {"name": "mlm", "select": "bert", "next_sentence": True},
        "encoder": ENCODER | {"layout": "data2vec1"},
        "mask": {"kind": "random"},
        "optimizer": {"lr": 1e-3},
        "batch_size": 4,
        "max_updates": 2,
    }
    recipe = parse(TEXT.train_config, values)
    rows = np.arange(data.num_train)
    batch = data.batch(SampleKeys(0, rows, np.zeros_like(rows)), recipe)
    assert set(batch.targets[:, 0].tolist()) == {0, 1}
    assert ((batch.targets[:, 1:] > 0) == (batch.inputs[:, 1:] > 3)).all()
    assert ((batch.inputs == EOS).sum(dim=1) == 2).all()
    sizes = {"block_tokens": 32, "probe_max_tokens": 32, "vocab_size": 320}
    with pytest.raises(ConfigError, match=r"set prepare\.packing=pairs"):
        parse(TEXT.recipe, {"ingest": {"source": "x"}, "prepare": sizes, "train": values}, at="text")


def test_blocks_that_are_no_pairs_are_refused(tmp_path: object) -> None:
    data = TEXT.open(make_prepared(TEXT, CASE, tmp_path).path)  # type: ignore[arg-type]
    recipe = parse(
        TEXT.train_config, CASE.recipes["mlm"] | {"optimizer": {"lr": 1e-3}, "batch_size": 4, "max_updates": 2}
    )
    assert data.batch(SampleKeys(0, np.arange(2), np.zeros(2, np.int64)), recipe).targets is None
    asks = recipe.model_copy(update={"objective": recipe.objective.model_copy(update={"next_sentence": True})})
    with pytest.raises(ConfigError, match=r"packed in documents: set prepare\.packing=pairs"):
        data.batch(SampleKeys(0, np.arange(2), np.zeros(2, np.int64)), asks)
