"""The typed errors of d2v. Each message is one paragraph that ends with the fix."""

from __future__ import annotations

import signal


class D2vError(Exception):
    """Base of all errors that a user can mend. `exit_code` is the status the command ends with."""

    exit_code = 1


class ConfigError(D2vError):
    """A recipe that cannot be run: unknown keys, wrong values, impossible combinations."""

    exit_code = 2


class DataError(D2vError):
    """A source, a shard or a store that cannot be used."""

    exit_code = 3


class CheckpointError(D2vError):
    """A checkpoint that is damaged, or belongs to other data or another recipe."""

    exit_code = 4


class CollapseError(D2vError):
    """Representations collapsed, or the loss is not finite."""

    exit_code = 5


class LaunchError(D2vError):
    """A training process could not be started or died."""

    exit_code = 6


class Interrupted(D2vError):
    """Ctrl-C or SIGTERM: everything is saved and the same command goes on.

    Args:
        message: for people.
        by: name of the signal; the exit code is the shell's for it, 130 for SIGINT and 143 for SIGTERM.
    """

    def __init__(self, message: str, by: str = "SIGINT") -> None:
        super().__init__(message)
        self.exit_code = 128 + signal.Signals[by]
