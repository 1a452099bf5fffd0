#!/usr/bin/env bash
# A virtual HDF5 dataset over shard files reads a missing shard as zeros.
#
# Guess:    if one of the files that a virtual dataset is made of is gone, reading it raises, as opening that file
#           would.
# Versions: h5py 3.16.0 (bundled HDF5), numpy 2.3.5
# Instead:  the rows of the missing file are the fill value, 0. No error, no warning, shape and dtype are right.
# Means:    a shard that was not copied, was renamed, or is resolved from another working folder trains the model on
#           zeros. A fill value of NaN shows it at once (create_virtual_dataset(..., fillvalue=nan)); for integers check
#           every source's file first.
# Seen:     2026-11-30
#           shard 1 there: mean 2.000, zeros 0, with fill value NaN: 0 NaN
#           shard 1 gone: mean 1.333, zeros 10, with fill value NaN: 10 NaN
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

for number in range(3):
    with h5py.File(f"shard{number}.h5", "w") as file:
        file["x"] = np.full(10, number + 1.0)
layout = h5py.VirtualLayout(shape=(30,), dtype=np.float64)
for number in range(3):
    layout[10 * number : 10 * number + 10] = h5py.VirtualSource(f"shard{number}.h5", "x", shape=(10,))
with h5py.File("all.h5", "w", libver="latest") as file:
    file.create_virtual_dataset("x", layout)
    file.create_virtual_dataset("marked", layout, fillvalue=np.nan)
means = []
for gone in (False, True):
    if gone:
        os.remove("shard1.h5")
    with h5py.File("all.h5") as file:
        means.append(file["x"][:].mean())
        print(
            f"shard 1 {'gone' if gone else 'there'}: mean {means[-1]:.3f}, zeros {np.sum(file['x'][:] == 0)}, "
            f"with fill value NaN: {np.isnan(file['marked'][:]).sum()} NaN"
        )
raise SystemExit(0 if means[0] == 2 and abs(means[1] - 4 / 3) < 1e-9 else 1)
PY
