"""Tables, reports and the sentence about the probes."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from d2v.errors import ConfigError
from d2v.reporting.probe_tables import accuracy_table, best_baseline, curve_table, difference_table, verdict
from d2v.reporting.report import Heading, Plot, write_report
from d2v.reporting.tables import Table

TABLE = Table("Probes", ("features", "kNN %"), (("pretrained", "71.2"), ("a|b <i>", "3\n4")))


def metrics(gain_over_random: tuple[float, float], gain_over_baseline: tuple[float, float]) -> dict[str, float]:
    """Probe metrics whose linear gains have these intervals."""
    shown = {"probe/rank": 21.5, "probe/rank_random": 7.0}
    for probe in ("linear", "knn"):
        for suffix in ("", "_random", "_baseline"):
            name = f"probe/{probe}{suffix}"
            shown |= {name: 0.5, f"{name}_low": 0.45, f"{name}_high": 0.55}
        for suffix, (low, high) in (("_random", gain_over_random), ("_baseline", gain_over_baseline)):
            name = f"probe/{probe}_gain_over{suffix}"
            shown |= {name: (low + high) / 2, f"{name}_low": low, f"{name}_high": high}
    return shown


def test_markdown_escapes_what_would_break_a_row() -> None:
    lines = TABLE.to_markdown().splitlines()
    assert lines[:3] == ["| features | kNN % |", "|:--|--:|", "| pretrained | 71.2 |"]
    assert lines[3] == "| a\\|b <i> | 3 4 |"


def test_html_escapes_cells() -> None:
    html = TABLE.to_html()
    assert "<td>a|b &lt;i&gt;</td>" in html
    assert html.count("<tr>") == 3


def test_the_terminal_shows_whole_cells() -> None:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(TABLE.to_rich())
    assert "pretrained" in captured.get()
    assert "71.2" in captured.get()


def test_uneven_rows_are_refused() -> None:
    with pytest.raises(ConfigError, match="one cell a column"):
        Table("t", ("a", "b"), (("1",),))


def test_the_probe_tables_fit_80_columns_at_their_widest() -> None:
    widest = {name: 1.0 if "rank" not in name else 1234.5 for name in metrics((1.0, 1.0), (1.0, 1.0))}
    console = Console(width=80)
    with console.capture() as captured:
        console.print(accuracy_table(widest, "plain features").to_rich())
        console.print(difference_table(widest, "plain features").to_rich())
    assert "…" not in captured.get()
    assert "100.0 (100.0 to 100.0)" in captured.get()
    assert "+100.0 (+100.0 to +100.0)" in captured.get()


def test_tables_show_percent_and_signed_points() -> None:
    shown = metrics((0.1, 0.2), (-0.2, -0.1))
    rows = accuracy_table(shown, "plain features").rows
    assert rows[0] == ("pretrained", "50.0 (45.0 to 55.0)", "50.0 (45.0 to 55.0)", "21.5")
    assert (rows[2][0], rows[2][-1]) == ("plain features", "")
    assert difference_table(shown, "plain features").rows[1][1] == "-15.0 (-20.0 to -10.0)"


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ((0.1, 0.2), "15.0 points (10.0 to 20.0) better than"),
        ((-0.2, -0.1), "15.0 points (10.0 to 20.0) worse than"),
    ],
)
def test_the_verdict_says_which_way(interval: tuple[float, float], words: str) -> None:
    assert f"{words} the same encoder with random weights" in verdict(metrics(interval, (0.1, 0.2)), "plain features")
    assert f"{words} plain features" in verdict(metrics((0.1, 0.2), interval), "plain features")


def test_the_headline_is_against_the_best_baseline_by_any_probe() -> None:
    """A linear probe ahead of the others' linear probes, while kNN of plain features is better than all."""
    shown = {**metrics((0.1, 0.2), (0.1, 0.2)), "probe/majority": 0.1, "probe/knn_baseline": 0.7, "probe/linear": 0.6}
    shown |= {"probe/gain_over_best": -0.1, "probe/gain_over_best_low": -0.15, "probe/gain_over_best_high": -0.05}
    headline = verdict(shown, "raw pixels").split(". ")[0]
    assert "By its best probe, the linear probe, the pretrained encoder names 60.0%" in verdict(shown, "raw pixels")
    assert "10.0 points (5.0 to 15.0) worse than the best baseline, raw pixels by kNN (70.0%)" in verdict(
        shown, "raw pixels"
    )
    assert headline.startswith("By its best probe")
    assert best_baseline(shown) == "probe/knn_baseline"
    assert best_baseline(shown | {"probe/majority": 0.9}) == "probe/majority"
    assert "always naming the largest class (90.0%)" in verdict(shown | {"probe/majority": 0.9}, "raw pixels")


def test_the_items_of_the_curves_have_a_table_of_their_own() -> None:
    ends = {f"online/{probe}{suffix}": 0.5 for probe in ("linear", "knn") for suffix in ("", "_random", "_baseline")}
    table = curve_table(ends | {"online/knn": 0.625}, "raw pixels")
    assert table is not None
    assert table.rows[0] == ("pretrained", "50.0", "62.5")
    assert [row[0] for row in table.rows] == ["pretrained", "random weights", "raw pixels"]
    assert curve_table({"online/rank": 3.0}, "raw pixels") is None


def test_the_verdict_does_not_claim_what_the_interval_leaves_open() -> None:
    sentence = verdict(metrics((-0.01, 0.03), (-0.01, 0.03)), "plain features")
    assert "not told apart from" in sentence
    assert "better" not in sentence
    assert "worse" not in sentence


def test_the_largest_class_is_a_line_of_the_table() -> None:
    shown = {**metrics((0.1, 0.2), (0.1, 0.2)), "probe/majority": 0.25}
    assert accuracy_table(shown, "plain features").rows[-1] == ("always the largest class", "25.0", "25.0", "")


def test_without_labels_only_ranks_are_shown() -> None:
    ranks = {"probe/rank": 21.5, "probe/rank_random": 7.0}
    assert accuracy_table(ranks, "plain features").rows == (("pretrained", "21.5"), ("random weights", "7.0"))
    assert "not measured" in verdict(ranks, "plain features")


def test_a_report_has_the_same_parts_twice(tmp_path: Path) -> None:
    picture = tmp_path / "p.png"
    picture.write_bytes(b"\x89PNG")
    parts = [Heading("One & two"), "A < B.", TABLE, Plot(picture, "What it shows")]
    markdown, html = (path.read_text() for path in write_report(tmp_path, "Title", parts))
    assert markdown.startswith("# Title\n\n## One & two\n\nA < B.\n\n**Probes**")
    assert "![What it shows](p.png)" in markdown
    assert "<h2>One &amp; two</h2>" in html
    assert "A &lt; B." in html
    assert "data:image/png;base64,iVBORw==" in html
    assert unclosed(html) == []


def unclosed(html: str) -> list[str]:
    """Tags that are open at the end."""
    tags: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "img"):
                tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert tags.pop() == tag

    Reader().feed(html)
    return tags
