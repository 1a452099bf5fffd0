#!/usr/bin/env bash
# The Delta filter, a step before lossless compression, changes float data, more with every sample.
#
# Guess:    Delta stores differences and sums them up again, so it is lossless like the compressor after it.
# Versions: numcodecs 0.16.6, zarr 3.1.6, numpy 2.3.5
# Instead:  differences and sums are rounded in the array's own type. A minute of float32 noise at 16 kHz comes back
#           wrong in nearly all samples, and the error grows along the chunk. What follows a large value is shifted:
#           [1e8, 1, 2, 3] reads [1e8, 0, 1, 2]. Integers are exact.
# Means:    "compressor: zstd, filter: Delta" on floats is a lossy format that drifts, and no option says so. Use
#           shuffle or bitshuffle for floats, Delta for sorted integers.
# Seen:     2026-11-30
#           float32: 100% of the samples changed; largest error in the first second 7.6e-06, in the last 2.9e-05
#           [100000000.0, 1.0, 2.0, 3.0] -> [100000000.0, 0.0, 1.0, 2.0]; int32 exact: True
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet numcodecs==0.16.6 zarr==3.1.6 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import numcodecs
import numpy as np
import zarr

random = np.random.default_rng(0)
sound = random.standard_normal(60 * 16000).astype(np.float32)
jump = np.array([1e8, 1, 2, 3], np.float32)
store = zarr.create_array(
    "array.zarr",
    shape=sound.shape,
    chunks=sound.shape,
    dtype="float32",
    zarr_format=2,
    filters=[numcodecs.Delta(dtype="<f4")],
    compressors=numcodecs.Zstd(),
)
store[:] = sound
error = np.abs(store[:] - sound)
codec = numcodecs.Delta(dtype="<f4")
jumped = codec.decode(codec.encode(jump))
whole = np.cumsum(random.integers(-9, 9, 1000)).astype(np.int32)
integers = numcodecs.Delta(dtype="<i4")
exact = np.array_equal(integers.decode(integers.encode(whole)), whole)
print(
    f"float32: {np.mean(error > 0):.0%} of the samples changed; largest error in the first second "
    f"{error[:16000].max():.1e}, "
    f"in the last {error[-16000:].max():.1e}"
)
print(f"{jump.tolist()} -> {jumped.tolist()}; int32 exact: {exact}")
raise SystemExit(0 if np.mean(error > 0) > 0.9 and not np.array_equal(jumped, jump) and exact else 1)
PY
