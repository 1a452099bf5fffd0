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
from d2v.modalities.speech import reading as speech_reading
from d2v.modalities.speech.config import RATE_HZ
from d2v.modalities.text.tokenizer import PAD
from d2v.modalities.vision import reading as vision_reading
from d2v.modalities.vision.config import VisionIngestConfig

_IMAGES = VisionIngestConfig.model_validate({"source": "memory", "min_side_px": 1})
_SIXTEEN_BIT = 32_768.0


@dataclass(frozen=True)
class Kind:
    """What items of one modality are.

    Attributes:
        is_one: whether something is one item and not several.
        read: (item, its sample rate if it is an array of samples) -> what `Modality.to_inputs` takes one of.
        together: (items that were read, config.json) -> inputs.
    """

    is_one: Callable[[Any], bool]
    read: Callable[[Any, int], Any]
    together: Callable[[Sequence[Any], dict[str, Any]], Inputs]


def kind_of(modality: str) -> Kind:
    """What items of a modality are; of one that is not in the table above, what its `to_inputs` takes."""
    plain = Kind(lambda given: False, lambda item, rate_hz: item, registry.get(modality).to_inputs)
    return _KINDS.get(modality, plain)


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
        return vision_reading.decode(vision_reading.read_image(item, _IMAGES).data)
    except Rejected as reason:
        raise DataError(f"an image cannot be used: {reason}. Leave it out, or give another one") from reason


def _is_clear(image: Image.Image) -> bool:
    return "transparency" in image.info or image.mode in ("LA", "PA", "La", "RGBa")


def _images(images: Sequence[np.ndarray], config: dict[str, Any]) -> Inputs:
    """Images of any sizes."""
    to_inputs = registry.get("vision").to_inputs
    return Inputs(torch.cat([to_inputs(image[None], config).values for image in images]))


# ------------------------------------------------------------------------------------------- recordings


def _is_recording(given: Any) -> bool:
    return isinstance(given, str | Path) or (isinstance(given, np.ndarray) and given.ndim <= 1)


def _read_recording(item: Any, rate_hz: int) -> np.ndarray:
    """(samples,) at RATE_HZ."""
    if isinstance(item, str | Path):
        data = _bytes(item)
        if reason := speech_reading.cut_off(data):
            raise DataError(f"{item} is cut off ({reason}): copy it again, or leave it out")
        try:
            return speech_reading.decode(data)
        except speech_reading.DECODE_ERRORS as error:
            raise DataError(
                f"{item} is no sound file that can be read ({error}): give WAV, FLAC, OGG or MP3"
            ) from error
    wave = item.numpy(force=True) if isinstance(item, Tensor) else np.asarray(item)
    if rate_hz == RATE_HZ or wave.ndim != 1:
        return wave
    from torchaudio.functional import resample

    if wave.dtype == np.int16:
        wave = wave / _SIXTEEN_BIT
    return resample(torch.from_numpy(wave.astype(np.float32)), rate_hz, RATE_HZ).numpy()


def _recordings(waves: Sequence[np.ndarray], config: dict[str, Any]) -> Inputs:
    return registry.get("speech").to_inputs(list(waves), config)


def _bytes(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): give the path of a file") from error


# ------------------------------------------------------------------------------------------------ texts


def _is_text(given: Any) -> bool:
    return isinstance(given, str) or (isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], str))


def _texts(texts: Sequence[Any], config: dict[str, Any]) -> Inputs:
    """Single texts and pairs need one call each, as one array cannot hold both."""
    if "tokenizer" not in config:
        raise DataError("the model has no tokenizer: import it again with --tokenizer, or load it with tokenizer=")
    to_inputs = registry.get("text").to_inputs
    if len({isinstance(text, str) for text in texts}) == 1:
        return to_inputs(list(texts), config)
    parts = [to_inputs([text], config) for text in texts]
    padded = torch.nn.utils.rnn.pad_sequence([part.values[0] for part in parts], True, float(PAD))
    return Inputs(padded, torch.cat([part.lengths for part in parts if part.lengths is not None]))


_KINDS = {
    "vision": Kind(_is_image, _read_image, _images),
    "speech": Kind(_is_recording, _read_recording, _recordings),
    "text": Kind(_is_text, lambda item, rate_hz: item, _texts),
}
