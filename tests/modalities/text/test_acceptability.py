"""Sentences against the same with words exchanged."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from d2v.modalities.text.acceptability import as_items, draw_sentences, exchange, sentences
from d2v.modalities.text.pydocs import pydocs_source
from d2v.modalities.text.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def documents() -> list[str]:
    return [item.data.decode() for item in pydocs_source().items(0)][:150]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("He saw the old\ndog run. It was late then.\n", ["He saw the old dog run.", "It was late then."]),
        ("Mr. Smith saw J. Brown, i.e. not me there.", ["Mr. Smith saw J. Brown, i.e. not me there."]),
        ('"Come in here now!" Then she left the room.', ['"Come in here now!"', "Then she left the room."]),
        (" = Title =\n\n The heading is no such sentence .\n", ["The heading is no such sentence ."]),
        ("Too few words.", []),
        ("The text breaks off in the middle", []),
        ("The list below has three lines:\n\n    The one is long here.\n", ["The one is long here."]),
        ("The result is indented by four spaces.\n    The paragraph is left out.", []),
        ("It is `x = y` and not the other one.", []),
        ("It is 1 2 3 4 5 6 7 8 and nothing.", []),
        ("Word Word Word Word WORD the.", []),
        ("The the the the.", []),
    ],
)
def test_sentences(text: str, found: list[str]) -> None:
    assert list(sentences(text)) == found


def test_exchanged_sentences_differ_in_their_order_alone(documents: list[str]) -> None:
    drawn = draw_sentences(documents, 300, seed=0)
    tokenizer = train_tokenizer(documents[:20], 2000)
    for number, sentence in enumerate(drawn):
        other = exchange(sentence, np.random.default_rng(number))
        assert other != sentence
        assert sum(a != b for a, b in zip(other.split(), sentence.split(), strict=True)) >= 2
        bags = [Counter(ids.tolist()) for ids in tokenizer.encode_batch([sentence, other])]
        assert bags[0] == bags[1]


def test_items_are_balanced_distinct_and_follow_the_seed(documents: list[str]) -> None:
    drawn = draw_sentences(documents, 101, seed=1)
    texts, labels = as_items(drawn, seed=1)
    assert len(set(drawn)) == len(texts) == 101
    assert labels.sum() == 50
    assert [text == sentence for text, sentence in zip(texts, drawn, strict=True)] == (labels == 1).tolist()
    assert as_items(draw_sentences(documents, 101, seed=1), seed=1)[0] == texts
    assert set(draw_sentences(documents, 101, seed=2)) != set(drawn)


def test_no_sentence_is_drawn_that_must_not_be() -> None:
    text = "The first one is short. The second one is short too."
    assert draw_sentences([text], 5, 0, without=["The first one is short."]) == ["The second one is short too."]
