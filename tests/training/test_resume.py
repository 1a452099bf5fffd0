"""A run that was killed goes on as if nothing had happened."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from d2v.errors import CheckpointError
from d2v.training import checkpoint, resume
from d2v.training.history import History
from tests.checkpoints import stored
from tests.training.fakes import make_recipe, train_fake

ROOT = Path(__file__).parents[2]
RECIPE = make_recipe(log_every_updates=1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("whole")
    train_fake(out, RECIPE)
    torch.set_num_threads(threads)
    return out


def comparable(path: Path) -> list[dict[str, float]]:
    """History without times."""
    rows = History.read(path / "history.csv").rows
    return [{name: value for name, value in row.items() if not name.startswith("perf/")} for row in rows]


def assert_same_run(one: Path, two: Path) -> None:
    assert comparable(one) == comparable(two)
    newest = "checkpoints/update-00000012"
    a, b = (stored(out / newest) for out in (one, two))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_checkpoint_of_before_a_field_was_known_has_its_default(whole: Path, tmp_path: Path) -> None:
    old = tmp_path / "checkpoints"
    shutil.copytree(whole / "checkpoints", old)
    for state in old.glob("*/state.json"):
        content = json.loads(state.read_text())
        del content["matmul_backend"], content["checksum"]
        content["checksum"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        state.write_text(json.dumps(content))
    found = checkpoint.newest(old)
    assert found is not None
    assert (found.state.update, found.state.matmul_backend) == (12, "blas")


@pytest.mark.parametrize("kill_at", [8])
def test_sigkill_then_the_same_command_is_bit_equal(whole: Path, tmp_path: Path, kill_at: int) -> None:
    command = [sys.executable, "-m", "tests.training.killed", str(tmp_path), str(kill_at)]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, env=None)
    assert killed.returncode == -9, killed.stderr.decode()
    result = train_fake(tmp_path, RECIPE)
    assert result.resumed_from == 5
    assert_same_run(whole, tmp_path)


def cut_short(folder: Path) -> None:
    path = folder / "trained.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def flip_a_bit(folder: Path) -> None:
    path = folder / "exp_avg.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def lose_a_file(folder: Path) -> None:
    (folder / "history.csv").unlink()


def change_the_state(folder: Path) -> None:
    path = folder / "state.json"
    path.write_text(path.read_text().replace('"update": 10', '"update": 11'))


def stop_at(out: Path, update: int) -> None:
    """A run that failed after `update`, by a probe that raises."""

    class StopError(Exception):
        pass

    def probe(encoder: torch.nn.Module, update: int) -> dict[str, float]:
        raise StopError

    recipe = make_recipe(log_every_updates=1, probe_every_updates=update)
    with pytest.raises(StopError):
        train_fake(out, recipe, probe=probe)


@pytest.mark.parametrize("damage", [cut_short, flip_a_bit, lose_a_file, change_the_state])
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(
    whole: Path, tmp_path: Path, damage, capsys: pytest.CaptureFixture[str]
) -> None:
    stop_at(tmp_path, 11)
    damage(tmp_path / "checkpoints/update-00000010")
    result = train_fake(tmp_path, make_recipe(log_every_updates=1, probe_every_updates=11))
    assert result.resumed_from == 5
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert "update-00000010 is damaged" in warnings[0]
    assert_same_run(whole, tmp_path)


def test_nothing_usable_is_an_error_with_a_fix(tmp_path: Path) -> None:
    stop_at(tmp_path, 6)
    cut_short(tmp_path / "checkpoints/update-00000005")
    with pytest.raises(CheckpointError, match=r"No checkpoint in .* can be used .*train.resume=restart"):
        train_fake(tmp_path, make_recipe(probe_every_updates=6))


def test_a_full_disk_keeps_what_was_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = checkpoint.save_file

    def full(tensors: dict[str, torch.Tensor], path: Path) -> None:
        if "00000010" in str(path):
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        written(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(CheckpointError, match=r"checkpoints: .*No space left on device.* needs about .* are free"):
        train_fake(tmp_path, RECIPE)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["update-00000005"]
    monkeypatch.undo()
    assert train_fake(tmp_path, RECIPE).resumed_from == 5


def test_too_little_room_is_seen_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = checkpoint.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(CheckpointError, match="no space left"):
        train_fake(tmp_path, RECIPE)
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_damaged_checkpoints_are_not_counted_as_kept(tmp_path: Path) -> None:
    stop_at(tmp_path, 6)
    folder = tmp_path / "checkpoints"
    (folder / "update-00000099").mkdir()
    (folder / ".update-00000003.old").mkdir()
    checkpoint.prune(folder, keep=1)
    assert (folder / "update-00000005/state.json").is_file()
    assert not (folder / ".update-00000003.old").exists(), "what a kill left of a checkpoint that was being removed"


def test_a_run_that_ends_removes_what_a_kill_put_off(tmp_path: Path) -> None:
    """It came behind the last checkpoint, so that there is none to save and no update to make."""
    train_fake(tmp_path, RECIPE)
    (tmp_path / resume.RESULT).unlink()
    folder = tmp_path / "checkpoints"
    before = sorted(path.name for path in folder.iterdir())
    shutil.copytree(folder / before[-1], folder / "update-00000001")
    train_fake(tmp_path, RECIPE)
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_stored_recipe_means_the_defaults_of_keys_that_it_lacks() -> None:
    kind, stored = type(RECIPE), resume.shaping(RECIPE)
    older = json.loads(json.dumps(stored))
    del older["objective"]["targets"]["average_norms"]
    assert resume.differences("train", kind, (older, "data"), (stored, "data")) == []
    other = json.loads(json.dumps(stored))
    other["objective"]["targets"]["average_norms"] = ["position"]
    assert resume.differences("train", kind, (older, "data"), (other, "data")) == [
        f"train.objective.targets.average_norms: {stored['objective']['targets']['average_norms']} -> ['position']"
    ]


def test_crops_that_are_not_rounded_leave_no_trace_in_what_shapes_a_run() -> None:
    """Digests of recipes of before stay as they are."""
    budget = {"positions": 64, "multiple_of": 2}
    plain = make_recipe(batch_size=None, batch_budget=budget)
    rounded = make_recipe(batch_size=None, batch_budget=budget | {"crop_multiple": 16})
    assert "crop_multiple" not in resume.shaping(plain)["batch_budget"]
    assert resume.differences("train", type(plain), (resume.shaping(plain), "f"), (resume.shaping(rounded), "f")) == [
        "train.batch_budget.crop_multiple: not set -> 16"
    ]


def test_a_stored_recipe_that_would_be_refused_today_is_compared_as_it_is() -> None:
    kind, stored = type(RECIPE), resume.shaping(RECIPE)
    assert resume.differences("train", kind, (stored | {"gone": 1}, "data"), (stored, "data")) == [
        "train.gone: 1 -> not set"
    ]
