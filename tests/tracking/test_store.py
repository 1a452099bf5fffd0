"""The tracking store is at home where its project is, and people get in its way."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from d2v.errors import CheckpointError, known_error
from d2v.lifecycle.promotion import TAG
from d2v.lifecycle.rollback import roll_back
from d2v.tracking import versions
from d2v.tracking.mlflow_tracker import MlflowTracker
from d2v.tracking.registry import register_encoder
from d2v.tracking.store import follow_project, opening
from d2v.tracking.versions import CHAMPION, PREVIOUS
from tests.tracking.test_registry import save

CHANGES = (
    "create_registered_model",
    "create_model_version",
    "set_model_version_tag",
    "update_model_version",
    "set_registered_model_alias",
)


class KilledError(BaseException):
    """The process ends here."""


@pytest.fixture
def killed_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let the process end after so many changes of the registry."""
    left = [0]

    def watched(name: str) -> None:
        change = getattr(MlflowClient, name)

        def counted(*args: object, **kwargs: object) -> object:
            if left[0] == 0:
                raise KilledError
            left[0] -= 1
            return change(*args, **kwargs)

        monkeypatch.setattr(MlflowClient, name, counted)

    for name in CHANGES:
        watched(name)

    def after(changes: int) -> None:
        left[0] = changes

    return after


def state(client: MlflowClient) -> list[tuple[str, dict[str, str], list[str]]]:
    found = client.search_model_versions("name = 'd2v-vision'")
    whole = [client.get_model_version(one.name, one.version) for one in found]
    return sorted((str(one.version), dict(one.tags), sorted(one.aliases)) for one in whole)


@pytest.fixture
def project(tmp_path: Path, empty_store: Path) -> Iterator[Path]:
    """A project with spaces in its path, whose store has a run with a file and a registered model."""
    project = tmp_path / "the original"
    project.mkdir()
    shutil.copy(empty_store, project / "mlflow.db")
    before = mlflow.get_tracking_uri()
    use(project)
    experiment = MlflowClient().create_experiment("d2v", (project / "mlartifacts").as_uri())
    mlflow.set_experiment(experiment_id=experiment)
    with mlflow.start_run(run_name="with a file"):
        mlflow.log_text("kept", "note.txt")
        register_encoder("vision", save(tmp_path / "encoder", seed=0), {"probe/linear": 0.5})
    with mlflow.start_run(run_name="empty"):
        pass
    yield project
    use(None, before)


def use(project: Path | None, uri: str = "") -> None:
    uri = f"sqlite:///{project / 'mlflow.db'}" if project else uri
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)


