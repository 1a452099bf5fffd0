"""Each rule breaks one thing and leaves alone what it cannot judge."""

import pytest

from d2v.modalities.text.minimal_pairs import minimal_pairs

BROKEN = [
    ("agreement", "The cat is on the mat .", "The cat are on the mat ."),
    ("agreement", "All files were read twice .", "All files was read twice ."),
    ("determiners", "It reads an object at once .", "It reads a object at once ."),
    ("determiners", "One of these methods fails .", "One of this methods fails ."),
    ("word_order", "It reads the file twice .", "It reads file the twice ."),
]
LEFT_ALONE = [
    ("agreement", "You are on time ."),
    ("determiners", "He said that it was late ."),
    ("word_order", "It may be ."),
]


@pytest.mark.parametrize(("rule", "right", "wrong"), BROKEN)
def test_a_rule_breaks_one_thing(rule: str, right: str, wrong: str) -> None:
    assert minimal_pairs([right], rule, 1) == [(right, wrong)]


@pytest.mark.parametrize(("rule", "sentence"), LEFT_ALONE)
def test_what_a_rule_cannot_judge_makes_no_pair(rule: str, sentence: str) -> None:
    assert minimal_pairs([sentence], rule, 1) == []


def test_as_many_pairs_as_are_asked_for() -> None:
    sentences = [f"The file is number {number} ." for number in range(9)]
    assert [pair.right for pair in minimal_pairs(sentences, "agreement", 4)] == sentences[:4]
