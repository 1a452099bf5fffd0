"""What a step hands to the engine `dask`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from d2v.config import ClusterConfig
from d2v.data.sources.source import Source


@dataclass(frozen=True)
class Remote:
    """An ingest on a cluster.

    Attributes:
        open_source: opens the source on a worker; it is pickled.
        config: the cluster.
    """

    open_source: Callable[[], Source]
    config: ClusterConfig
