"""The range of pixels: one rule for files, arrays and Python objects."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2v.data.ingest import Rejected

UNUSED = {limit: f"16 bits with no value above {limit:,}" for limit in (255, 4095)}
"""Notes on 16-bit pixels that may have fewer significant bits, by the highest value that these can have."""


def from_sixteen_bit(values: NDArray[Any], bits: int | None, notes: list[str]) -> NDArray[np.uint8]:
    """Pixels of uint16 as uint8 from 0 to 255.

    Args:
        values: unsigned integers.
        bits: significant bits, if they are known; None: 16, with a note where no value of the image needs more than 12
            or 8 of them. One dark image tells nothing; a corpus of them does.
        notes: a note is added.

    Raises:
        Rejected: values above what so many bits can hold.
    """
    top = int(values.max(initial=0))
    if bits is None and top:
        notes += [note for limit, note in sorted(UNUSED.items()) if top <= limit][:1]
    return eight_bit(values, bits=bits or 16)


def eight_bit(values: NDArray[Any], bits: int | None = None, top: float | None = None) -> NDArray[np.uint8]:
    """Pixels as uint8 from 0 to 255.

    Args:
        values: truth values; unsigned integers of 8 or 16 bits over their whole range; other integers, from 0 to 255;
            or floats, from 0 to 1.
        bits: significant bits of unsigned integers, if fewer or more than those of 8 or 16.
        top: the value of white, where it is known.

    Raises:
        Rejected: values outside that range, or of another type.
    """
    kind, width = values.dtype.kind, 8 * values.dtype.itemsize
    if kind == "b":
        return values.astype(np.uint8) * np.uint8(255)
    if kind not in "iuf":
        raise Rejected(f"{values.dtype} values are not pixels")
    if kind == "f" and width < 32:
        values = values.astype(np.float32)
    if bits is None and top is None and kind == "u" and width <= 16:
        bits = width
    if bits is not None:
        top = float(2**bits - 1)
    if top is None:
        top = 1.0 if kind == "f" else 255.0
    if values.size and not (values.min() >= 0 and values.max() <= top):  # no comparison with NaN holds
        advice = "scale them to 0 to 1" if kind == "f" else "save them as uint8 or uint16"
        raise Rejected(
            f"{values.dtype} pixels from {values.min():g} to {values.max():g} are not all between 0 and {top:g}: "
            f"{advice}"
        )
    if top == 255:
        return np.rint(values).astype(np.uint8) if kind == "f" else values.astype(np.uint8)
    return np.rint(values * (255.0 / top)).astype(np.uint8)
