"""One rank: `python -m d2v.distributed.worker --store HOST:PORT --logs FOLDER`.

The supervisor starts it or, on the machines of a hostfile, DeepSpeed's launcher does. It takes the call from the
store, makes it, and tells how it ended.
"""

from __future__ import annotations

import argparse
import os
import pickle
import re
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d2v.distributed.environment import STORE, DistEnv, read_dist_env
from d2v.errors import D2vError, Interrupted, LaunchError
from d2v.processes import die_with_parent

if TYPE_CHECKING:
    from d2v.distributed.mailbox import Outcome

_CUT_OFF = re.compile(r"gloo|nccl|connection (closed|reset|refused)|broken pipe|socket timeout", re.IGNORECASE)
"""What torch's own errors say when the other end is gone."""


def main() -> int:
    """Returns the exit status: 0, that of a D2vError, or 1."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", required=True)
    parser.add_argument("--logs", type=Path, required=True)
    options = parser.parse_args()
    die_with_parent()
    os.environ[STORE] = options.store
    if "LOCAL_SIZE" in os.environ:  # DeepSpeed's name for it
        os.environ.setdefault("LOCAL_WORLD_SIZE", os.environ["LOCAL_SIZE"])
    env = read_dist_env()
    if not env.is_main:
        _write_to(log_of(options.logs, env.rank))
    _prepare_torch(env)
    return _work(env, options.store)


def log_of(logs: Path, rank: int) -> Path:
    """Where a rank other than 0 writes what it has to say."""
    return logs / f"rank-{rank:04d}.log"


def _write_to(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)


def _prepare_torch(env: DistEnv) -> None:
    """Set what torch reads when it is imported: a fair share of the cores, and no C++ stack of a lost connection in
    front of the one line that says why it was lost."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // (env.local_world_size or 1))))
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def _work(env: DistEnv, address: str) -> int:
    from d2v.distributed.mailbox import Mailbox, Outcome, connect

    mailbox = Mailbox(connect(address))
    try:
        target, arguments = _take(mailbox.call())
        result = target(**arguments)
    except BaseException as error:
        if not env.is_main:
            traceback.print_exc()
        mailbox.put_outcome(_failure(env.rank, error, mailbox.where(env.rank)))
        return error.exit_code if isinstance(error, D2vError) else 1
    mailbox.put_outcome(Outcome(env.rank, result=result if env.is_main else None))
    return 0


def _take(call: bytes) -> Any:
    try:
        return pickle.loads(call)
    except (AttributeError, ImportError) as error:
        raise LaunchError(
            f"a rank cannot find what it is to run ({error}): put the classes and functions that you pass to training "
            "into a module that Python can import, not into a script or a notebook, or set train.distributed.ranks=1."
        ) from error


def _failure(rank: int, error: BaseException, where: str) -> Outcome:
    from d2v.distributed.mailbox import STACK_CHARACTERS, Cause, Outcome

    if isinstance(error, D2vError):
        return Outcome(rank, Cause.STOPPED if isinstance(error, Interrupted) else Cause.FAILED, error=_sendable(error))
    if isinstance(error, KeyboardInterrupt):
        return Outcome(rank, Cause.STOPPED)
    text = f"rank {rank} died, {where}: {type(error).__name__}: {error}"
    cause = Cause.CUT_OFF if _is_cut_off(error) else Cause.FAILED
    stack = "".join(traceback.format_exception(error))[-STACK_CHARACTERS:]
    return Outcome(rank, cause, headline=text[:STACK_CHARACTERS], stack=stack)


def _is_cut_off(error: BaseException) -> bool:
    import torch

    lost = isinstance(error, torch.distributed.DistError)
    return lost or (isinstance(error, RuntimeError | OSError) and bool(_CUT_OFF.search(str(error))))


def _sendable(error: D2vError) -> D2vError:
    """The error itself, or its text and exit code where its class cannot be rebuilt from a pickle."""
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        plain = D2vError(str(error))
        plain.exit_code = error.exit_code
        return plain


if __name__ == "__main__":
    sys.exit(main())
