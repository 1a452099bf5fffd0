"""Hostfiles, and ranks on two machines played by this one: `pdsh` and `ssh` are small stand-ins in front of PATH."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from d2v.config import DistributedConfig
from d2v.distributed import hosts
from d2v.distributed.launch import check_distributed, launch
from d2v.errors import ConfigError, Interrupted, LaunchError
from tests.distributed.test_launch import ended, signal_when_training
from tests.training import targets

PDSH = """#!{python}
# pdsh -S -f FANOUT -w HOSTS COMMAND...: the command on each host, here in shells of this machine.
import subprocess, sys
hosts = sys.argv[sys.argv.index("-w") + 1].split(",")
words = sys.argv[sys.argv.index("-w") + 2:]
run = [subprocess.Popen(["sh", "-c", " ".join(words).replace("%n", str(n))]) for n in range(len(hosts))]
sys.exit(max(abs(process.wait()) for process in run))
"""


@pytest.fixture
def hostfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in {"pdsh": PDSH.format(python=sys.executable), "ssh": "#!/bin/sh\nhostname\n"}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(tools), os.environ["PATH"]]))
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    file = tmp_path / "hosts"
    file.write_text("# two machines\n127.0.0.1 slots=1\n\n127.0.0.2 slots=1  # the same one\n")
    return file


def test_a_hostfile_is_read_in_order(hostfile: Path) -> None:
    assert list(hosts.read_hosts(hostfile).items()) == [("127.0.0.1", 1), ("127.0.0.2", 1)]


@pytest.mark.parametrize("line", ["host", "host slots=0", "host slots=two", "127.0.0.1 slots=1"])
def test_a_bad_line_is_named(hostfile: Path, line: str) -> None:
    hostfile.write_text(f"127.0.0.1 slots=1\n{line}\n")
    with pytest.raises(ConfigError, match="line 2"):
        hosts.read_hosts(hostfile)


def test_ranks_must_be_the_hostfiles_slots(hostfile: Path) -> None:
    check_distributed(DistributedConfig(ranks=2, hostfile=str(hostfile)))
    with pytest.raises(ConfigError, match=r"set train\.distributed\.ranks=2"):
        check_distributed(DistributedConfig(ranks=3, hostfile=str(hostfile)))
    with pytest.raises(ConfigError, match=r"set train\.distributed\.hostfile=null"):
        check_distributed(DistributedConfig(ranks=2, hostfile="nowhere"))


def test_other_machines_need_pdsh(hostfile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="pdsh and ssh"):
        hosts.check_hosts(hostfile, 2)


def test_the_address_is_one_that_the_hosts_see(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hosts.own_address({"127.0.0.1": 1}) == "127.0.0.1"
    with pytest.raises(ConfigError, match=hosts.ADDRESS):
        hosts.own_address({"no.such.host.invalid": 1})
    monkeypatch.setenv(hosts.ADDRESS, "10.1.2.3")
    assert hosts.own_address({"no.such.host.invalid": 1}) == "10.1.2.3"


@pytest.mark.slow
def test_two_machines_train_together(hostfile: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = DistributedConfig(ranks=2, hostfile=str(hostfile))
    assert launch(config, tmp_path, targets.sums, folder=tmp_path, updates=5) == (2, 9.0)
    assert capfd.readouterr().err == "rank 0 speaks\n"
    assert (tmp_path / "logs" / "rank-0001.log").read_text() == "rank 1 speaks\n"
    assert ended(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("act", "says"),
    [
        ("raise", "(?s)rank 1 died, .*no such row"),
        ("kill", "(?s)^ended without a word: rank 1 .last seen at .*return code = -9"),
    ],
)
def test_a_death_on_another_machine_is_told(hostfile: Path, tmp_path: Path, act: str, says: str) -> None:
    config = DistributedConfig(ranks=2, hostfile=str(hostfile))
    with pytest.raises(LaunchError, match=says):
        launch(config, tmp_path, targets.sums, folder=tmp_path, updates=5, act=act)
    assert ended(tmp_path)


@pytest.mark.slow
def test_sigterm_reaches_other_machines(hostfile: Path, tmp_path: Path) -> None:
    config = DistributedConfig(ranks=2, hostfile=str(hostfile))
    sender = signal_when_training(tmp_path, signal.SIGTERM)
    with pytest.raises(Interrupted):
        launch(config, tmp_path, targets.sums, folder=tmp_path, updates=4000, pause_s=0.05)
    sender.join()
    assert (tmp_path / "update-0").read_text() == (tmp_path / "update-1").read_text()
    assert ended(tmp_path)
