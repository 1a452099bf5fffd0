"""Ranks in processes of their own: results come back, deaths become one error, nothing is left behind."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch

from d2v.config import DistributedConfig
from d2v.distributed import launch as launching
from d2v.distributed.environment import DistEnv, master_address, read_dist_env
from d2v.distributed.launch import ForMain, check_distributed, launch
from d2v.distributed.mailbox import Cause, Outcome
from d2v.distributed.supervisor import Supervisor
from d2v.errors import CollapseError, ConfigError, D2vError, Interrupted, LaunchError
from d2v.modalities.registry import MODALITIES
from tests.conftest import ROOT
from tests.training import targets

TWO = DistributedConfig(ranks=2)


def pids(folder: Path) -> list[int]:
    """The ranks' processes; waits until all have begun."""
    files = [folder / f"pid-{rank}" for rank in range(2)]
    wait_for(lambda: all(file.is_file() and file.read_text() for file in files))
    return [int(file.read_text()) for file in files]


def wait_for(what: Callable[[], bool], seconds: float = 120) -> None:
    end_s = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end_s
        time.sleep(0.05)


def ended(folder: Path) -> bool:
    return not any(is_running(pid) for pid in pids(folder))


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def run_sums(folder: Path, **arguments: object) -> tuple[int, float]:
    return launch(TWO, folder, targets.sums, folder=folder, **arguments)


def signal_when_training(folder: Path, *names: signal.Signals) -> threading.Thread:
    """Send signals to this process, which is the supervisor, once both ranks have done an update."""

    def send() -> None:
        wait_for(lambda: all((folder / f"update-{rank}").is_file() for rank in range(2)))
        for name in names:
            os.kill(os.getpid(), name)
            time.sleep(0.3)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


# ------------------------------------------------------------------------------------- with processes


