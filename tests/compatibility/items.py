"""Where the fixtures are, and the items that their models are asked about: the same numbers on every machine."""

from __future__ import annotations

import base64
import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

STORED = Path(__file__).with_name("version_before")
MANIFEST = "manifest.json"


def _images() -> list[np.ndarray]:
    grid = np.arange(20 * 24 * 3).reshape(20, 24, 3)
    return [(grid * step % 256).astype(np.uint8) for step in (1, 7, 31)]


def _recordings() -> list[np.ndarray]:
    return [(np.arange(samples) * step % 2001 - 1000).astype(np.int16) for samples, step in ((2400, 37), (3100, 211))]


ITEMS: dict[str, list[Any]] = {
    "vision": _images(),
    "speech": _recordings(),
    "text": ["the cat goes by 4.", "some fog", "what else?"],
}


def table_of(modality: str) -> pd.DataFrame:
    """The vision items as a request to a registered model."""
    assert modality == "vision"
    return pd.DataFrame([{"image": _png(image)} for image in ITEMS[modality]])


def _png(image: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def manifest_of(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in it, but for the manifest."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
