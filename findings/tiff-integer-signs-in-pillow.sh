#!/usr/bin/env bash
# Pillow reads unsigned 32-bit TIFF as signed, and signed 8-bit TIFF as unsigned.
#
# Guess:    a number type that a reader does not have is refused; what opens has the values that were written.
# Versions: tifffile 2026.3.3, pillow 13.0.0, numpy 2.3.5
# Instead:  uint32 opens as mode I, which is int32: 2**31 + 5 reads as -2147483643. int8 opens as mode L: -1 reads as
#           255. int16 and int32 are right, float64 and uint64 are refused.
# Means:    instance masks with hashed ids, counts and quantised features change their sign between tools, silently for
#           two of the types. Read scientific TIFF with tifffile.
# Seen:     2026-11-30
#           uint32: wrote [5, 2147483653], Pillow mode I reads [5, -2147483643]
#           int8: wrote [-1, -128], Pillow mode L reads [255, 128]
#           int16: wrote [-1, -300], Pillow mode I reads [-1, -300]
#           int32: wrote [-1, 2147483647], Pillow mode I reads [-1, 2147483647]
#           uint16: wrote [5, 65535], Pillow mode I;16 reads [5, 65535]
#           float64: refused
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet tifffile==2026.3.3 pillow==13.0.0 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError

right = {}
for name, values in (
    ("uint32", [5, 2**31 + 5]),
    ("int8", [-1, -128]),
    ("int16", [-1, -300]),
    ("int32", [-1, 2**31 - 1]),
    ("uint16", [5, 65535]),
    ("float64", [1.5, 2.5]),
):
    tifffile.imwrite("values.tif", np.array([values], name))
    try:
        image = Image.open("values.tif")
        read = np.asarray(image)[0].tolist()
        right[name] = read == values
        print(f"{name}: wrote {values}, Pillow mode {image.mode} reads {read}")
    except UnidentifiedImageError:
        right[name] = None
        print(f"{name}: refused")
expected = {"uint32": False, "int8": False, "int16": True, "int32": True, "uint16": True, "float64": None}
raise SystemExit(0 if right == expected else 1)
PY
