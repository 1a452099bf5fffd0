"""What a step hands to the engine `dask`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from d2v.config import ClusterConfig
from d2v.data.sources.listing import Found
from d2v.data.sources.source import Source


@dataclass(frozen=True)
class Remote:
    """An ingest on a cluster.

    Attributes:
        open_source: opens the source on a worker; it is pickled.
        config: the cluster.
        options: of the source's file system, for workers that are told which files to read.
        listings: folders that were listed when the source was opened here, so that workers need not do it.
    """

    open_source: Callable[[], Source]
    config: ClusterConfig
    options: Mapping[str, Any] = field(default_factory=dict)
    listings: dict[str, list[Found]] = field(default_factory=dict)
