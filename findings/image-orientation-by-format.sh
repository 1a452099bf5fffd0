#!/usr/bin/env bash
# Who turns a picture by its orientation tag depends on the reader and the format: Pillow turns TIFF alone, pyvips AVIF alone.
#
# Guess:    a reader either applies orientation for all formats, or leaves it to exif_transpose and autorot for all.
# Versions: pillow 13.0.0, pyvips 3.2.0 with libvips 8.18.7, tifffile 2026.3.3, numpy 2.3.5
# Instead:  a 30x20 picture with orientation 6, as Pillow writes it. Image.open gives 30x20 with the tag for JPEG, PNG,
#           WebP and AVIF, but 20x30 for TIFF, and the tag is gone after load. pyvips gives 30x20 for all but AVIF,
#           which is 20x30 without a tag. tifffile never turns.
# Means:    boxes, masks and tile coordinates made with one reader lie across the picture in the other, only for some
#           formats. Compare shapes of one rotated sample a format before mixing readers; after exif_transpose and
#           autorot all are 20x30.
# Seen:     2026-11-30
#           jpg  Pillow (30, 20), tag after load 6; pyvips (30, 20); exif_transpose (20, 30), autorot (20, 30)
#           png  Pillow (30, 20), tag after load 6; pyvips (30, 20); exif_transpose (20, 30), autorot (20, 30)
#           webp Pillow (30, 20), tag after load 6; pyvips (30, 20); exif_transpose (20, 30), autorot (20, 30)
#           avif Pillow (30, 20), tag after load 6; pyvips (20, 30); exif_transpose (20, 30), autorot (20, 30)
#           tif  Pillow (20, 30), tag after load None; pyvips (30, 20); exif_transpose (20, 30), autorot (20, 30)
#           tifffile (30, 20)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pillow==13.0.0 pyvips==3.2.0 pyvips-binary==8.18.7 tifffile==2026.3.3 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
import pyvips
import tifffile
from PIL import Image, ImageOps

pixels = np.zeros((20, 30, 3), np.uint8)
exif = Image.Exif()
exif[274] = 6
sizes = {}
for ending in ("jpg", "png", "webp", "avif", "tif"):
    path = f"picture.{ending}"
    Image.fromarray(pixels).save(path, **({"tiffinfo": {274: 6}} if ending == "tif" else {"exif": exif}))
    opened, vips = Image.open(path), pyvips.Image.new_from_file(path)
    sizes[ending] = opened.size, (vips.width, vips.height)
    opened.load()
    turned, rotated = ImageOps.exif_transpose(Image.open(path)).size, vips.autorot()
    print(
        f"{ending:4} Pillow {sizes[ending][0]}, tag after load {opened.getexif().get(274)}; pyvips "
        f"{sizes[ending][1]}; "
        f"exif_transpose {turned}, autorot {(rotated.width, rotated.height)}"
    )
print(f"tifffile {tifffile.imread('picture.tif').shape[1::-1]}")
plain, round_ = (30, 20), (20, 30)
expected = {
    "jpg": (plain, plain),
    "png": (plain, plain),
    "webp": (plain, plain),
    "avif": (plain, round_),
    "tif": (round_, plain),
}
raise SystemExit(0 if sizes == expected else 1)
PY
