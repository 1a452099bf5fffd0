#!/usr/bin/env bash
# A PNG with one transparent colour has an alpha band in pyvips and none in Pillow or imageio.
#
# Guess:    a picture with transparency opens in a mode with alpha, so a test on the mode finds it.
# Versions: pillow 13.0.0, imageio 2.38.1, pyvips 3.2.0 with libvips 8.18.7, numpy 2.3.5
# Instead:  the format may mark one grey or RGB value as transparent (chunk tRNS). Pillow opens it as L or RGB, with the
#           value in info["transparency"]; imageio gives one or three bands; pyvips two or four. convert("RGB") shows
#           the hidden colour, convert("RGBA") hides it.
# Means:    "if mode is RGBA, lay it on white" lets the background colour of scanned logos and plots through, and the
#           two readers give arrays of different depth. Test "transparency" in info before the mode.
# Seen:     2026-11-30
#           grey: Pillow mode L, info {'transparency': 100}; imageio 1 bands, pyvips 2; alpha after convert('RGBA') 0
#           rgb: Pillow mode RGB, info {'transparency': (9, 9, 9)}; imageio 3 bands, pyvips 4; alpha after convert('RGBA') 0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pillow==13.0.0 imageio==2.38.1 pyvips==3.2.0 pyvips-binary==8.18.7 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import imageio.v3
import numpy as np
import pyvips
from PIL import Image

seen = {}
for name, pixels, hidden in (
    ("grey", np.full((4, 4), 100, np.uint8), 100),
    ("rgb", np.full((4, 4, 3), 9, np.uint8), (9, 9, 9)),
):
    Image.fromarray(pixels).save("picture.png", transparency=hidden)
    opened, vips = Image.open("picture.png"), pyvips.Image.new_from_file("picture.png", revalidate=True)
    array = imageio.v3.imread("picture.png")
    alpha = np.asarray(opened.convert("RGBA"))[0, 0, 3]
    seen[name] = opened.mode, 1 if array.ndim == 2 else array.shape[2], vips.bands, int(alpha)
    print(
        f"{name}: Pillow mode {opened.mode}, info {opened.info}; imageio {seen[name][1]} bands, pyvips {vips.bands}; "
        f"alpha after convert('RGBA') {alpha}"
    )
raise SystemExit(0 if seen == {"grey": ("L", 1, 2, 0), "rgb": ("RGB", 3, 4, 0)} else 1)
PY
