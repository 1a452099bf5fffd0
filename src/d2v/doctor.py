"""`d2v doctor`: the versions, devices and limits of this machine, and how to mend problems."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import socket
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

LOW_DISK_BYTES = 10 * 10**9
LOW_MEMORY_BYTES = 3 * 10**9
SQLITE = "sqlite:///"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: subject of the check.
        state: `ok`, `note` (works, but worth knowing) or `problem` (will fail or be much slower).
        detail: the finding, and for a problem the fix.
    """

    name: str
    state: Literal["ok", "note", "problem"]
    detail: str


def examine(project: Path) -> Iterator[Finding]:
    """All findings, in reading order.

    Args:
        project: the project's folder, for its disk and its MLflow store.
    """
    checks: tuple[Callable[[], Finding], ...] = (
        _versions,
        _accelerator,
        _precision,
        _products,
        _cores,
        _ranks,
        _memory,
        _compiler,
        lambda: _disk(project),
        lambda: _store(project),
    )
    for check in checks:
        yield check()


def _versions() -> Finding:
    packages = ("d2v", "torch", "torchvision", "deepspeed", "kedro", "mlflow", "dvc")
    missing = [name for name in packages if not _version(name)]
    if missing:
        return Finding("packages", "problem", f"{', '.join(missing)} missing: run `python3 bootstrap.py`")
    listed = ", ".join(f"{name} {_version(name)}" for name in packages)
    return Finding("packages", "ok", f"Python {platform.python_version()}, {listed}")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _accelerator() -> Finding:
    import torch

    if torch.cuda.is_available():
        gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        listed = ", ".join(f"{gpu.name} ({gpu.total_memory / 2**30:.0f} GiB)" for gpu in gpus)
        return Finding("GPU", "ok", f"{listed}, CUDA {torch.version.cuda}")
    if shutil.which("nvidia-smi"):
        built = torch.version.cuda or "none"
        return Finding("GPU", "problem", f"torch cannot use the GPU (built for CUDA {built}): update the NVIDIA driver")
    return Finding("GPU", "note", "none; training runs on the CPU")


def _precision() -> Finding:
    import torch

    from d2v.training.precision import choose_precision

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision, reason = choose_precision("auto", device)
    return Finding("bf16", "ok", f"precision auto means {precision}: {reason}")


def _products() -> Finding:
    import torch

    from d2v.training.matmul import choose_matmul_backend

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    library, reason = choose_matmul_backend("auto", "fp32", device)
    return Finding("fp32", "ok", f"{library} multiplies: {reason}" if reason else "the GPU multiplies")


def _cores() -> Finding:
    import torch

    usable = _usable_cores()
    threads = torch.get_num_threads()
    if threads < usable // 2:
        return Finding("cores", "problem", f"{usable} usable, but torch takes {threads}: unset OMP_NUM_THREADS")
    return Finding("cores", "ok", f"{usable} usable, torch takes {threads}")


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _ranks() -> Finding:
    """How many processes can train together on this machine, and whether they can speak to one another."""
    import torch

    from d2v.distributed.environment import read_dist_env
    from d2v.errors import ConfigError

    try:
        env = read_dist_env()
    except ConfigError as error:
        return Finding("ranks", "problem", str(error))
    if env.world_size > 1:
        return Finding("ranks", "note", f"this process is one of {env.world_size} that torchrun or srun started")
    gpus = torch.cuda.device_count()
    backends = torch.distributed.is_available() and (
        torch.distributed.is_nccl_available() if gpus else torch.distributed.is_gloo_available()
    )
    if not backends:
        name = "NCCL" if gpus else "gloo"
        return Finding("ranks", "problem", f"1, as this torch has no {name}: install torch with it to train on more")
    if reason := _no_port():
        return Finding("ranks", "problem", f"1, as no port can be opened on this machine ({reason}): allow localhost")
    hosts = "hostfiles work" if shutil.which("pdsh") else "for a hostfile install pdsh"
    if gpus:
        return Finding("ranks", "ok", f"up to {gpus}, one a GPU; {hosts}")
    return Finding("ranks", "ok", f"up to {_usable_cores()} on the CPU, which share its cores; {hosts}")


def _no_port() -> str:
    """Why ranks cannot meet on localhost; empty if they can."""
    try:
        with socket.socket() as env:
            env.bind(("127.0.0.1", 0))
            env.listen()
            socket.create_connection(env.getsockname(), timeout=2.0).close()
    except OSError as error:
        return str(error)
    return ""


def _memory() -> Finding:
    import psutil

    free = psutil.virtual_memory().available
    if free < LOW_MEMORY_BYTES:
        return Finding("memory", "problem", f"{free / 1e9:.1f} GB free, the demo needs about 2: close something")
    return Finding("memory", "ok", f"{free / 1e9:.1f} GB free")


def _compiler() -> Finding:
    """The compiler for DeepSpeed's own operators. Recipes do without them, so nothing here is a problem."""
    import torch

    needed = {"g++": shutil.which("g++") or shutil.which("c++"), "ninja": shutil.which("ninja")}
    if torch.cuda.is_available():
        home = os.environ.get("CUDA_HOME")
        needed["nvcc"] = shutil.which("nvcc", path=f"{home}/bin") if home else shutil.which("nvcc")
    missing = [name for name, path in needed.items() if path is None]
    if missing:
        detail = f"no {' and no '.join(missing)}; only DeepSpeed's own operators need them, and no recipe uses one"
        return Finding("compiler", "note", detail)
    other = _other_cuda(str(needed["nvcc"]), str(torch.version.cuda)) if "nvcc" in needed else ""
    if other:
        return Finding("compiler", "note", other)
    return Finding("compiler", "ok", ", ".join(str(path) for path in needed.values()))


def _other_cuda(nvcc: str, built: str) -> str:
    """A warning if the compiler has another major version than torch's CUDA, else empty."""
    told = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"release (\d+)\.(\d+)", told)
    if found is None or found[1] == built.partition(".")[0]:
        return ""
    return (
        f"nvcc is of CUDA {found[1]}.{found[2]} and torch of {built}; DeepSpeed's own operators, which no recipe uses, "
        f"would need CUDA_HOME to name a toolkit {built}"
    )


def _disk(project: Path) -> Finding:
    free = shutil.disk_usage(project).free
    if free < LOW_DISK_BYTES:
        return Finding("disk", "problem", f"{free / 1e9:.1f} GB free at {project}: free some space before a long run")
    return Finding("disk", "ok", f"{free / 1e9:.0f} GB free at {project}")


def _store(project: Path) -> Finding:
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{project / 'mlflow.db'}"
    if not uri.startswith(SQLITE):
        return Finding("MLflow", "note", f"{uri} (from MLFLOW_TRACKING_URI; not contacted)")
    path = Path(uri.removeprefix(SQLITE))
    if not path.exists():
        return Finding("MLflow", "ok", f"{path} will be made by the first run")
    try:
        with sqlite3.connect(path, timeout=5) as connection:
            (runs,) = connection.execute("select count(*) from runs").fetchone()
    except sqlite3.Error as error:
        return Finding("MLflow", "problem", f"{path} cannot be read ({error}): move it away, a new one is made")
    return Finding("MLflow", "ok", f"{path}, {runs} runs; look at them with `mlflow ui` in {project}")
