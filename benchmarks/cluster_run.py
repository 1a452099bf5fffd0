"""One ingest of `benchmarks.cluster`, run as a file: the package imports torch, whose memory would count.

Arguments: source, corpus, workers.
"""

from __future__ import annotations

import json
import resource
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

from d2v.config import ClusterConfig
from d2v.data import workers as child_processes
from d2v.modalities.registry import get
from d2v.modalities.vision.config import VisionIngestConfig

LOOK_S = 0.2


def run(source: Path, out: Path, workers: int) -> dict[str, float]:
    """Ingest in this process, or with some workers: its seconds, those of all processors, and MB."""
    config = VisionIngestConfig(
        source=str(source), engine="dask" if workers else "local", cluster=ClusterConfig(workers=workers or None)
    )
    with _Peaks() as peaks:
        began_s = time.perf_counter()
        get("vision").ingest(config, out)
        seconds = time.perf_counter() - began_s
    child_processes._server.close()  # processes count when they have ended
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "seconds": seconds,
        "cpu": sum(one.ru_utime + one.ru_stime for one in used),
        "driver": peaks.own_bytes / 1e6,
        "worker": peaks.other_bytes / 1e6,
    }


class _Peaks:
    """Resident memory of this process and of the largest that it started, looked at five times a second.

    The system's own maximum begins with that of the process that one was forked from.
    """

    def __init__(self) -> None:
        self.own_bytes = self.other_bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> _Peaks:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        own = psutil.Process()
        while not self._ended.wait(LOOK_S):
            self.own_bytes = max(self.own_bytes, own.memory_info().rss)
            for process in own.children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    self.other_bytes = max(self.other_bytes, process.memory_info().rss)


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))))
