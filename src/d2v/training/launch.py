"""Where the ranks of a training come from. One rank runs in the calling process."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from d2v.config import DistributedConfig
from d2v.errors import ConfigError


@dataclass(frozen=True)
class Place:
    """One rank's place among all.

    Attributes:
        rank: from 0.
        ranks: processes that train together.
        device: where this rank computes.
    """

    rank: int
    ranks: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this rank writes files and speaks to people."""
        return self.rank == 0


def check_place(config: DistributedConfig) -> None:
    """Refuse what this version cannot start.

    Raises:
        ConfigError: more than one rank, or a hostfile.
    """
    if config.ranks > 1:
        raise ConfigError(
            f"train.distributed.ranks {config.ranks}: training runs in one process here; set "
            "train.distributed.ranks=1. train.accumulation_steps splits a batch that does not fit the memory."
        )
    if config.hostfile is not None:
        raise ConfigError(
            f"train.distributed.hostfile {config.hostfile!r}: training runs in one process here; "
            "set train.distributed.hostfile=null."
        )


def local_place() -> Place:
    """The only rank, on the first GPU if there is one."""
    name = "cuda:0" if torch.cuda.is_available() else "cpu"
    return Place(rank=0, ranks=1, device=torch.device(name))
