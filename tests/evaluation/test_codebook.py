"""Codes beside classes: measures, table and picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import normalized_mutual_info_score

from d2v.evaluation.codebook import codebook_metrics, codebook_parts, quality
from d2v.modalities.probes import CodeCounts
from d2v.reporting.report import Plot, write_report
from d2v.reporting.tables import Table

COUNTED = CodeCounts("mfcc", "phones", ["_", "a", "s"], [[50, 0, 10, 0], [0, 30, 0, 0], [5, 0, 5, 0]], 7, "_")


def test_measures_are_those_of_their_definition() -> None:
    of = quality(np.array(COUNTED.counts))
    assert of["purity"] == pytest.approx((50 + 30 + 10) / 100)
    assert of["purity_chance"] == pytest.approx(60 / 100)
    assert of["cluster_purity"] == pytest.approx((50 + 30 + 5) / 100)
    assert of["cluster_purity_chance"] == pytest.approx(55 / 100)
    assert of["codes_in_use"] == 3
    pairs = [
        (row, code) for row, some in enumerate(COUNTED.counts) for code, count in enumerate(some) for _ in range(count)
    ]
    assert of["nmi"] == pytest.approx(normalized_mutual_info_score(*zip(*pairs, strict=True)))
    p_CK = np.array(COUNTED.counts) / 100
    p_C, p_K = p_CK.sum(axis=1), p_CK.sum(axis=0)
    told = sum(p * np.log(p / (p_C[c] * p_K[k])) for (c, k), p in np.ndenumerate(p_CK) if p)
    assert of["pnmi"] == pytest.approx(told / -(p_C * np.log(p_C)).sum())


def test_codes_that_say_nothing_or_all_or_of_one_class() -> None:
    assert quality(np.outer([3, 1], [2, 2]))["pnmi"] == pytest.approx(0.0, abs=1e-12)
    whole = quality(np.diag([5, 3, 1]))
    assert [whole[name] for name in ("purity", "cluster_purity", "pnmi", "nmi")] == pytest.approx([1.0] * 4)
    assert quality(np.array([[4, 2]]))["nmi"] == 0.0


def test_the_table_has_a_second_row_without_silence_and_the_picture_is_there(tmp_path: Path) -> None:
    table, words, plot = codebook_parts(COUNTED, tmp_path / "codebook.png")
    assert isinstance(table, Table)
    assert isinstance(plot, Plot)
    assert "mfcc beside 3 phones" in table.title
    assert table.rows[0][:5] == ("all", "100", "3 of 4", "0.900", "0.600")
    assert table.rows[1][:5] == ("without silence", "40", "3 of 4", "1.000", "0.750")
    assert "0 by chance" in str(words)
    assert "codebook.png" in write_report(tmp_path, "x", [table, words, plot])[0].read_text()
    assert plot.path.stat().st_size > 5_000
    assert codebook_metrics(COUNTED)["codebook/purity"] == pytest.approx(0.9)
