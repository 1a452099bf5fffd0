"""Codes of frames, as the prepare step stored them, beside crops of recordings.

Shape legend: B crops, L labels of a recording, T' frames that have a label.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2v.data.store import ShardReader
from d2v.modalities.speech.config import SpeechEncoderConfig

CODES = "codes"
SCHEMA = pa.schema([("codes", pa.large_binary())])
"""The labels of a train recording, (L,) uint16."""


class Codes:
    """Stored codes of train recordings.

    Args:
        folder: a prepared folder.
        about: what its prepared.json says of the codebook.

    Attributes:
        kind: what was clustered.
        number: K.
    """

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self.kind: str = about["kind"]
        self.number: int = about["codes"]
        self._hop: int = about["hop_samples"]
        self._window: int = about["window_samples"]
        self._shards = ShardReader(folder / CODES)

    def of_recording(self, row: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(L,) its codes, and (L,) the sample in the middle of what each was made from."""
        codes_L = self._shards.view("codes", row).view("<u2").astype(np.int64)
        return codes_L, np.arange(len(codes_L)) * self._hop + self._window // 2

    def of_crops(
        self, rows: NDArray[np.int64], starts: NDArray[np.int64], samples: int, encoder: SpeechEncoderConfig
    ) -> NDArray[np.int64]:
        """(B, T') codes of the frames of crops; T' is the same for all crops of so many samples.

        Args:
            rows: (B,) recordings.
            starts: (B,) first samples.
            samples: of each crop.
            encoder: whose frames they are.
        """
        frames = labelled_frames(samples, self._hop, self._window, encoder)
        crops = np.empty((len(rows), frames), np.int64)
        for crop, row, start in zip(crops, rows, starts, strict=True):
            codes_L = self._shards.view("codes", int(row)).view("<u2")
            crop[:] = codes_L[label_indices(int(start), frames, self._hop, encoder.step_samples, len(codes_L))]
        return crops


def labelled_frames(samples: int, hop: int, window: int, encoder: SpeechEncoderConfig) -> int:
    """Frames of so many samples that have a label."""
    labels = 1 + (samples - window) // hop if samples >= window else 0
    return min(encoder.frames(samples), labels * hop // encoder.step_samples)


def label_indices(start: int, frames: int, hop: int, step: int, labels: int) -> NDArray[np.int64]:
    """(T',) the label of each frame of a crop: the one at its beginning, rounded down, from the label that is nearest
    to the crop's first sample. What rounding carries beyond the end is the last."""
    return np.minimum(round(start / hop) + np.arange(frames) * step // hop, labels - 1)
