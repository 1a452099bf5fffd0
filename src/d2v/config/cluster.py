"""Where a step that goes through many items computes: in one process, or on a cluster."""

from __future__ import annotations

from typing import Literal

from d2v.config.blocks import Block, NonNegativeInt, PositiveInt

Engine = Literal["local", "dask"]


class ClusterConfig(Block):
    """The cluster of the engine `dask`. No key of it changes what is written."""

    scheduler: str | None = None
    """Address of a dask scheduler, such as `tcp://head:8786`; null: what DASK_SCHEDULER_ADDRESS says, else a cluster of
    this machine, which ends with the command."""
    exchange: str | None = None
    """Folder or URL, such as `s3://bucket/work`, by which workers and the command give each other files; null: beside
    what is made, in the data folder, which all machines then see at the same path. Machines that have an exchange need
    not see that folder. `d2v encode` has its own, the folder that it writes."""
    workers: PositiveInt | None = None
    """Processes of a cluster of this machine; null: one for each core."""
    piece_items: PositiveInt = 1024
    """Items of a piece, the work of a task: fewer lose less with a worker and spread better, more cost less."""
    retries: NonNegativeInt = 3
    """How often a piece is tried again where the storage fails, each time after twice the wait."""
    dashboard: bool = False
    """Whether a cluster of this machine shows dask's pages, on the loopback."""
