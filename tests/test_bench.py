"""`d2v bench`: what it asks for before it times anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from d2v import cli
from d2v.bench import time_updates
from d2v.errors import ConfigError, DataError

RECIPE = Path(__file__).resolve().parents[1] / "conf" / "base" / "parameters_vision.yml"


def test_an_unknown_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no recipe"):
        time_updates(tmp_path / "nope.yml", tmp_path, 20, tmp_path)


def test_missing_data_names_the_step_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="kedro run --pipeline=prepare_vision"):
        time_updates(RECIPE, tmp_path / "nope", 20, tmp_path)


def test_the_command_ends_with_the_errors_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["d2v", "bench", "--recipe", str(tmp_path / "nope.yml")])
    with pytest.raises(SystemExit) as ended:
        cli.run()
    assert ended.value.code == 2
    assert "ConfigError: there is no recipe" in capsys.readouterr().err