def test_what_rank_0_returned_comes_back(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    assert run_sums(tmp_path, updates=5) == (2, 4 + 5.0)
    assert ended(tmp_path)
    assert (tmp_path / "logs" / "rank-0001.log").read_text() == "rank 1 speaks\n"
    assert capfd.readouterr().err == "rank 0 speaks\n"
    assert signal.getsignal(signal.SIGINT) is before


def test_an_exception_arrives_with_its_ranks_traceback(tmp_path: Path) -> None:
    with pytest.raises(LaunchError) as caught:
        run_sums(tmp_path, updates=5, act="raise", at=3)
    message = str(caught.value)
    assert message.startswith("rank 1 died, last seen at update ")
    assert 'raise ValueError("no such row")' in message
    assert "the same command resumes" in message
    assert message.endswith("rank-0001.log holds what it said.")
    assert "Traceback" in (tmp_path / "logs" / "rank-0001.log").read_text()
    assert ended(tmp_path)


def test_sigterm_stops_both_ranks_after_the_same_update(tmp_path: Path) -> None:
    sender = signal_when_training(tmp_path, signal.SIGTERM)
    with pytest.raises(Interrupted) as caught:
        run_sums(tmp_path, updates=4000, pause_s=0.05)
    sender.join()
    last = (tmp_path / "update-0").read_text()
    assert str(caught.value) == f"stopped after update {last}"
    assert (tmp_path / "update-1").read_text() == last
    assert caught.value.exit_code == 128 + signal.SIGTERM
    assert ended(tmp_path)


def test_the_ranks_die_with_their_supervisor(tmp_path: Path) -> None:
    supervisor = subprocess.Popen([sys.executable, *call("supervise", tmp_path)], cwd=ROOT, env=environment())
    pids(tmp_path)
    supervisor.kill()
    supervisor.wait()
    wait_for(lambda: ended(tmp_path), seconds=5)


def test_a_rank_that_sleeps_is_named(tmp_path: Path) -> None:
    began_s = time.monotonic()
    with pytest.raises(LaunchError) as caught:
        run_sums(tmp_path, updates=5, act="sleep", at=2, timeout_s=2)
    message = str(caught.value)
    assert message.startswith("rank 1 hangs: no progress for 2 s at update 2, in 'data'; rank 0 waits at update 2, in")
    assert "time.sleep(600)" in message, "where it hangs"
    assert time.monotonic() - began_s < 30
    assert ended(tmp_path)


def test_ranks_that_torchrun_started_train_twice(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["--no-python", sys.executable, *call("sum_in_parts", tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "sums").read_text() == "[(2, 3.0), (2, 5.0)]"
    assert not (tmp_path / "logs").exists(), "no ranks of ranks"


@pytest.mark.slow
def test_ranks_without_torchrun_meet_at_rank_0(tmp_path: Path) -> None:
    """As with srun: rank 0 keeps the store, and the others come before it does."""
    processes = []
    for rank in (1, 0):
        env = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29777"}
        command = [sys.executable, *call("sum_in_parts", tmp_path)]
        processes.append(subprocess.Popen(command, cwd=ROOT, env=environment() | env))
        time.sleep(4)
    assert [process.wait(60) for process in processes] == [0, 0]
    assert (tmp_path / "sums").read_text() == "[(2, 3.0), (2, 5.0)]"


@pytest.mark.slow
def test_a_killed_rank_is_named_with_its_signal(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=r"(?s)rank 1 was killed by SIGKILL, last seen at update .* out of memory"):
        run_sums(tmp_path, updates=5, act="kill")
    assert ended(tmp_path)


@pytest.mark.slow
def test_a_rank_that_leaves_is_named(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=r"rank 1 ended with exit status 0, last seen at update "):
        run_sums(tmp_path, updates=5, act="leave")
    assert ended(tmp_path)


@pytest.mark.slow
def test_a_frozen_rank_is_named(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=r"rank 1 hangs: .* its process does not answer; rank 0 waits"):
        run_sums(tmp_path, updates=5, act="freeze", timeout_s=2)
    assert ended(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("act", "kind"), [("collapse", CollapseError), ("odd", D2vError)])
def test_an_error_of_ours_keeps_its_class(tmp_path: Path, act: str, kind: type[D2vError]) -> None:
    with pytest.raises(kind) as caught:
        run_sums(tmp_path, updates=5, act=act)
    assert type(caught.value) is kind
    assert caught.value.exit_code == CollapseError.exit_code
    assert ended(tmp_path)


@pytest.mark.slow
def test_ctrl_c_stops_and_a_second_one_kills(tmp_path: Path) -> None:
    sender = signal_when_training(tmp_path, signal.SIGINT)
    with pytest.raises(Interrupted) as caught:
        run_sums(tmp_path, updates=4000, pause_s=0.05)
    sender.join()
    assert caught.value.exit_code == 128 + signal.SIGINT
    for file in tmp_path.glob("update-*"):
        file.unlink()
    sender = signal_when_training(tmp_path, signal.SIGINT, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run_sums(tmp_path, updates=100, pause_s=5)
    sender.join()
    assert ended(tmp_path)


def call(target: str, folder: Path) -> list[str]:
    """Arguments of Python for a target that is not in `__main__`."""
    program = f"import sys, pathlib; from tests.training import targets; targets.{target}(pathlib.Path(sys.argv[1]))"
    return ["-c", program, str(folder)]


def environment() -> dict[str, str]:
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}


# ---------------------------------------------------------------------------------- without processes


def test_one_rank_is_a_plain_call(tmp_path: Path) -> None:
    here = os.getpid()
    assert launch(DistributedConfig(), tmp_path, os.getpid) == here
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_sent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.distributed\.ranks=1"):
        launch(TWO, tmp_path, targets.sums, folder=lambda: tmp_path)


def test_modalities_can_be_sent() -> None:
    for name, modality in MODALITIES.items():
        assert pickle.loads(pickle.dumps(modality)).name == name


def test_only_rank_0_unpacks_what_is_for_it() -> None:
    assert ForMain(7).open() == 7
    packed = pickle.dumps(ForMain(launching.DistEnv(0, 1, device_type="cpu")))
    assert pickle.loads(packed).open().is_main


def supervise(*outcomes: Outcome) -> D2vError:
    supervisor = Supervisor(TWO, Path("run"))
    supervisor._outcomes = {outcome.rank: outcome for outcome in outcomes}
    with pytest.raises(D2vError) as caught:
        supervisor._result(None)
    return caught.value


def test_the_reason_is_told_and_not_what_followed_from_it() -> None:
    cut_off = Outcome(0, Cause.CUT_OFF, headline="rank 0 died: Connection closed by peer", order=1)
    killed = Outcome(1, Cause.KILLED, headline="rank 1 was killed by SIGKILL", order=2)
    failed = Outcome(1, Cause.FAILED, headline="rank 1 died: ValueError", order=2)
    aborted = Outcome(0, Cause.VANISHED, headline="rank 0 was killed by SIGABRT")
    stopped = Outcome(0, Cause.STOPPED, error=Interrupted("stopped"), order=1)
    assert "rank 1 was killed" in str(supervise(cut_off, killed))
    assert "rank 1 died" in str(supervise(cut_off, failed))
    assert "rank 1 died" in str(supervise(aborted, failed))
    assert "rank 1 died" in str(supervise(stopped, failed))
    accused = Outcome(1, Cause.FAILED, headline="rank 1 hangs", stack="where", accused=True, order=2)
    accuser = Outcome(0, Cause.FAILED, headline="rank 1 hangs", order=1)
    assert "where" in str(supervise(accuser, accused))


@pytest.mark.parametrize(
    ("variables", "env"),
    [
        ({}, DistEnv()),
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}, DistEnv(3, 4, 1, 2)),
        ({"SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "8", "SLURM_LOCALID": "1"}, DistEnv(5, 8, 1)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, DistEnv()),  # a batch script, before srun
    ],
)
def test_ranks_come_from_the_environment(variables: dict[str, str], env: DistEnv) -> None:
    assert read_dist_env(variables) == env


@pytest.mark.parametrize("variables", [{"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "a", "WORLD_SIZE": "2"}])
def test_a_rank_that_cannot_be_is_refused(variables: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="torchrun"):
        read_dist_env(variables)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("gpu[007-012,20],cpu1", "gpu007"), ("a,b", "a"), ("n[1-2]-ib", "n1-ib"), ("one", "one")],
)
def test_slurm_ranks_meet_on_the_first_machine(nodes: str, first: str) -> None:
    host, port = master_address({"SLURM_JOB_NODELIST": nodes, "SLURM_JOB_ID": "123456"})
    assert host == first
    assert 20_000 <= port < 30_000


def test_ranks_need_a_meeting_point() -> None:
    assert master_address({"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}) == ("10.0.0.1", 29500)
    with pytest.raises(ConfigError, match="MASTER_ADDR"):
        master_address({})


def test_ranks_must_be_those_that_were_started(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"set train\.distributed\.ranks=4"):
        check_distributed(TWO)
    check_distributed(DistributedConfig(ranks=4))


def test_each_rank_needs_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_distributed(TWO)
    with pytest.raises(ConfigError, match=r"set train\.distributed\.ranks=2"):
        check_distributed(DistributedConfig(ranks=3))
    for name, value in {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert read_dist_env().device == torch.device("cuda:1")
