"""Symlink views of folders, without copies: some items of a corpus, and prepared data as an encoder knows it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from d2v.data import fingerprint
from d2v.data.digests import DIGESTS
from d2v.data.disk import read_json, write_json
from d2v.data.ingest import CORPUS, MANIFEST, SHARDS
from d2v.data.prepared import PREPARED, PREPARED_KEYS, read_corpus
from d2v.errors import DataError
from d2v.modalities.base import Modality

_OF_THE_DATA = ("class_names", "source", "data_fingerprint")
"""Facts about the data in an encoder's config.json that do not change how inputs are made."""


def some_items(corpus: Path, chosen: np.ndarray, out: Path) -> Path:
    """A corpus folder of some items, on the shards of another.

    Args:
        corpus: folder that ingest left.
        chosen: (n,) bool, by the manifest's rows.
        out: folder to make; returned.
    """
    out.mkdir(parents=True)
    (out / SHARDS).symlink_to((corpus / SHARDS).resolve(), target_is_directory=True)
    pq.write_table(pq.read_table(corpus / MANIFEST).filter(pa.array(chosen)), out / MANIFEST)
    content = read_corpus(corpus)
    content["report"]["fingerprint"] = fingerprint.of_values(
        [content["report"]["fingerprint"], np.flatnonzero(chosen).tolist()]
    )
    write_json(out / CORPUS, content)
    return out


def as_known_by(about: Mapping[str, Any], modality: Modality, prepared: Path, out: Path) -> Path:
    """Prepared data with what travels with an encoder, such as the mean and deviation of its own training data: the
    encoder meets inputs as it was trained on them, whatever was measured on newer data.

    Args:
        about: the encoder's config.json.
        modality: what the data is.
        prepared: folder that prepare left.
        out: folder to make; returned.
    """
    content = read_json(prepared / PREPARED, DataError, "run the prepare step again", PREPARED_KEYS)
    travels = [name for name in modality.describe(modality.open(prepared)) if name not in _OF_THE_DATA]
    out.mkdir(parents=True)
    for path in prepared.iterdir():
        if path.name not in (PREPARED, DIGESTS):  # the list is of another prepared.json
            (out / path.name).symlink_to(path.resolve(), target_is_directory=path.is_dir())
    write_json(out / PREPARED, content | {name: about[name] for name in travels if name in content and name in about})
    return out
