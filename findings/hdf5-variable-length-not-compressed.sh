#!/usr/bin/env bash
# gzip on a dataset of variable-length arrays compresses nothing.
#
# Guess:    compression="gzip" compresses the arrays of a vlen dataset, as it does those of a rectangular one.
# Versions: h5py 3.16.0 (bundled HDF5), numpy 2.3.5
# Instead:  the filter only sees the 16-byte references in the chunks; the arrays lie in the file's global heap, which
#           no filter touches. 200 arrays of 16,000 zeros: 12.8 MB with gzip as without. As a rectangle they take 36 kB.
#           No warning.
# Means:    the natural layout for recordings or features of different lengths costs full size (and names a filter that
#           is then read in the metadata). Store one long array and the offsets of the items instead.
# Seen:     2026-11-30
#           vlen, compression None: 12.81 MB
#           vlen, compression gzip: 12.81 MB
#           rectangle, compression gzip: 0.04 MB
#           long array and offsets, compression gzip: 0.04 MB
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet h5py==3.16.0 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import os

import h5py
import numpy as np

rows, length = 200, 16000
sizes = {}
for name, compression in (
    ("vlen", None),
    ("vlen", "gzip"),
    ("rectangle", "gzip"),
    ("long array and offsets", "gzip"),
):
    with h5py.File("file.h5", "w") as file:
        if name == "vlen":
            items = file.create_dataset("x", (rows,), dtype=h5py.vlen_dtype(np.float32), compression=compression)
            for row in range(rows):
                items[row] = np.zeros(length, np.float32)
        elif name == "rectangle":
            file.create_dataset("x", data=np.zeros((rows, length), np.float32), compression=compression)
        else:
            file.create_dataset("x", data=np.zeros(rows * length, np.float32), compression=compression)
            file.create_dataset("offsets", data=np.arange(0, rows * length + 1, length))
    sizes[name, compression] = os.path.getsize("file.h5")
    print(f"{name}, compression {compression}: {sizes[name, compression] / 1e6:.2f} MB")
plain, packed = sizes["vlen", None], sizes["vlen", "gzip"]
raise SystemExit(0 if packed > 0.99 * plain and sizes["long array and offsets", "gzip"] < plain / 50 else 1)
PY
