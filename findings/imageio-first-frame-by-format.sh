#!/usr/bin/env bash
# imageio returns all frames of an animated GIF and only the first of the same animation as WebP or AVIF.
#
# Guess:    imread decides by the file whether it is one picture or many, alike for all animated formats.
# Versions: imageio 2.38.1, pillow 13.0.0, tifffile 2026.3.3, numpy 2.3.5
# Instead:  GIF and PNG give an array of 7 frames, WebP and AVIF one picture, without a warning; index=... gives all in each of
#           them, but of a TIFF of pages, which the default reads whole, it gives one more dimension.
# Means:    a folder of clips that were stored as WebP to save space has the shape of pictures, and loaders that tell pictures from
#           clips by the number of dimensions train on first frames.
# Seen:     2026-11-30
#           gif: imread (7, 16, 16, 3), index=... (7, 16, 16, 3)
#           png: imread (7, 16, 16, 3), index=... (7, 16, 16, 3)
#           webp: imread (16, 16, 3), index=... (7, 16, 16, 3)
#           avif: imread (16, 16, 3), index=... (7, 16, 16, 3)
#           tiff: imread (7, 16, 16, 3), index=... (1, 7, 16, 16, 3)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet imageio==2.38.1 pillow==13.0.0 tifffile==2026.3.3 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import imageio.v3
from PIL import Image

frames = [Image.new("RGB", (16, 16), (grey, grey, grey)) for grey in range(0, 210, 30)]
seen = {}
for kind in ("gif", "png", "webp", "avif", "tiff"):
    frames[0].save(f"clip.{kind}", save_all=True, append_images=frames[1:])
    with Image.open(f"clip.{kind}") as file:
        assert file.n_frames == 7
    seen[kind] = imageio.v3.imread(f"clip.{kind}").shape, imageio.v3.imread(f"clip.{kind}", index=...).shape
    print(f"{kind}: imread {seen[kind][0]}, index=... {seen[kind][1]}")
whole, first = (7, 16, 16, 3), (16, 16, 3)
raise SystemExit(0 if [*seen.values()] == [(whole, whole)] * 2 + [(first, whole)] * 2 + [(whole, (1, *whole))] else 1)
PY
