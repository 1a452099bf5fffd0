"""Libraries for vectors beside `d2v index`: what is asked for, what is right, what is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import search
from d2v.errors import DataError

ROWS = search.clustered(700, 16, 20)


def test_the_nearest_are_those_of_the_largest_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "BLOCK", 8)
    expected = np.argsort(-(ROWS[:5] @ ROWS.T), axis=1, kind="stable")[:, :7]
    np.testing.assert_array_equal(search._nearest(ROWS[:5], ROWS, 7), expected)


def test_further_vectors_lie_between_an_item_and_one_of_its_nearest() -> None:
    np.testing.assert_array_equal(search.more_of(ROWS, 300), ROWS[:300])
    more = search.more_of(ROWS, 2_000)
    np.testing.assert_array_equal(more[:700], ROWS)
    np.testing.assert_allclose(np.linalg.norm(more, axis=1), 1.0, atol=1e-5)
    _, *near = search._nearest(ROWS, ROWS, search.NEAR + 1).T
    farthest = min(float((ROWS * ROWS[rows]).sum(axis=1).min()) for rows in near)
    assert (more[700:] @ ROWS.T).max(axis=1).min() >= farthest
    assert len(np.unique(more, axis=0)) == 2_000


def test_what_d2v_index_writes_is_opened_and_asked(tmp_path: Path) -> None:
    pytest.importorskip("lancedb")
    rows, asked = ROWS[:-20], ROWS[-20:]
    np.save(tmp_path / "vectors.npy", rows)
    np.save(tmp_path / "questions.npy", asked)
    np.save(tmp_path / "truth.npy", search._nearest(asked, rows, search.K))
    built = search.child("d2v index", "build", tmp_path, tmp_path / "index")
    assert built["build_s"] > 0
    for way in ("d2v index", "d2v index, --label of 1 in 100"):
        found = search.child(way, "ask", tmp_path, tmp_path / "index")
        assert found["recall"] == 1.0, "also where only 7 of 680 rows have the label and 10 are asked for"


def test_the_table_has_a_row_a_size_and_way() -> None:
    one = {"recall": 1.0, "query_ms": 2.0, "build_s": 3.0, "build_mb": 4.0, "ask_mb": 5.0, "disk_mb": 6.0}
    table = search.search_table({(1_000, "faiss Flat"): one})
    assert table.rows == (("1,000", "faiss Flat", "1.000", "2.00", "3.0", "4", "5", "6"),)


def test_too_few_vectors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too few"):
        search.measure_search(ROWS[:100], [100], ["faiss Flat"], tmp_path)
