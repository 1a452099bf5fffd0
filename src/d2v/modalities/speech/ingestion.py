"""The ingest step for recordings."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from d2v.data.ingest import IngestReport
from d2v.data.ingest import ingest as run_ingest
from d2v.modalities.speech.config import SpeechIngestConfig
from d2v.modalities.speech.reading import FACTS, read_recording
from d2v.modalities.speech.sources import TEXTS, open_source


def ingest(config: SpeechIngestConfig, out: Path) -> IngestReport:
    """Read a source of recordings into the corpus folder `out`.

    Raises:
        DataError: the source is not there, is empty, or holds no usable recording; the disk is full.
    """
    return run_ingest(
        open_source(config),
        partial(read_recording, config=config),
        FACTS,
        out,
        parameters=config.model_dump(mode="json", exclude={"source", "shard_bytes"}),
        shard_bytes=config.shard_bytes,
        test_fraction=config.test_fraction,
        texts=TEXTS,
    )
