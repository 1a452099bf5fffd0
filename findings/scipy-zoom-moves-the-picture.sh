#!/usr/bin/env bash
# scipy.ndimage.zoom by 4 puts what is at the edge up to one and a half pixels away from where OpenCV and scikit-image put it.
#
# Guess:    zoom(x, 4, order=1) is the linear resize to four times the size, as in OpenCV, scikit-image and Pillow.
# Versions: scipy 1.16.3, opencv-python-headless 5.0.0.93, scikit-image 0.26.0, pillow 13.0.0, numpy 2.3.5
# Instead:  it maps the first and last pixel's centres onto each other, so the step is 31/7 = 4.43 and not 4: a dot in pixel 0 of 8
#           is at 0 and not at 1.5, one in pixel 7 at 31 and not at 29.5; in the middle they agree. grid_mode=True, mode="nearest"
#           is the resize.
# Means:    a mask, a box or a heat map that is enlarged by one library over a picture enlarged by another fits in the middle and
#           not at the edges, and a spectrogram stretched in time has its labels late at the end. Use one library, or grid_mode.
# Seen:     2026-11-30
#           scipy zoom: output pixels 2, 10, 21, 29 of 32 show the places [0.45, 2.26, 4.74, 6.55] of 8
#           scipy zoom, grid_mode: output pixels 2, 10, 21, 29 of 32 show the places [0.12, 2.12, 4.88, 6.88] of 8
#           OpenCV: output pixels 2, 10, 21, 29 of 32 show the places [0.12, 2.12, 4.88, 6.88] of 8
#           scikit-image: output pixels 2, 10, 21, 29 of 32 show the places [0.12, 2.12, 4.88, 6.88] of 8
#           Pillow: output pixels 2, 10, 21, 29 of 32 show the places [0.12, 2.12, 4.88, 6.88] of 8
#           by arithmetic, (place + 0.5) / 4 - 0.5: [0.12, 2.12, 4.88, 6.88]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet scipy==1.16.3 opencv-python-headless==5.0.0.93 scikit-image==0.26.0 pillow==13.0.0 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import cv2
import numpy as np
from PIL import Image
from scipy.ndimage import zoom
from skimage.transform import resize

ways = {
    "scipy zoom": lambda row: zoom(row, (1, 4), order=1)[0],
    "scipy zoom, grid_mode": lambda row: zoom(row, (1, 4), order=1, grid_mode=True, mode="nearest")[0],
    "OpenCV": lambda row: cv2.resize(row, (32, 1), interpolation=cv2.INTER_LINEAR)[0],
    "scikit-image": lambda row: resize(row, (1, 32), order=1, mode="edge")[0],
    "Pillow": lambda row: np.asarray(Image.fromarray(row).resize((32, 1), Image.Resampling.BILINEAR))[0],
}
ramp = np.arange(8, dtype="float32")[None]  # its value says which place of the row a pixel shows
seen = {}
for name, way in ways.items():
    shown = way(ramp).astype(float)
    seen[name] = [round(float(shown[place]), 2) for place in (2, 10, 21, 29)]
    print(f"{name}: output pixels 2, 10, 21, 29 of 32 show the places {seen[name]} of 8")
scipy, *others = seen.values()
right = [round((place + 0.5) / 4 - 0.5, 2) for place in (2, 10, 21, 29)]
print("by arithmetic, (place + 0.5) / 4 - 0.5:", right)
wrong = np.abs(np.array(scipy) - right)
raise SystemExit(
    0 if all(np.allclose(other, right, atol=0.02) for other in others) and np.allclose(wrong, [0.33, 0.12, 0.13, 0.33], atol=0.05) else 1
)
PY
