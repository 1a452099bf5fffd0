"""The ingest step for text."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from d2v.data.ingest import IngestReport
from d2v.data.ingest import ingest as run_ingest
from d2v.modalities.text.config import TextIngestConfig
from d2v.modalities.text.reading import FACTS, TEXTS, read_document
from d2v.modalities.text.sources import open_source


def ingest(config: TextIngestConfig, out: Path) -> IngestReport:
    """Read a source of documents into the corpus folder `out`.

    Raises:
        DataError: the source is not there, is empty, or holds no usable document; the disk is full.
    """
    return run_ingest(
        open_source(config),
        partial(read_document, config=config),
        FACTS,
        out,
        parameters=config.model_dump(mode="json", exclude={"source", "shard_bytes"}),
        shard_bytes=config.shard_bytes,
        test_fraction=config.test_fraction,
        texts=TEXTS,
    )
