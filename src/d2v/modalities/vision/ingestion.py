"""The ingest step for images."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from d2v.data.ingest import IngestReport
from d2v.data.ingest import ingest as run_ingest
from d2v.modalities.vision.config import VisionIngestConfig
from d2v.modalities.vision.reading import FACTS, read_image
from d2v.modalities.vision.sources import open_source


def ingest(config: VisionIngestConfig, out: Path) -> IngestReport:
    """Read a source of images into the corpus folder `out`.

    Raises:
        DataError: the source is not there, is empty, or holds no usable image; the disk is full.
    """
    return run_ingest(
        open_source(config),
        partial(read_image, config=config),
        FACTS,
        out,
        parameters=config.model_dump(mode="json", exclude={"source", "shard_bytes"}),
        shard_bytes=config.shard_bytes,
        test_fraction=config.test_fraction,
    )
