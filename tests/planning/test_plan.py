"""From a first look to an environment: budgets, names, files, projects. What an update costs is made up here."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from d2v.config import parse, read_recipe
from d2v.errors import ConfigError
from d2v.modalities import registry
from d2v.modalities.suggestion import Hardware
from d2v.modalities.survey import survey
from d2v.planning import command, plan
from d2v.planning.budget import lengths, seconds_of
from d2v.planning.command import Asked, train_source
from d2v.planning.environment import check_name, name_of
from d2v.planning.measure import Costs
from d2v.planning.project import find_project, make_project
from tests.conftest import ROOT

COSTS = Costs(
    update_s=0.1,
    epochs_per_update=0.3,
    tune_item_s=0.001,
    ingest_item_s=0.001,
    prepare_item_s=0.001,
    peak_bytes=1e9,
    parameters=800_000,
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project outside the checkout, with nothing measured and nothing run."""
    monkeypatch.setattr(plan, "measured", lambda *_: COSTS)
    monkeypatch.setattr(command, "hardware_here", lambda: Hardware("a processor", False, 8 * 10**9))
    monkeypatch.setattr(command, "run_environment", lambda *_: 0)
    return make_project(tmp_path / "work")


def asked(source: Path, project: Path, **more: object) -> Asked:
    return Asked(str(source), project=project, yes=True, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("90s", 90), ("1.5m", 90)])
def test_durations(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["30", "soon", "", "0m", "m", "-5m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="write it as 30m"):
        seconds_of(text)


def test_a_time_is_kept_and_epochs_are_counted(photographs: Path) -> None:
    found = survey(str(photographs))
    for time_s in (300.0, 3000.0):
        timed = lengths(found, COSTS, tune_batch=32, epochs=None, time_s=time_s)
        assert sum(timed.seconds.values()) == pytest.approx(time_s, rel=0.02)
        assert timed.tune_updates > 20
    counted = lengths(found, COSTS, tune_batch=32, epochs=30.0, time_s=None)
    assert counted.updates == 100
    assert lengths(found, COSTS, tune_batch=0, epochs=None, time_s=None).tune_updates == 0
    with pytest.raises(ConfigError, match=r"too short for this data on this machine: give at least \dm"):
        lengths(found, COSTS, tune_batch=32, epochs=None, time_s=30.0)


def test_without_a_budget_an_hour_is_the_most(photographs: Path) -> None:
    found = survey(str(photographs))
    for update_s, updates in ((0.1, 500), (10.0, 360)):
        slow = dataclasses.replace(COSTS, update_s=update_s)
        assert lengths(found, slow, tune_batch=32, epochs=None, time_s=None).updates == updates


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/a/Holiday photos", "holiday_photos"),
        ("s3://bucket/clips.tar.gz", "clips"),
        ("torchvision:CIFAR10", "cifar10"),
    ],
)
def test_names_are_made_from_sources(source: str, name: str) -> None:
    assert name_of(source) == name


def test_two_data_sets_never_share_folders(project: Path) -> None:
    check_name(project / "conf", "vision", "birds")
    for taken in ("glyphs", "own_data", "base"):
        with pytest.raises(ConfigError, match=f"say --name {taken}_2"):
            check_name(project / "conf", "vision", taken)
    with pytest.raises(ConfigError, match="take small letters"):
        check_name(project / "conf", "vision", "../birds")


@pytest.mark.parametrize("source", ["photographs", "sounds", "reviews"])
def test_an_environment_is_written_that_kedro_reads(source: str, project: Path, request: pytest.FixtureRequest) -> None:
    said: list[str] = []
    path = request.getfixturevalue(source)
    assert train_source(asked(path, project, name="mine", time="10m"), said.append, None) == 0
    text = "\n".join(said)
    for word in ("data   ", "classes", "splits", "encoder", "time        about 10m", "memory      1.0 GB"):
        assert word in text
    modality = survey(str(path)).modality
    conf = project / "conf"
    names = yaml.safe_load((conf / "mine" / "globals.yml").read_text())
    assert names == {"pipeline": f"whole_{modality}", modality: {"corpus": "mine", "recipe": "mine"}}
    recipe = parse(registry.recipe_type(modality), read_recipe(conf, "mine", modality), at=modality)
    assert recipe.ingest.source == str(path)
    assert recipe.finetune.max_updates > 0
    assert recipe.finetune.validation.patience
    assert recipe.finetune.folds == ("fold" if source == "sounds" else None)
    assert recipe.finetune.balance is None
    written = (conf / "mine" / f"parameters_{modality}.yml").read_text()
    assert all(len(line) < 200 for line in written.splitlines())
    assert "d2v train" in written.splitlines()[0]


def test_unequal_classes_are_measured_alike(project: Path, photographs: Path, tmp_path: Path) -> None:
    shutil.copytree(photographs, tmp_path / "pets", ignore=lambda _, names: [one for one in names if one[:1] in "12"])
    for file in list((tmp_path / "pets" / "dog").iterdir())[4:]:
        file.unlink()
    train_source(asked(tmp_path / "pets", project), lambda _: None, None)
    recipe = parse(registry.recipe_type("vision"), read_recipe(project / "conf", "pets", "vision"), at="vision")
    assert recipe.finetune.task.metrics[0] == "macro_f1"


