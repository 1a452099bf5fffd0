#!/usr/bin/env bash
# The same polygon is filled with another mask by each library: 10x10 is 100, or 121 pixels.
#
# Guess:    a polygon around 10 by 10 pixels gives 100 pixels everywhere, up to a pixel at slanted edges.
# Versions: pycocotools 2.0.11, pillow 13.0.0, scikit-image 0.26.0, numpy 2.3.5
# Instead:  pycocotools gives 100. Pillow includes both ends, 121. scikit-image gives 121 for whole coordinates and 100
#           for halves; for (2.3, 2.7) it gives 100 other pixels. Overlap (IoU) of "the same" mask: 0.83, for 4x4 0.64,
#           for 32x32 0.94.
# Means:    masks drawn by Pillow for training and judged by COCO's code cannot reach a high score on small objects,
#           whatever the model. Draw and judge with one rasteriser: maskUtils.frPyObjects for COCO.
# Seen:     2026-11-30
#           4x4 at (2, 2): pycocotools 16, Pillow 25, scikit-image 25; overlap with pycocotools 0.64 and 0.64
#           10x10 at (2, 2): pycocotools 100, Pillow 121, scikit-image 121; overlap with pycocotools 0.83 and 0.83
#           32x32 at (5, 5): pycocotools 1024, Pillow 1089, scikit-image 1089; overlap with pycocotools 0.94 and 0.94
#           10x10 at (2.5, 2.5): pycocotools 100, Pillow 121, scikit-image 100; overlap with pycocotools 0.83 and 1.00
#           10x10 at (2.3, 2.7): pycocotools 100, Pillow 121, scikit-image 100; overlap with pycocotools 0.83 and 0.82
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pycocotools==2.0.11 pillow==13.0.0 scikit-image==0.26.0 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask
from skimage.draw import polygon2mask

areas, overlap = {}, lambda one, other: (one & other).sum() / (one | other).sum()
for left, top, size in ((2, 2, 4), (2, 2, 10), (5, 5, 32), (2.5, 2.5, 10), (2.3, 2.7, 10)):
    polygon = [left, top, left + size, top, left + size, top + size, left, top + size]
    coco = mask.decode(mask.merge(mask.frPyObjects([polygon], 64, 64))).astype(bool)
    canvas = Image.new("1", (64, 64))
    ImageDraw.Draw(canvas).polygon(polygon, fill=1, outline=1)
    pillow = np.asarray(canvas)
    scikit = polygon2mask((64, 64), np.reshape(polygon, (4, 2))[:, ::-1])
    areas[left, size] = int(coco.sum()), int(pillow.sum()), int(scikit.sum())
    print(
        f"{size}x{size} at ({left}, {top}): pycocotools {coco.sum()}, Pillow {pillow.sum()}, scikit-image "
        f"{scikit.sum()}; overlap with "
        f"pycocotools {overlap(coco, pillow):.2f} and {overlap(coco, scikit):.2f}"
    )
raise SystemExit(0 if areas[2, 10] == (100, 121, 121) and areas[2.5, 10] == (100, 121, 100) else 1)
PY
