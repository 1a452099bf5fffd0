"""One ingest of `benchmarks.cluster`, run as a file: the package imports torch, whose memory would count.

Arguments: source, corpus, workers.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from d2v.config import ClusterConfig
from d2v.data import workers as child_processes
from d2v.modalities.registry import get
from d2v.modalities.vision.config import VisionIngestConfig


def run(source: Path, out: Path, workers: int) -> dict[str, float]:
    """Ingest in this process, or with some workers: its seconds, those of all processors, and MB."""
    config = VisionIngestConfig(
        source=str(source), engine="dask" if workers else "local", cluster=ClusterConfig(workers=workers or None)
    )
    began_s = time.perf_counter()
    get("vision").ingest(config, out)
    seconds = time.perf_counter() - began_s
    child_processes._server.close()  # processes count when they have ended
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "seconds": seconds,
        "cpu": sum(one.ru_utime + one.ru_stime for one in used),
        "driver": used[0].ru_maxrss / 1e3,
        "worker": used[1].ru_maxrss / 1e3,
    }


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))))
