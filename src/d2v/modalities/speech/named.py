"""Corpora that are named, not pointed to: torchaudio's data sets, and the embedded `spoken`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from d2v.config import parse
from d2v.data import fingerprint
from d2v.data.lines import single_spaced
from d2v.data.sources.layout import Wanted
from d2v.data.sources.named_datasets import dataset_source
from d2v.data.sources.row_sources import Split, source_of_splits
from d2v.data.sources.source import Item, Source
from d2v.errors import ConfigError
from d2v.modalities.speech import spoken
from d2v.modalities.speech.decoders import open_sound
from d2v.modalities.speech.reading import to_flac

if TYPE_CHECKING:
    import torch


def spoken_source(options: Mapping[str, Any]) -> Source:
    """The corpus `spoken`, made on this machine, a pure function of the options and of espeak-ng's version.

    Raises:
        ConfigError: options that the corpus does not have.
        DataError: espeak-ng cannot be used here.
    """
    chosen = parse(spoken.SpokenOptions, options, at="speech.ingest.options")
    splits = [
        Split("train", chosen.count, partial(_spoken_items, chosen, "train", chosen.count)),
        Split("test", chosen.test_count, partial(_spoken_items, chosen, "test", chosen.test_count)),
    ]
    digest = fingerprint.of_values(["spoken", chosen.model_dump(), spoken.espeak_version()])
    return source_of_splits("spoken", digest, splits, spoken.KEYWORDS)


def _spoken_items(options: spoken.SpokenOptions, split: spoken.Split, count: int, start: int) -> Iterator[Item]:
    for number, one in enumerate(spoken.speak(options, split, start, count), start):
        texts = {"speaker": one.speaker, "transcript": one.transcript}
        yield Item(f"{split}/{number:06d}", to_flac(one.samples, one.rate_hz), one.label, texts=texts)


# ---------------------------------------------------------------------------------------- torchaudio

Said = Callable[[Sequence[Any]], Any]


@dataclass(frozen=True)
class _Fields:
    """Where a data set's rows (waveform, rate, ...) keep what: position, or a function of the row."""

    label: int | Said | None = None
    transcript: int | Said | None = None
    speaker: int | Said | None = None

    def item(self, key: str, data: bytes, row: Sequence[Any]) -> Item:
        """The item of a row."""
        found = {name: _value(getattr(self, name), row) for name in ("label", "transcript", "speaker")}
        label = found.pop("label")
        return Item(key, data, label, texts={name: text for name, text in found.items() if text is not None})


def _value(where: int | Said | None, row: Sequence[Any]) -> str | None:
    value = None if where is None else row[where] if isinstance(where, int) else where(row)
    return None if value is None else single_spaced(str(value))


FIELDS = {
    "CMUARCTIC": _Fields(transcript=2),
    "COMMONVOICE": _Fields(
        transcript=lambda row: row[2].get("sentence"),
        speaker=lambda row: row[2].get("client_id"),
    ),
    "DR_VCTK": _Fields(label=4, speaker=4),
    "FluentSpeechCommands": _Fields(label=lambda row: " ".join(row[5:8]), transcript=4, speaker=3),
    "GTZAN": _Fields(label=2),
    "IEMOCAP": _Fields(label=3, speaker=4),
    "LIBRISPEECH": _Fields(label=3, transcript=2, speaker=3),
    "LIBRITTS": _Fields(label=4, transcript=3, speaker=4),
    "LJSPEECH": _Fields(transcript=3),
    "LibriLightLimited": _Fields(label=3, transcript=2, speaker=3),
    "LibriSpeechBiasing": _Fields(label=3, transcript=2, speaker=3),
    "QUESST14": _Fields(),
    "SPEECHCOMMANDS": _Fields(label=2, speaker=3),
    "Snips": _Fields(label=5, transcript=3),
    "TEDLIUM": _Fields(label=4, transcript=2, speaker=4),
    "VCTK_092": _Fields(label=3, transcript=2, speaker=3),
    "VoxCeleb1Identification": _Fields(label=2, speaker=2),
    "YESNO": _Fields(transcript=lambda row: " ".join("yes" if word else "no" for word in row[2])),
}
"""What torchaudio's data sets say; others have no label and no texts. Where there is no other class, the speaker is."""
NO_RECORDINGS = {
    "CMUDict": "it is a dictionary",
    "LibriMix": "its items are mixtures of several recordings",
    "MUSDB_HQ": "its items are the tracks of a song",
    "VoxCeleb1Verification": "its items are pairs of recordings",
}


def torchaudio_source(name: str, options: Mapping[str, Any], wanted: Wanted) -> Source:
    """A class of torchaudio.datasets, downloaded when first used to `options.root` (data/01_raw/<Class>).

    Other options go to the class, such as `url: train-clean-100` of LIBRISPEECH.

    Raises:
        ConfigError: no such class, one that holds no single recordings, or options it does not take.
        DataError: it could not be downloaded or read.
    """
    import torchaudio.datasets  # imported late: seconds that other sources do not need

    if name in NO_RECORDINGS:
        raise ConfigError(
            f"torchaudio:{name} cannot be trained on: {NO_RECORDINGS[name]}. Set speech.ingest.source to another, for "
            "example torchaudio:LIBRISPEECH."
        )
    to_item = partial(_torchaudio_item, FIELDS.get(name, _Fields()))
    return dataset_source(torchaudio.datasets, name, options, wanted, to_item, example="LIBRISPEECH")


def _torchaudio_item(fields: _Fields, key: str, dataset: Any, row: int, names: Sequence[str] | None) -> Item:
    with _read_by_soundfile() as read:
        values = dataset[row]
    waveform, rate_hz = values[0], values[1]
    if read.waveform is waveform and read.path is not None:
        return fields.item(key, read.path.read_bytes(), values)  # the whole file, as it is
    return fields.item(key, to_flac(waveform.numpy().T, rate_hz), values)


@dataclass
class _Read:
    """The first file that a data set read, and what it got of it."""

    path: Path | None = None
    waveform: torch.Tensor | None = field(default=None, repr=False)

    def load(self, path: str | os.PathLike[str], frame_offset: int = 0, num_frames: int = -1) -> tuple[Any, int]:
        """As torchaudio.load."""
        import torch

        whole = (frame_offset, num_frames) == (0, -1)
        if whole:
            with open_sound(Path(path).read_bytes()) as sound:
                samples, rate_hz = np.concatenate(list(sound.blocks)), sound.rate_hz
        else:
            samples, rate_hz = soundfile.read(
                os.fspath(path), num_frames, frame_offset, dtype="float32", always_2d=True
            )
        waveform = torch.from_numpy(np.ascontiguousarray(samples.T))
        if self.waveform is None:
            self.path, self.waveform = Path(path) if whole else None, waveform
        return waveform, rate_hz


_one_at_a_time = threading.Lock()  # two that overlap would leave one's reader behind


@contextmanager
def _read_by_soundfile() -> Iterator[_Read]:
    """Have torchaudio's data sets read files as ingest does: torchaudio.load needs torchcodec and FFmpeg."""
    import torchaudio

    read = _Read()
    with _one_at_a_time:
        original, torchaudio.load = torchaudio.load, read.load
        try:
            yield read
        finally:
            torchaudio.load = original
