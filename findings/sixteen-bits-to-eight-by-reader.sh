#!/usr/bin/env bash
# A 16-bit picture opened as 8 bits is nearly white in Pillow and imageio, and itself in OpenCV.
#
# Guess:    convert("L") of a 16-bit grey picture scales 0 to 65535 to 0 to 255, as OpenCV's imread does by default.
# Versions: pillow 13.0.0, opencv-python-headless 5.0.0.93, imageio 2.38.1, numpy 2.3.5
# Instead:  Pillow clips at 255: convert("L") and convert("RGB") give 255 for all that is not nearly black, and imageio's mode="L"
#           is Pillow. Of a 16-bit picture in colour Pillow takes the upper eight bits, so the two kinds differ within one library.
#           No warning.
# Means:    X-ray, depth and microscope pictures become white sheets with a few black dots in the usual
#           Image.open(path).convert("RGB"), which still trains. Scale in numpy first.
# Seen:     2026-11-30
#           16 bits: [100, 1000, 20000, 60000]
#           Pillow, convert('L'): [100, 255, 255, 255]
#           Pillow, convert('RGB'): [100, 255, 255, 255]
#           imageio, mode='L': [100, 255, 255, 255]
#           OpenCV: [0, 3, 78, 234]
#           Pillow, the same in colour: [0, 3, 78, 234]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pillow==13.0.0 opencv-python-headless==5.0.0.93 imageio==2.38.1 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import cv2
import imageio.v3
import numpy as np
from PIL import Image

grey = np.array([[100, 1000, 20_000, 60_000]], "uint16")
cv2.imwrite("grey.png", grey)
cv2.imwrite("colour.png", np.repeat(grey[..., None], 3, 2))
assert np.array_equal(np.asarray(Image.open("grey.png")), grey)
seen = {
    "Pillow, convert('L')": np.asarray(Image.open("grey.png").convert("L")),
    "Pillow, convert('RGB')": np.asarray(Image.open("grey.png").convert("RGB"))[..., 0],
    "imageio, mode='L'": imageio.v3.imread("grey.png", mode="L"),
    "OpenCV": cv2.imread("grey.png")[..., 0],
    "Pillow, the same in colour": np.asarray(Image.open("colour.png").convert("RGB"))[..., 0],
}
print("16 bits:", grey.ravel().tolist())
for name, values in seen.items():
    print(f"{name}: {values.ravel().tolist()}")
*clipped, scaled, colour = (values.ravel().tolist() for values in seen.values())
raise SystemExit(0 if clipped == [[100, 255, 255, 255]] * 3 and scaled == colour == [0, 3, 78, 234] else 1)
PY
