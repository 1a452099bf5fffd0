#!/usr/bin/env bash
# HDF5's scale-offset filter gives NaN back as an ordinary number; infinity switches the compression of its chunk off.
#
# Guess:    a lossy filter that keeps three decimals keeps NaN as NaN, or refuses it.
# Versions: h5py 3.16.0 (bundled HDF5), numpy 2.3.5
# Instead:  scaleoffset=3 on floats: the NaN comes back as a finite value that looks like data (here near the lowest
#           value of its chunk); all other values are right to 0.0005. A chunk with an infinity is stored exactly,
#           without compression.
# Means:    missing frames, unvoiced pitch and masked pixels that are marked by NaN are turned into data, and a check
#           with isnan after reading finds nothing. Store the mask beside it, or use gzip with shuffle.
# Seen:     2026-11-30
#           NaN at 5 and 905 comes back as -23.25 and -29.28 (lowest of their chunks -23.25 and -29.28); largest error of the others 0.0005, in the first chunk 0.0005
#           infinity at 5 and 905 comes back as inf and inf (lowest of their chunks -23.25 and -29.28); largest error of the others 0.0005, in the first chunk 0.0000
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet h5py==3.16.0 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import h5py
import numpy as np

values = 10 * np.random.default_rng(0).standard_normal(1000)
back = {}
for name, odd in (("NaN", np.nan), ("infinity", np.inf)):
    marked = values.copy()
    marked[[5, 905]] = odd
    with h5py.File("file.h5", "w") as file:
        file.create_dataset("x", data=marked, chunks=(100,), scaleoffset=3)
    with h5py.File("file.h5") as file:
        back[name] = file["x"][:]
    rest = np.ones(1000, bool)
    rest[[5, 905]] = False
    error = np.abs(back[name] - values)[rest]
    print(
        f"{name} at 5 and 905 comes back as {back[name][5]:.2f} and {back[name][905]:.2f} "
        f"(lowest of their chunks {values[:100].min():.2f} and {values[900:].min():.2f}); "
        f"largest error of the others {error.max():.4f}, in the first chunk {error[:99].max():.4f}"
    )
raise SystemExit(0 if np.isfinite(back["NaN"]).all() and np.isinf(back["infinity"][5]) else 1)
PY
