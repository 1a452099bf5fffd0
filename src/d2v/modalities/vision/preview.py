"""Thumbnails of stored images."""

from __future__ import annotations

import io

from d2v.modalities.base import Preview
from d2v.modalities.vision.reading import open_image

THUMBNAIL_PX = 160
SMALL_PX = 64
"""Images up to this side keep their pixels."""


def preview(data: bytes) -> Preview:
    """A stored image, at most THUMBNAIL_PX wide and high."""
    with open_image(data) as image:
        image.draft("RGB", (2 * THUMBNAIL_PX, 2 * THUMBNAIL_PX))  # a JPEG is decoded at a fraction of its size
        rgb = image.convert("RGB")
    buffer = io.BytesIO()
    if max(rgb.size) <= SMALL_PX:
        rgb.save(buffer, format="PNG", optimize=True)
        return Preview(media_type="image/png", data=buffer.getvalue(), is_small=True)
    rgb.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    rgb.save(buffer, format="JPEG", quality=85)
    return Preview(media_type="image/jpeg", data=buffer.getvalue())
