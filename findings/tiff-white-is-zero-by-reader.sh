#!/usr/bin/env bash
# A TIFF in which 0 is white comes out inverted or not, by the reader and by the number of bits.
#
# Guess:    "white is zero" is how scans are stored; the readers all turn it into "0 is black", or all of them give the numbers
#           stored.
# Versions: tifffile 2026.3.3, pillow 13.0.0, opencv-python-headless 5.0.0.93, pyvips 3.2.0 with libvips 8.18.7, imageio 2.38.1,
#           numpy 2.3.5
# Instead:  tifffile, and imageio that uses it, give the stored numbers. Pillow and OpenCV invert 1 and 8 bits and leave 16 bits as
#           they are; pyvips inverts all three.
# Means:    fax and document scans, and medical film in 16 bits, are negatives in one half of a training set. A check by eye of
#           8-bit files says nothing about 16 bits. Read the tag PhotometricInterpretation.
# Seen:     2026-11-30
#           1 bits, stored 0: tifffile 0, imageio 0, Pillow 1, OpenCV 255, pyvips 255
#           8 bits, stored 0: tifffile 0, imageio 0, Pillow 255, OpenCV 255, pyvips 255
#           16 bits, stored 0: tifffile 0, imageio 0, Pillow 0, OpenCV 0, pyvips 65535
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet tifffile==2026.3.3 pillow==13.0.0 opencv-python-headless==5.0.0.93 'pyvips[binary]==3.2.0' \
    pyvips-binary==8.18.7 imageio==2.38.1 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import cv2
import imageio.v3
import numpy as np
import pyvips
import tifffile
from PIL import Image

readers = {
    "tifffile": tifffile.imread,
    "imageio": imageio.v3.imread,
    "Pillow": lambda path: np.asarray(Image.open(path)),
    "OpenCV": lambda path: cv2.imread(path, cv2.IMREAD_UNCHANGED),
    "pyvips": lambda path: pyvips.Image.new_from_file(path).numpy(),
}
seen = []
for bits, array in ((1, np.eye(8, dtype=bool)), (8, np.eye(8, dtype="uint8") * 200), (16, np.eye(8, dtype="uint16") * 900)):
    tifffile.imwrite(f"white{bits}.tif", array, photometric="miniswhite")
    values = {name: int(read(f"white{bits}.tif")[0, 1]) for name, read in readers.items()}
    seen.append(list(values.values()))
    print(f"{bits} bits, stored 0:", ", ".join(f"{name} {value}" for name, value in values.items()))
raise SystemExit(0 if seen == [[0, 0, 1, 255, 255], [0, 0, 255, 255, 255], [0, 0, 0, 0, 65535]] else 1)
PY
