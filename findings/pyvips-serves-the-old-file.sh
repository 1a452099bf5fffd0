#!/usr/bin/env bash
# pyvips returns the pixels of a file that no longer exist: it was overwritten in between.
#
# Guess:    new_from_file opens the file that is there now.
# Versions: pyvips 3.2.0 with libvips 8.18.7, pillow 13.0.0, numpy 2.3.5
# Instead:  libvips keeps the results of recent operations by their arguments, and the file's name is one. A second
#           new_from_file of the same name gives the first picture again, whole, also with another size. revalidate=True
#           reads anew.
# Means:    loops that write "tmp.png", read it and go on (conversion checks, augmentation with an outside program,
#           frames of a video) measure the first picture again and again, and round-trip tests pass. Use new names,
#           revalidate=True, or pyvips.cache_set_max(0).
# Seen:     2026-11-30
#           written 10 (8 wide), read (10, 8); overwritten with 200 (16 wide), read (10, 8); revalidate=True (200, 16)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pyvips==3.2.0 pyvips-binary==8.18.7 pillow==13.0.0 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
import pyvips
from PIL import Image

seen = []
for value, width in ((10, 8), (200, 16)):
    Image.fromarray(np.full((8, width), value, np.uint8)).save("tmp.png")
    image = pyvips.Image.new_from_file("tmp.png")
    seen.append((int(image.avg()), image.width))
fresh = pyvips.Image.new_from_file("tmp.png", revalidate=True)
seen.append((int(fresh.avg()), fresh.width))
print(
    f"written 10 (8 wide), read {seen[0]}; overwritten with 200 (16 wide), read {seen[1]}; revalidate=True {seen[2]}"
)
raise SystemExit(0 if seen == [(10, 8), (10, 8), (200, 16)] else 1)
PY
