#!/usr/bin/env bash
# quality=100 stores a picture exactly in one library and changes colours by more than 200 levels in another, in the same format.
#
# Guess:    AVIF and WebP at quality 100 are exact, or within a level or two; and as exact in Pillow as in OpenCV.
# Versions: pillow 13.0.0, opencv-python-headless 5.0.0.93, numpy 2.3.5
# Instead:  AVIF at 100 is exact in OpenCV; Pillow halves the colour's resolution first (4:2:0): 226 levels off, and 3 with
#           subsampling="4:4:4". WebP without options is exact in OpenCV and at 100 it is not, in both. JPEG 2000 without options is
#           exact in Pillow and up to 141 off in OpenCV. Pictures of two flat regions are off by 3 at most, so a test with one of
#           these says little.
# Means:    "saved at the best quality" is no lossless copy for masks, labels and data in channels, and moving the code to another
#           library changes which format is one. lossless=True (WebP), PNG or TIFF, and a comparison after writing.
# Seen:     2026-11-30
#           Pillow, AVIF, quality 100: noise 226 levels off at most, two flat regions 1
#           Pillow, AVIF, quality 100, 4:4:4: noise 3 levels off at most, two flat regions 1
#           OpenCV, AVIF, quality 100: noise 0 levels off at most, two flat regions 0
#           Pillow, WebP, quality 100: noise 226 levels off at most, two flat regions 3
#           OpenCV, WebP, quality 100: noise 204 levels off at most, two flat regions 3
#           OpenCV, WebP: noise 0 levels off at most, two flat regions 0
#           Pillow, JPEG 2000: noise 0 levels off at most, two flat regions 0
#           OpenCV, JPEG 2000: noise 141 levels off at most, two flat regions 0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pillow==13.0.0 opencv-python-headless==5.0.0.93 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import io

import cv2
import numpy as np
from PIL import Image

noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype("uint8")
flat = np.zeros((64, 64, 3), "uint8")
flat[:, :32], flat[:, 32:] = (1, 2, 3), (7, 0, 5)


def by_pillow(picture: np.ndarray, form: str, **options) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, form, **options)
    return np.asarray(Image.open(file).convert("RGB"))


def by_opencv(picture: np.ndarray, form: str, *options: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(f".{form}", picture, options)[1], cv2.IMREAD_UNCHANGED)


ways = {
    "Pillow, AVIF, quality 100": lambda picture: by_pillow(picture, "AVIF", quality=100),
    "Pillow, AVIF, quality 100, 4:4:4": lambda picture: by_pillow(picture, "AVIF", quality=100, subsampling="4:4:4"),
    "OpenCV, AVIF, quality 100": lambda picture: by_opencv(picture, "avif", cv2.IMWRITE_AVIF_QUALITY, 100),
    "Pillow, WebP, quality 100": lambda picture: by_pillow(picture, "WEBP", quality=100),
    "OpenCV, WebP, quality 100": lambda picture: by_opencv(picture, "webp", cv2.IMWRITE_WEBP_QUALITY, 100),
    "OpenCV, WebP": lambda picture: by_opencv(picture, "webp"),
    "Pillow, JPEG 2000": lambda picture: by_pillow(picture, "JPEG2000"),
    "OpenCV, JPEG 2000": lambda picture: by_opencv(picture, "jp2"),
}
seen = []
for name, way in ways.items():
    off = [int(np.abs(way(picture).astype(int) - picture).max()) for picture in (noise, flat)]
    seen.append(off)
    print(f"{name}: noise {off[0]} levels off at most, two flat regions {off[1]}")
noisy = [off[0] for off in seen]
exact = [number for number, value in enumerate(noisy) if value == 0]
raise SystemExit(0 if exact == [2, 5, 6] and min(noisy[0], noisy[3], noisy[4], noisy[7]) > 100 and noisy[1] < 5 else 1)
PY
