#!/usr/bin/env bash
# The same JPEG has other colours in FFmpeg than in Pillow: up to a hundred levels, 3.7 on average.
#
# Guess:    decoders differ by a level or two of rounding.
# Versions: av 18.1.0 (its own FFmpeg 8 libraries), pillow 13.0.0, pyvips 3.2.0 with libvips 8.18.7, numpy 2.3.5
# Instead:  with colour at full size (4:4:4) they do, by 3 at most. With colour at half size (4:2:0, what cameras and
#           most tools write) PyAV's rgb24 repeats a colour sample over its pixels, while libjpeg, in Pillow and pyvips
#           alike, smooths between them. Patches of saturated colour: mean difference 3.7, largest 104.
# Means:    a model trained on frames or images read by FFmpeg and served images read by Pillow gets another input at
#           every coloured edge, about as much as the JPEG compression itself. Use one decoder for training and serving.
# Seen:     2026-11-30
#           4:4:4: PyAV against Pillow mean 0.02, largest 3; pyvips against Pillow 0; Pillow against the original, mean 2.20
#           4:2:0: PyAV against Pillow mean 3.68, largest 104; pyvips against Pillow 0; Pillow against the original, mean 5.29
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet av==18.1.0 pillow==13.0.0 pyvips==3.2.0 pyvips-binary==8.18.7 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import io

import av
import numpy as np
import pyvips
from PIL import Image, ImageDraw

random = np.random.default_rng(0)
picture = Image.new("RGB", (256, 256), (200, 30, 30))
draw = ImageDraw.Draw(picture)
for _ in range(60):
    left, top = random.integers(0, 240, 2).tolist()
    width, height = random.integers(5, 40, 2).tolist()
    draw.ellipse([left, top, left + width, top + height], fill=tuple(random.integers(0, 256, 3).tolist()))
apart = {}
for name, subsampling in (("4:4:4", 0), ("4:2:0", 2)):
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90, subsampling=subsampling)
    pillow = np.asarray(Image.open(file)).astype(int)
    vips = pyvips.Image.new_from_buffer(file.getvalue(), "").numpy().astype(int)
    file.seek(0)
    with av.open(file) as opened:
        frame = next(opened.decode(video=0)).to_ndarray(format="rgb24").astype(int)
    apart[name] = np.abs(frame - pillow).mean(), np.abs(frame - pillow).max()
    print(
        f"{name}: PyAV against Pillow mean {apart[name][0]:.2f}, largest {apart[name][1]}; pyvips against Pillow "
        f"{np.abs(vips - pillow).max()}; "
        f"Pillow against the original, mean {np.abs(pillow - np.asarray(picture).astype(int)).mean():.2f}"
    )
raise SystemExit(0 if apart["4:4:4"][1] <= 5 and apart["4:2:0"][0] > 2 and apart["4:2:0"][1] > 50 else 1)
PY
