"""Ranks on several machines: a hostfile, and DeepSpeed's launcher, which starts them over ssh with pdsh.

The machines need the project at the same path with the same environment (a shared file system), and ssh without a
password from here. DeepSpeed sends along PYTHON*, MLFLOW* and what `.deepspeed_env` lists.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from d2v.distributed.launcher import WORKER, Launcher
from d2v.distributed.mailbox import Mailbox
from d2v.errors import ConfigError

ADDRESS = "D2V_MASTER_ADDR"
"""Environment variable: the address of this machine that the others can reach, where the guess is wrong."""
_LINES_KEPT = 30
_END_S = 10.0
"""How long the machines may take to end when they are told to."""
_CHATTER = re.compile(r"\[INFO\] \[(launch|runner|multinode_runner)\.py")


def read_hosts(hostfile: Path) -> dict[str, int]:
    """Machines and their ranks, in the order of ranks, from lines `host slots=ranks`; `#` begins a comment.

    Raises:
        ConfigError: the file is missing or a line cannot be read.
    """
    try:
        lines = hostfile.read_text().splitlines()
    except OSError as error:
        raise ConfigError(
            f"train.distributed.hostfile {str(hostfile)!r} cannot be read ({error.strerror}): make it with a line "
            "`host slots=ranks` for each machine, or set train.distributed.hostfile=null."
        ) from error
    hosts: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = re.fullmatch(r"\s*(\S+)\s+slots=([1-9]\d*)\s*(#.*)?", line)
        if found is None or found[1] in hosts:
            raise ConfigError(
                f"train.distributed.hostfile {str(hostfile)!r}, line {number}: {line!r} should read "
                "`host slots=ranks`, and each host comes once. Correct that line."
            )
        hosts[found[1]] = int(found[2])
    return hosts


def check_hosts(hostfile: Path, ranks: int) -> None:
    """Refuse a hostfile that does not hold `ranks` slots, or that cannot be used from here.

    Raises:
        ConfigError: see above.
    """
    hosts = read_hosts(hostfile)
    slots = sum(hosts.values())
    if slots != ranks:
        raise ConfigError(
            f"train.distributed.ranks {ranks}: the hostfile {str(hostfile)!r} has {slots} slots on {len(hosts)} "
            f"machine(s); set train.distributed.ranks={slots}, or change the slots."
        )
    missing = [tool for tool in ("pdsh", "ssh") if shutil.which(tool) is None]
    if missing:
        raise ConfigError(
            f"train.distributed.hostfile needs {' and '.join(missing)} on this machine (Debian and Ubuntu: apt install "
            "pdsh openssh-client). With Slurm, srun starts the ranks without it: see docs/scale.md."
        )


def own_address(hosts: dict[str, int]) -> str:
    """This machine's address as the others see it: the one from which packets to them would leave.

    Raises:
        ConfigError: a host has no address here, as its name is one of ssh's own.
    """
    if ADDRESS in os.environ:
        return os.environ[ADDRESS]
    own = ""
    for host in hosts:
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.connect((host, 9))  # sends nothing; any port will do
                own = probe.getsockname()[0]
        except OSError as error:
            raise ConfigError(
                f"the host {host!r} of the hostfile has no address here ({error}): set {ADDRESS} to an address of this "
                "machine that the hosts can reach."
            ) from error
        if not own.startswith("127."):
            return own
    return own


class HostLauncher(Launcher):
    """Ranks on the machines of a hostfile, below one process here: DeepSpeed's launcher.

    They are reached through the store only: its notes ask them to stop or to end, and they end when it is gone. A
    process that is frozen there stays until it wakes.

    Args:
        hostfile: the machines.
    """

    listens_on = ""

    def __init__(self, hostfile: Path) -> None:
        super().__init__()
        self.host = own_address(read_hosts(hostfile))
        self._hostfile = hostfile.absolute()

    def start(self, arguments: list[str]) -> None:
        """Start DeepSpeed's launcher, which starts the ranks."""
        # One machine goes through pdsh, too (force_multi): it may be another than this.
        options = [f"--hostfile={self._hostfile}", f"--master_addr={self.host}", "--force_multi"]
        command = [sys.executable, "-m", "deepspeed.launcher.runner", *options, "--module", "--no_local_rank", WORKER]
        process = self._start(
            [*command, *arguments],
            dict(os.environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._relay = threading.Thread(target=self._repeat, args=(process.stdout,), daemon=True)
        self._relay.start()

    def status_of(self, rank: int) -> int | None:
        return None

    def stop(self, signal_name: str, mailbox: Mailbox) -> None:
        mailbox.ask_to_stop(signal_name)

    def kill(self, mailbox: Mailbox) -> None:
        mailbox.abort()
        if self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._processes[0].wait(_END_S)
            super().kill(mailbox)
            self._relay.join(_END_S)

    def _repeat(self, lines: Iterable[str]) -> None:
        """Pass on what the machines say, without what DeepSpeed's launcher says of itself on each of them."""
        kept: deque[str] = deque(maxlen=_LINES_KEPT)
        for line in lines:
            if not _CHATTER.search(line):
                kept.append(line)
                self.last_lines = "".join(kept)
                print(line, end="", file=sys.stderr, flush=True)
