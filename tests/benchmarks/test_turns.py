"""Pairs of fresh processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.turns import ROOT, BenchmarkError, Way, by_turns, checkout, ratio_table
from d2v.errors import ConfigError

PRINTS = "import json, sys; print('noise'); print(json.dumps({'s': float(sys.argv[1])}))"


def test_ratios_are_of_pairs_and_above_one_where_the_second_is_faster() -> None:
    old, new = (Way(name, ROOT, ("-c", PRINTS, seconds)) for name, seconds in (("old", "3"), ("new", "2")))
    pairs = by_turns("case", old, new, 2)
    assert pairs.ratios("s") == [1.5, 1.5]
    assert ratio_table([pairs], {"s": "seconds"}).rows == (("case", "old", "new", "3 / 2: 1.50 (1.50 to 1.50)"),)


def test_a_dead_process_is_named_with_its_last_words() -> None:
    with pytest.raises(BenchmarkError, match="old ended with 3: so it is"):
        Way("old", ROOT, ("-c", "import sys; print('so it is', file=sys.stderr); sys.exit(3)")).measure()


def test_a_commit_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no commit 'nowhere'"):
        checkout("nowhere", tmp_path)