@pytest.mark.parametrize("original_is_gone", [False, True])
def test_a_copy_of_a_project_reads_and_writes_its_own_files(
    project: Path, tmp_path: Path, original_is_gone: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "a copy"
    shutil.copytree(project, copy)
    if original_is_gone:
        shutil.rmtree(project)
    before = sorted(project.rglob("*"))
    follow_project(copy / "mlflow.db", "d2v", copy / "mlartifacts")
    assert f"go to {copy / 'mlartifacts'} from now on, not to {project / 'mlartifacts'}" in capsys.readouterr().err
    use(copy)
    client = MlflowClient()
    mlflow.set_experiment("d2v")
    with mlflow.start_run(run_name="new") as run:
        mlflow.log_text("new", "note.txt")
        assert (copy / "mlartifacts" / run.info.run_id / "artifacts" / "note.txt").read_text() == "new"
    for old in client.search_runs([run.info.experiment_id]):
        assert old.info.artifact_uri.startswith((copy / "mlartifacts").as_uri())
    version = versions.find("d2v-vision", "challenger")
    assert versions.fetch(version, tmp_path / "fetched").model.is_dir()
    (place,) = {
        Path(client.get_logged_model(one.source.rpartition("/")[2]).artifact_location.removeprefix("file://"))
        for one in client.search_model_versions("name = 'd2v-vision'")
    }
    assert str(place).replace("%20", " ").startswith(str(copy))
    assert sorted(project.rglob("*")) == before, "the original is not written to"
    follow_project(copy / "mlflow.db", "d2v", copy / "mlartifacts")
    assert "from now on" not in capsys.readouterr().err, "said once"


def test_files_that_are_only_in_the_old_folder_stay_there(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path / "larger disk"
    follow_project(project / "mlflow.db", "d2v", elsewhere)
    assert "stay where they were" in capsys.readouterr().err
    client = MlflowClient()
    assert client.get_experiment_by_name("d2v").artifact_location == elsewhere.as_uri()
    with_file, empty = client.search_runs(
        [client.get_experiment_by_name("d2v").experiment_id], order_by=["attributes.start_time"]
    )
    assert mlflow.artifacts.load_text(f"{with_file.info.artifact_uri}/note.txt") == "kept"
    assert empty.info.artifact_uri.startswith(elsewhere.as_uri())


def test_a_store_elsewhere_and_one_that_is_not_there_are_left_alone(tmp_path: Path) -> None:
    follow_project(tmp_path / "none.db", "d2v", tmp_path)
    assert not (tmp_path / "none.db").exists()
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE people (name)")
    follow_project(tmp_path / "other.db", "d2v", tmp_path)


def test_the_second_opening_waits_for_the_first(tmp_path: Path) -> None:
    uri, order = f"sqlite:///{tmp_path / 'mlflow.db'}", []

    def second() -> None:
        with opening(uri):
            order.append("second")

    with opening(uri):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(timeout=0.5)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_store_that_cannot_be_made_names_the_fix(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(CheckpointError, match="set MLFLOW_TRACKING_URI to a file or a server"),
        opening(f"sqlite:///{tmp_path / 'file' / 'mlflow.db'}"),
    ):
        pass


def test_registering_is_all_or_nothing(
    client: MlflowClient, tmp_path: Path, killed_after: Callable[[int], None]
) -> None:
    """Killed at each of its changes, then the same call once: one version of these weights, with all of its tags."""
    for changes in range(100):
        folder = save(tmp_path / str(changes), seed=changes)
        killed_after(changes)
        try:
            with mlflow.start_run():
                register_encoder("vision", folder, {"probe/linear": 0.5})
        except KilledError:
            killed_after(-1)
            assert all("encoder_sha256" in tags for _, tags, _ in state(client)), "no version without its digest"
            with mlflow.start_run():
                register_encoder("vision", folder, {"probe/linear": 0.5})
            whole = state(client)
            assert len(whole) == changes + 1
            number, tags, aliases = max(whole, key=lambda one: int(one[0]))
            assert (number, aliases) == (str(changes + 1), ["challenger"])
            assert {"encoder_sha256", "git_commit", "probe/linear", "recipe_digest", "run_id"} <= tags.keys()
        else:
            assert changes > 5
            return
    pytest.fail("it never ended")


def test_a_rollback_is_all_or_nothing(
    client: MlflowClient, tmp_path: Path, killed_after: Callable[[int], None]
) -> None:
    killed_after(-1)
    with mlflow.start_run():
        for seed in (0, 1):
            register_encoder("vision", save(tmp_path / str(seed), seed), {}, alias=(PREVIOUS, CHAMPION)[seed])
    for changes in range(5):
        champion, previous = versions.find("d2v-vision", CHAMPION), versions.find("d2v-vision", PREVIOUS)
        killed_after(changes)
        try:
            roll_back("d2v-vision")
        except KilledError:
            killed_after(-1)
            roll_back("d2v-vision")
        killed_after(-1)
        assert versions.find("d2v-vision", CHAMPION).number == previous.number, changes
        now = versions.find("d2v-vision", PREVIOUS)
        assert now.number == champion.number, changes
        assert now.tags[TAG].startswith("rolled back")
    assert changes == 4


def test_a_version_outlives_its_run(client: MlflowClient, tmp_path: Path) -> None:
    folder = save(tmp_path / "encoder", seed=0)
    with mlflow.start_run() as run:
        mlflow.set_tag("git_commit", "abc")
        assert register_encoder("vision", folder, {"probe/linear": 0.5}) == "1"
    client.delete_run(run.info.run_id)
    with sqlite3.connect(mlflow.get_tracking_uri().removeprefix("sqlite:///")) as store:  # as `mlflow gc` does
        for table, column in (("tags", "run_uuid"), ("latest_metrics", "run_uuid"), ("runs", "run_uuid")):
            store.execute(f"DELETE FROM {table} WHERE {column} = ?", (run.info.run_id,))
    with pytest.raises(MlflowException):
        client.get_run(run.info.run_id)
    with mlflow.start_run():
        assert register_encoder("vision", folder, {"probe/linear": 0.6}) == "1"
    version = versions.find("d2v-vision", "challenger")
    assert version.tags["git_commit"] == "abc"
    assert version.tags["probe/linear"] == "0.6"


def test_weights_whose_files_were_deleted_are_registered_again(client: MlflowClient, tmp_path: Path) -> None:
    folder = save(tmp_path / "encoder", seed=0)
    with mlflow.start_run():
        assert register_encoder("vision", folder, {}) == "1"
        shutil.rmtree(tmp_path / "artifacts" / "models")
        assert register_encoder("vision", folder, {}) == "2"
        assert register_encoder("vision", folder, {}) == "2"
    assert versions.fetch(versions.find("d2v-vision", "challenger"), tmp_path / "fetched").model.is_dir()


def test_metrics_wait_for_a_store_that_does_not_take_them(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with mlflow.start_run() as run:
        tracker = MlflowTracker(run.info.run_id)
        take = MlflowClient.log_batch

        def away(*_: object, **__: object) -> None:
            raise MlflowException("the server is away\nwith a trace")

        monkeypatch.setattr(MlflowClient, "log_batch", away)
        tracker.log_metrics({"train/loss": 3.0}, 1)
        tracker.log_metrics({"train/loss": 2.0}, 2)
        said = capsys.readouterr().err
        assert said.count("does not take metrics (the server is away); the work goes on") == 1
        monkeypatch.setattr(MlflowClient, "log_batch", take)
        tracker.log_metrics({"train/loss": 1.0}, 3)
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(one.step, one.value) for one in history] == [(1, 3.0), (2, 2.0), (3, 1.0)]


def test_an_error_of_mlflow_ends_a_command_with_one_paragraph() -> None:
    known = known_error(MlflowException("no such run\nand a trace"))
    assert isinstance(known, CheckpointError)
    assert "no such run). What was finished before is kept" in str(known)
