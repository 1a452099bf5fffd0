"""`python -m benchmarks`: what `step` and `scale` ask for before they time anything, and what they write."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import __main__ as cli
from benchmarks import time_updates
from benchmarks.papers import PAPERS, RANKS, calculate, read_models
from benchmarks.scale import TINY
from benchmarks.scale_tables import BEGIN, END, bench_scale
from d2v import cli as d2v_cli
from d2v.errors import ConfigError, DataError

CONF = Path(__file__).resolve().parents[2] / "conf"
RECIPE = CONF / "base" / "parameters_vision.yml"


def test_an_unknown_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no recipe"):
        time_updates(tmp_path / "nope.yml", tmp_path, 20, tmp_path)


def test_missing_data_names_the_step_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="kedro run --pipeline=prepare_vision"):
        time_updates(RECIPE, tmp_path / "nope", 20, tmp_path)


def test_the_command_ends_with_the_errors_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks", "recipe", "--recipe", str(tmp_path / "nope.yml")])
    with pytest.raises(SystemExit) as ended:
        cli.run()
    assert ended.value.code == 2
    assert "ConfigError: there is no recipe" in capsys.readouterr().err


def test_a_document_without_a_place_for_tables_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    document = tmp_path / "scale.md"
    for text in (None, "nothing", f"{END} {BEGIN}"):
        if text is not None:
            document.write_text(text)
        with pytest.raises(ConfigError, match="has no place for the tables"):
            bench_scale(10, CONF, document)


def test_a_folder_without_the_recipes_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no recipe .*--conf"):
        bench_scale(10, tmp_path)


def test_the_papers_models_fit_large_gpus() -> None:
    models = {model.name: model for model in read_models(CONF)}
    assert models.keys() == PAPERS.keys()
    assert models["ViT-B"].activations < models["ViT-L"].activations < models["ViT-H"].activations
    for model in models.values():
        assert model.activations[1] < model.activations[0]
        costs = calculate(model)
        assert [one.ranks for one in costs] == list(RANKS)
        assert [one.samples for one in costs] == [max(1, model.batch // ranks) for ranks in RANKS]
        for one in costs:
            small, large = one.choices
            assert small is not None
            assert large is not None
            assert (large.recomputed, large.stage) <= (small.recomputed, small.stage)
            assert 2 * one.sent_bytes(1) == pytest.approx(3 * one.sent_bytes(0))


@pytest.mark.slow
def test_both_tables_are_written(tmp_path: Path) -> None:
    document = tmp_path / "scale.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    tables = bench_scale(2, CONF, document, model=TINY, stages=(0, 3))
    assert document.read_text() == f"before\n{BEGIN}\n\n{tables}\n\n{END}\nafter\n"
    for row in ("1 rank, stage 0", "1 rank, stage 3", "2 ranks, stage 0", "2 ranks, stage 3"):
        assert tables.count(f"| {row} |") == 2
    for name in PAPERS:
        assert tables.count(f"| {name} |") == len(RANKS)


@pytest.mark.parametrize("command", d2v_cli.MOVED.values())
def test_help_shows_an_example(command: str) -> None:
    shown = CliRunner().invoke(cli.app, [command, "--help"], env={"COLUMNS": "200"})
    assert f"Example: python -m benchmarks {command}" in " ".join(shown.output.split())


def test_verbs_of_before_still_work_and_say_the_new_name(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.argv", ["d2v", "bench-recipe", "--recipe", str(tmp_path / "nope.yml")])
    with pytest.raises(SystemExit) as ended:
        d2v_cli.run()
    assert ended.value.code == ConfigError.exit_code
    said = capfd.readouterr().err
    assert "`d2v bench-recipe` is now `python -m benchmarks recipe`" in said
    assert "there is no recipe" in said
