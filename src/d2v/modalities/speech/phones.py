"""HuBERT's clusters beside phones: those that espeak-ng says it speaks, of the embedded corpus `spoken`. Of other
recordings nothing is known frame by frame, and the class of the whole recording stands in.

Shape legend: L labels of a recording.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from d2v.config import parse
from d2v.data.prepared import UNLABELLED, read_corpus
from d2v.errors import D2vError, DataError
from d2v.modalities.probes import CodeCounts
from d2v.modalities.speech import spoken
from d2v.modalities.speech.codes import Codes
from d2v.modalities.speech.config import RATE_HZ
from d2v.modalities.speech.data import SpeechData
from d2v.modalities.speech.preparation import sixteen_bit
from d2v.modalities.speech.reading import to_flac
from d2v.modalities.speech.resampling import RESAMPLER_OF_OLD
from d2v.progress import Progress, log

SPOKEN = "spoken"
"""The description of the embedded corpus."""

Named = tuple[NDArray[np.int64], Sequence[str]]
"""(L,) codes of a recording, and the class of each."""


def code_counts(data: SpeechData, items: int) -> CodeCounts | None:
    """Codes of train recordings, evenly spread over the corpus, beside the phone in the middle of what each was made
    from.

    Args:
        data: the prepared folder.
        items: recordings at most.

    Returns:
        None if there is no codebook, or nothing is known of the recordings.
    """
    codes = data.codes
    if codes is None:
        return None
    rows = np.unique(np.linspace(0, data.num_train - 1, min(items, data.num_train)).round().astype(np.int64))
    phones = _phones(data, codes, rows) if data.about["source"] == SPOKEN else []
    found = phones or _classes(data, codes, rows)
    if not found:
        return None
    pairs = Counter(pair for codes_L, names in found for pair in zip(names, codes_L.tolist(), strict=True))
    totals = Counter(name for _, names in found for name in names)
    names = sorted(totals, key=lambda name: (-totals[name], name))
    return CodeCounts(
        codebook=codes.kind,
        classes="phones" if phones else "classes of recordings",
        names=names,
        counts=[[pairs[name, code] for code in range(codes.number)] for name in names],
        items=len(found),
        silence=spoken.SILENCE if phones else None,
    )


def _phones(data: SpeechData, codes: Codes, rows: NDArray[np.int64]) -> list[Named]:
    """Of the embedded corpus, spoken once more; none if it does not sound the same here."""
    items, folder = data.items("train"), data.corpus
    if items is None or folder is None:
        log("codebook: phones are not known, as the corpus is not where it was")
        return []
    try:
        values = read_corpus(folder).get("parameters", {}).get("options", {})
        options = parse(spoken.SpokenOptions, values, at="speech.ingest.options")
        with Progress("phones", len(rows)) as progress:
            return [_phones_of(data, codes, row, items["key"][row], options, progress) for row in rows.tolist()]
    except D2vError as error:
        log(f"codebook: phones are not known: {error}")
        return []


def _phones_of(
    data: SpeechData, codes: Codes, row: int, key: str, options: spoken.SpokenOptions, progress: Progress
) -> Named:
    split, _, number = key.partition("/")
    kind: spoken.Split = "test" if split == "test" else "train"
    said = next(spoken.speak(options, kind, int(number), int(number) + 1, with_phones=True))
    resampler = data.about.get("resampler", RESAMPLER_OF_OLD)
    stored = data.train.view("data", row).view("<i2")
    if not np.array_equal(sixteen_bit(to_flac(said.samples, said.rate_hz), resampler), stored):
        raise DataError(f"espeak-ng says {key} otherwise than it did: run the ingest and prepare steps again")
    codes_L, middles_L = codes.of_recording(row)
    starts = np.array([phone.start for phone in said.phones]) * (RATE_HZ / said.rate_hz)
    at_L = np.searchsorted(starts, middles_L, side="right") - 1
    progress.advance()
    return codes_L, [said.phones[at].name for at in at_L.tolist()]


def _classes(data: SpeechData, codes: Codes, rows: NDArray[np.int64]) -> list[Named]:
    """The class of each recording that has one, for all of its labels."""
    labels = data.train.integers("label")
    found = [(codes.of_recording(row)[0], int(labels[row])) for row in rows.tolist() if labels[row] != UNLABELLED]
    return [(codes_L, [data.class_names[label]] * len(codes_L)) for codes_L, label in found]
