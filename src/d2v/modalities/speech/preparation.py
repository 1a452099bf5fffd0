"""The prepare step for recordings: from a corpus to 16 kHz, one channel, 16 bits, with a probe set.

A row of a part is one recording: int16 samples (little-endian), their number, mean and standard deviation (on a scale
where full scale is 1), its class, and its transcript and speaker if they are known. Beside `train/` and `test/` there
are `val/` and `items.parquet`, and `probe/` where the test part has no class in common with the train part: train
recordings that are held out.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from d2v.data.prepared import (
    UNLABELLED,
    Corpus,
    RowWriter,
    bring_up_to_date,
    probe_rows,
    row_writer,
    shaping,
    write_items,
)
from d2v.errors import DataError
from d2v.modalities.speech.config import RATE_HZ, Resampler, SpeechPrepareConfig
from d2v.modalities.speech.reading import decode
from d2v.modalities.speech.resampling import RESAMPLER_OF_OLD
from d2v.progress import Progress

TEXT_COLUMNS = ("transcript", "speaker")
SCHEMA = pa.schema(
    [
        *[("label", pa.int64()), ("samples", pa.int64()), ("mean", pa.float32()), ("std", pa.float32())],
        *[(name, pa.string()) for name in TEXT_COLUMNS],
        ("data", pa.large_binary()),
    ]
)
FULL_SCALE = 32_768
HELD_OUT_EVERY = 10

Parts = dict[str, np.ndarray]


def prepare(config: SpeechPrepareConfig, corpus: Path, out: Path) -> dict[str, Any]:
    """Bring `out` up to date with a corpus; unchanged corpus and parameters are a quick check.

    Returns:
        The contents of `prepared.json`.

    Raises:
        DataError: there is no finished corpus, nothing to train on, no such label, or the disk is full.
    """
    parameters = shaping(config)
    parameters.pop("codebook", None)
    if config.codebook is not None:
        from d2v.modalities.speech.codebook import identity  # imported late: most recipes have none

        parameters |= {"codebook": identity(config.codebook)}
    build = partial(_build, config=config)
    return bring_up_to_date(corpus, out, parameters, build, _summary)


def _build(corpus: Corpus, folder: Path, config: SpeechPrepareConfig) -> dict[str, Any]:
    about = _Preparation(config, corpus, folder).run()
    if config.codebook is None:
        return about
    from d2v.modalities.speech.codebook import write_codes

    return about | {"codebook": write_codes(config.codebook, folder)}


def _summary(content: Mapping[str, Any]) -> str:
    held_out = f", {content['held_out_items']:,} held out of it for the probe" if content["held_out_items"] else ""
    train_h, test_h = (content[f"{part}_seconds"] / 3600 for part in ("train", "test"))
    return (
        f"{content['train_items']:,} train ({train_h:.2f} h) and {content['test_items']:,} test recordings "
        f"({test_h:.2f} h); {content['short_items']:,} under {content['min_seconds']:g} s left out of train{held_out}"
    )


class _Preparation:
    """One pass over a corpus."""

    def __init__(self, config: SpeechPrepareConfig, corpus: Corpus, folder: Path) -> None:
        self.config, self.corpus, self.folder = config, corpus, folder
        self.class_names, self.labels = corpus.classes(config.label)
        self.resampler: Resampler = corpus.settings.get("resampler", RESAMPLER_OF_OLD)
        self.texts = {name: corpus.column(name) for name in TEXT_COLUMNS}

    def run(self) -> dict[str, Any]:
        """Write all parts and describe them."""
        parts = self.corpus.items_by_split("recordings")
        parts["train"], short = self._without_short(parts["train"])
        probe_test = self._choose_probe_test(parts)
        self._keep_common_classes(parts["train"], parts[probe_test])
        parts["val"] = self.corpus.validation_items()
        write_items(self.folder, self.corpus, parts)
        with (
            Progress("prepare", sum(len(items) for items in parts.values())) as progress,
            row_writer(self.corpus, self.folder, self.config) as writer,
        ):
            seconds = {name: self._write_part(writer, name, items, progress) for name, items in parts.items()}
        return {
            "source": self.corpus.source,
            "rate_hz": RATE_HZ,
            "resampler": self.resampler,
            "min_seconds": self.config.min_seconds,
            "label": self.config.label,
            "class_names": self.class_names,
            "train_items": len(parts["train"]),
            "test_items": len(parts["test"]),
            "val_items": len(parts["val"]),
            "held_out_items": len(parts.get("probe", ())),
            "short_items": short,
            "train_seconds": round(seconds["train"], 3),
            "test_seconds": round(seconds["test"], 3),
            "probe_test_from": "train" if probe_test == "probe" else "test",
            "probe_max_seconds": self.config.probe_max_seconds,
            "probe": self._probe_rows(parts["train"], parts[probe_test]),
        }

    def _without_short(self, items: np.ndarray) -> tuple[np.ndarray, int]:
        """Items of at least `min_seconds`, and how many are not."""
        seconds = self.corpus.integers("samples")[items] / self.corpus.integers("rate_hz")[items]
        long_enough = seconds >= self.config.min_seconds
        if not long_enough.any():
            raise DataError(
                f"None of the {len(items):,} train recordings of {self.corpus.source} has prepare.min_seconds="
                f"{self.config.min_seconds:g}; half of them have {np.median(seconds):.2f} s or more, the longest "
                f"{seconds.max():.2f} s: lower prepare.min_seconds"
            )
        return items[long_enough], int((~long_enough).sum())

    def _choose_probe_test(self, parts: Parts) -> str:
        """The part that the probe is tested on. Where test and train have less than two classes in common (speakers of
        a test part are others), every tenth train item of a class goes from `train` to a new part `probe`."""
        train, test = self.labels[parts["train"]], self.labels[parts["test"]]
        if len(np.setdiff1d(np.intersect1d(train, test), [UNLABELLED])) >= 2:
            return "test"
        members = [np.flatnonzero(train == label) for label in np.unique(train[train != UNLABELLED])]
        if sum(len(rows) >= HELD_OUT_EVERY for rows in members) < 2:
            return "test"
        held_out = np.sort(np.concatenate([rows[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY] for rows in members]))
        parts["probe"] = parts["train"][held_out]
        parts["train"] = np.delete(parts["train"], held_out)
        return "probe"

    def _keep_common_classes(self, train: np.ndarray, test: np.ndarray) -> None:
        """Forget classes that are not in both parts of the probe; without a common one, those of train stay."""
        found = np.setdiff1d(self.labels[train], [UNLABELLED])
        common = np.intersect1d(found, self.labels[test])
        kept = common if len(common) else found
        new_ids = np.full(len(self.class_names) + 1, UNLABELLED)  # the last is that of UNLABELLED, -1
        new_ids[kept] = np.arange(len(kept))
        self.labels = new_ids[self.labels]
        self.class_names = [self.class_names[label] for label in kept]

    def _write_part(self, writer: RowWriter, name: str, items: np.ndarray, progress: Progress) -> float:
        """Seconds of speech written."""
        make = partial(_prepared, resampler=self.resampler)
        written = writer.write(name, SCHEMA, items, make, self._known, progress)
        return sum(int(facts["samples"]) for facts in written) / RATE_HZ

    def _known(self, item: int) -> dict[str, Any]:
        """Columns of an item that do not depend on its samples."""
        return {"label": int(self.labels[item])} | {column: values[item] for column, values in self.texts.items()}

    def _probe_rows(self, train: np.ndarray, test: np.ndarray) -> dict[str, list[int]]:
        counts = {"train": self.config.probe_train_items, "test": self.config.probe_test_items}
        return probe_rows({"train": self.labels[train], "test": self.labels[test]}, counts, self.config.seed)


def _prepared(data: bytes, resampler: Resampler) -> tuple[bytes, dict[str, Any]]:
    """Samples of a stored recording, and their number, mean and standard deviation."""
    samples = sixteen_bit(data, resampler)
    exact = samples.astype(np.float64) / FULL_SCALE
    return samples.tobytes(), {"samples": len(samples), "mean": float(exact.mean()), "std": float(exact.std())}


def sixteen_bit(data: bytes, resampler: Resampler) -> np.ndarray:
    """A stored recording as (n,) little-endian int16 at 16 kHz; what goes beyond full scale is scaled to it, whole."""
    wave = decode(data, resampler)
    scale = FULL_SCALE / max(float(np.abs(wave).max(initial=0.0)), 1.0)
    return np.clip(np.rint(wave * scale), -FULL_SCALE, FULL_SCALE - 1).astype("<i2")
