"""`python -m benchmarks growth`: what grows, and how it is shown."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import pytest

from benchmarks import __main__ as cli
from benchmarks.document import Document, Row, machine
from benchmarks.growth import AXES, COST, FLOPS, MEMORY, growth_picture, growth_table, measure_growth
from benchmarks.sizes import noise_batch, read_size
from benchmarks.step import time_size
from d2v.modalities import registry

CONF = Path(__file__).resolve().parents[2] / "conf"


@pytest.mark.parametrize("name", AXES)
def test_every_value_of_every_axis_is_a_recipe_that_changes_the_inputs_or_the_work(name: str) -> None:
    axis = AXES[name]
    seen = set()
    for value in axis.values:
        size = read_size(axis.size, CONF, "fp32", axis.change(value))
        recipe = size.recipe
        tokens = registry.get(size.modality).max_tokens(recipe)
        seen.add((tuple(noise_batch(size).inputs.shape), tokens, getattr(recipe.objective, "masks_per_sample", 0)))
    assert len(seen) == len(axis.values)


def _document() -> Document:
    rows = []
    for value, ms in ((1, 10.0), (2, 15.0), (4, 25.0)):
        for what, figure in ((COST, ms), (MEMORY, 100.0), (FLOPS, 2.0 * value)):
            rows.append(Row.of(f"masks of a sample/{value}/{what}", what, [figure]))
    return Document("growth", machine(), rows)


def test_a_table_says_how_costs_follow(tmp_path: Path) -> None:
    steps = [row[-2:] for row in growth_table(_document()).rows]
    assert steps == [("", ""), ("2.00", "1.50"), ("2.00", "1.67")]
    growth_picture(_document(), tmp_path / "growth.png")
    height, width, _ = matplotlib.image.imread(tmp_path / "growth.png").shape
    assert width > height > 300


def test_an_unknown_axis_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks", "growth", "--axes", "moon"])
    with pytest.raises(SystemExit) as ended:
        cli.run()
    assert ended.value.code == 2
    assert "say --axes with one of" in capsys.readouterr().err


@pytest.mark.slow
def test_two_ranks_are_timed(tmp_path: Path) -> None:
    document = measure_growth(["ranks, one thread each"], "fp32", 0.1, CONF)
    assert [row.name.split("/")[1] for row in document.rows if row.name.endswith(COST)] == ["1", "2"]
    alone = time_size("v2_image_32", CONF, "fp32", 0.1, {"batch_size": 2}, threads=1)
    assert len(alone.steps_s) >= 3
