#!/usr/bin/env bash
# imagecodecs decodes a CMYK JPEG with all four inks inverted against Pillow.
#
# Guess:    a decoder of JPEG gives the inks that were put in; no ink is 0.
# Versions: imagecodecs 2026.3.6, pillow 13.0.0, numpy 2.3.5
# Instead:  such files hold inverted values by Adobe's custom, with a marker that says so. Pillow inverts them back;
#           imagecodecs (imread and jpeg8_decode) returns them as stored: cyan 255, black 40 reads as 0, 255, 255, 215.
#           Inside a TIFF the same codec is right, as TIFF has no such custom.
# Means:    print archives converted through imagecodecs are negatives, and nothing in shape or range shows it. Subtract
#           from 255 where the file has the marker, or decode by Pillow.
# Seen:     2026-11-30
#           written [255, 0, 0, 40]; Pillow [255, 0, 0, 40], imagecodecs [0, 255, 255, 215]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet imagecodecs==2026.3.6 pillow==13.0.0 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import imagecodecs
import numpy as np
from PIL import Image

inks = np.zeros((16, 16, 4), np.uint8)
inks[..., 0], inks[..., 3] = 255, 40
Image.frombytes("CMYK", (16, 16), inks.tobytes()).save("inks.jpg", quality=95)
one = np.asarray(Image.open("inks.jpg"))[8, 8].astype(int)
other = imagecodecs.imread("inks.jpg")[8, 8].astype(int)
print(f"written [255, 0, 0, 40]; Pillow {one.tolist()}, imagecodecs {other.tolist()}")
raise SystemExit(
    0 if np.abs(one - [255, 0, 0, 40]).max() <= 2 and np.abs(other - [0, 255, 255, 215]).max() <= 2 else 1
)
PY
