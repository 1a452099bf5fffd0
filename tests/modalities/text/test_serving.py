"""What users send."""

from __future__ import annotations

import numpy as np
import pytest

from d2v.errors import DataError
from d2v.modalities.requests import Limits
from d2v.modalities.text.raw_inputs import REQUEST, to_inputs
from d2v.modalities.text.tokenizer import BOS, EOS, PAD, train_tokenizer

TOKENIZER = train_tokenizer(["the cat sat on the mat"], 300)
CONFIG = {"recipe": {"encoder": {"max_tokens": 12}}, "tokenizer": TOKENIZER.to_json()}


def test_the_example_is_taken() -> None:
    inputs = to_inputs([REQUEST.read(REQUEST.example(CONFIG), Limits())], CONFIG)
    assert inputs.values.shape == (1, 12)


@pytest.mark.parametrize("make", [list, np.array, lambda texts: np.array(texts, dtype=object)])
def test_sentences_are_padded_to_the_longest(make) -> None:
    texts = ["the cat", "", "the cat sat on the mat " * 9]
    inputs = to_inputs(make(texts), CONFIG)
    cat = TOKENIZER.encode_batch(["the cat"])[0].tolist()
    assert inputs.values.shape == (3, 12)
    assert inputs.lengths.tolist() == [len(cat) + 2, 2, 12]
    assert inputs.values[0].tolist() == [BOS, *cat, EOS] + [PAD] * (10 - len(cat))
    assert inputs.values[2, -1] == EOS


def test_a_column_and_pairs() -> None:
    assert to_inputs([["the cat"], ["mat"]], CONFIG).values.shape == to_inputs(["the cat", "mat"], CONFIG).values.shape
    pair = to_inputs([["the", "cat"]], CONFIG)
    assert TOKENIZER.decode(pair.values[0].tolist()) == "the\ncat"
    assert len(to_inputs([], CONFIG)) == 0


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("the cat", "shape"),
        ([["a", "b", "c"]], "shape"),
        ([1, 2], "type int"),
        (["a", None], "type NoneType"),
        (np.zeros(2), "type float"),
    ],
)
def test_anything_else_is_refused(texts, message: str) -> None:
    with pytest.raises(DataError, match=message):
        to_inputs(texts, CONFIG)
