"""Raw items as people have them, and how they become a model's inputs.

| modality | one item |
|---|---|
| vision | a file, a PIL image, an array (height, width) or (height, width, 3 or 4) of uint8, or float from 0 to 1 |
| speech | a sound file, or an array (samples,) of float from -1 to 1, or int16 |
| text | a string, or a pair (a tuple) of strings |

Several of them are a list, or an array with one more axis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from d2v.data.batch import Inputs
from d2v.data.ingest import Rejected
from d2v.errors import DataError
from d2v.modalities import registry
from d2v.modalities.requests import Limits
from d2v.modalities.speech.config import RATE_HZ
from d2v.modalities.speech.serving import SIXTEEN_BIT
from d2v.modalities.speech.serving import read_item as read_recording
from d2v.modalities.vision.serving import read_item as read_image

_LIMITS = Limits(item_bytes=2**40, pixels=100_000_000, seconds=1e9)
"""Of one's own files; a picture above this is an attack or an error."""


@dataclass(frozen=True)
class Kind:
    """What items of one modality are.

    Attributes:
        is_one: whether something is one item and not several.
        read: (item, its sample rate if it is an array of samples) -> what `Modality.to_inputs` takes a list of.
        together: (items that were read, config.json) -> inputs.
    """

    is_one: Callable[[Any], bool]
    read: Callable[[Any, int], Any]
    together: Callable[[Sequence[Any], dict[str, Any]], Inputs]


def kind_of(modality: str) -> Kind:
    """What items of a modality are; of one that is not in the table above, what its `to_inputs` takes."""
    is_one, read = _KINDS.get(modality, (lambda given: False, lambda item, rate_hz: item))
    return Kind(is_one, read, registry.get(modality).to_inputs)


def each(kind: Kind, given: Any) -> tuple[Iterable[Any], bool]:
    """(items, whether there is only one and it did not come in a list)."""
    if isinstance(given, Tensor):
        given = given.numpy(force=True)
    if kind.is_one(given):
        return [given], True
    if not isinstance(given, Iterable):
        raise DataError(f"{type(given).__name__} is no item of this model's modality: give one, or a list of them")
    return given, False


# ----------------------------------------------------------------------------------------------- images


def _is_image(given: Any) -> bool:
    return isinstance(given, str | Path | Image.Image) or (isinstance(given, np.ndarray) and given.ndim <= 3)


def _read_image(item: Any, rate_hz: int) -> np.ndarray:
    """(height, width, 3), uint8 or float."""
    if isinstance(item, Tensor):
        item = item.numpy(force=True)
    if isinstance(item, np.ndarray) and item.ndim == 3 and item.shape[-1] == 3:
        return item
    if isinstance(item, str | Path):
        item = _bytes(item)
    elif isinstance(item, Image.Image):
        modes = ("L", "RGB", "RGBA")
        item = np.asarray(item if item.mode in modes else item.convert("RGBA" if _is_clear(item) else "RGB"))
    if not isinstance(item, bytes | np.ndarray):
        raise DataError(f"{type(item).__name__} is no image: give a file, a PIL image or an array")
    try:
        return read_image(item, _LIMITS)
    except Rejected as reason:
        raise DataError(f"an image cannot be used: {reason}. Leave it out, or give another one") from reason


def _is_clear(image: Image.Image) -> bool:
    return "transparency" in image.info or image.mode in ("LA", "PA", "La", "RGBa")


# ------------------------------------------------------------------------------------------- recordings


def _is_recording(given: Any) -> bool:
    return isinstance(given, str | Path) or (isinstance(given, np.ndarray) and given.ndim <= 1)


def _read_recording(item: Any, rate_hz: int) -> np.ndarray:
    """(samples,) at RATE_HZ."""
    if isinstance(item, str | Path):
        try:
            return read_recording(_bytes(item), _LIMITS)
        except Rejected as reason:
            raise DataError(f"{item} cannot be used: {reason}. Leave it out, or give another one") from reason
    wave = item.numpy(force=True) if isinstance(item, Tensor) else np.asarray(item)
    if rate_hz == RATE_HZ or wave.ndim != 1:
        return wave
    from torchaudio.functional import resample

    if wave.dtype == np.int16:
        wave = wave / SIXTEEN_BIT
    return resample(torch.from_numpy(wave.astype(np.float32)), rate_hz, RATE_HZ).numpy()


def _bytes(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): give the path of a file") from error


# ------------------------------------------------------------------------------------------------ texts


def _is_text(given: Any) -> bool:
    return isinstance(given, str) or (isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], str))


_KINDS: dict[str, tuple[Callable[[Any], bool], Callable[[Any, int], Any]]] = {
    "vision": (_is_image, _read_image),
    "speech": (_is_recording, _read_recording),
    "text": (_is_text, lambda item, rate_hz: item),
}