def test_folds_share_the_time_for_fine_tuning(sounds: Path) -> None:
    found = survey(str(sounds))
    one, five = (lengths(found, COSTS, 32, None, 3000.0, models) for models in (1, 5))
    assert sum(five.seconds.values()) == pytest.approx(3000.0, rel=0.02)
    assert five.tune_updates <= one.tune_updates


def test_without_classes_nothing_is_tuned(project: Path, reviews: Path) -> None:
    given = asked(reviews, project, name="plain", epochs=3.0, ingest=("columns.label=",))
    assert train_source(given, lambda _: None, None) == 0
    recipe = parse(registry.recipe_type("text"), read_recipe(project / "conf", "plain", "text"), at="text")
    assert recipe.finetune is None
    assert yaml.safe_load((project / "conf/plain/globals.yml").read_text())["pipeline"] == "pretrain_text"


def test_the_same_command_again_goes_on_and_keeps_what_was_edited(project: Path, photographs: Path) -> None:
    train_source(asked(photographs, project, time="10m"), lambda _: None, None)
    file = project / "conf" / "holiday_photos" / "parameters_vision.yml"
    file.write_text(file.read_text() + "# mine\n")
    said: list[str] = []
    assert train_source(asked(photographs, project), said.append, None) == 0
    assert "goes on where it was" in said[-1]
    assert file.read_text().endswith("# mine\n")
    with pytest.raises(ConfigError, match="remove the folder for a new plan"):
        train_source(asked(photographs, project, time="20m"), said.append, None)


def test_another_source_of_the_same_name_is_refused(project: Path, photographs: Path, tmp_path: Path) -> None:
    train_source(asked(photographs, project), lambda _: None, None)
    other = tmp_path / "Holiday photos"
    shutil.copytree(photographs, other)
    with pytest.raises(ConfigError, match="two data sets never share them: say --name holiday_photos_2"):
        train_source(asked(other, project), lambda _: None, None)


def test_somebody_is_asked(project: Path, photographs: Path) -> None:
    given = dataclasses.replace(asked(photographs, project), yes=False)
    with pytest.raises(ConfigError, match="there is no terminal to ask on whether to go on: say --yes"):
        train_source(given, lambda _: None, None)
    with pytest.raises(ConfigError, match="nothing was written"):
        train_source(given, lambda _: None, lambda _: False)
    assert not (project / "conf" / "holiday_photos").exists()
    assert train_source(given, lambda _: None, lambda _: True) == 0
    assert (project / "conf" / "holiday_photos").is_dir()


def test_budgets_that_contradict_are_refused(project: Path, photographs: Path) -> None:
    for more, said in (({"epochs": 1.0, "time": "3m"}, "two budgets"), ({"epochs": 0.0}, "above 0")):
        with pytest.raises(ConfigError, match=said):
            train_source(asked(photographs, project, **more), lambda _: None, None)


def test_a_project_that_was_made_is_found_again(
    project: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    said: list[str] = []
    for name in ("first", "second"):
        train_source(Asked(str(photographs), name=name, yes=True), said.append, None)
    conf = tmp_path / "elsewhere" / "d2v_project" / "conf"
    assert (conf / "first").is_dir()
    assert (conf / "second").is_dir()
    assert sum("made one in" in line for line in said) == 1


def test_a_project_is_found_from_below_and_made_once(tmp_path: Path) -> None:
    assert find_project(ROOT / "tests" / "planning") == ROOT
    assert find_project(tmp_path) is None
    made = make_project(tmp_path / "new")
    below = made / "conf" / "base"
    assert find_project(below) == made
    assert (made / "conf" / "own_data" / "parameters_text.yml").is_file()
    assert (made / ".telemetry").read_text() == (ROOT / ".telemetry").read_text()
    with pytest.raises(ConfigError, match="is not empty and no project of d2v"):
        make_project(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["photographs", "sounds", "reviews"])
def test_from_a_folder_to_a_tuned_model_in_one_command(
    source: str, request: pytest.FixtureRequest, scratch_environment: dict[str, str], tmp_path: Path
) -> None:
    path = request.getfixturevalue(source)
    command = [sys.executable, "-c", "from d2v.cli import run; run()", "train", str(path), "--epochs", "2", "--yes"]
    done = subprocess.run(
        [*command, "--name", "mine"],
        cwd=tmp_path,
        env={**scratch_environment, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "made one in" in done.stdout
    modality = survey(str(path)).modality
    assert f"is for the pipeline whole_{modality}" in done.stderr + done.stdout
    reports = Path(scratch_environment["D2V_DATA"]) / "08_reporting"
    assert (reports / modality / "mine" / "report.html").is_file()
    assert (reports / f"{modality}_tuned" / "mine-mine" / "metrics.json").is_file()
    (shown,) = [line for line in done.stdout.splitlines() if line.startswith("use it")]
    model = Path(shown.split("--model ")[1].split()[0])
    assert (model / "config.json").is_file()
