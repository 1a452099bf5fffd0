#!/usr/bin/env bash
# The mean of 30 million float32 rows of 1.0 is 0.56 in numpy.
#
# Guess:    numpy sums in pairs, so float32 means are right to six digits, along either axis.
# Versions: numpy 2.3.5, scikit-learn 1.8.0
# Instead:  only sums along the contiguous axis go by pairs. mean(axis=0) of a (frames, bands) array adds row by row in
#           float32 and stops growing at 2**24: 0.559 for ones; for noise around 5 with deviation 1, mean 4.48 and std
#           1.09. One column, or the mean of all, is right. scikit-learn's StandardScaler sums in float64.
# Means:    mean and variance of features over a corpus (30 million frames are 83 hours at 10 ms) are off by tens of per
#           cent, so the normalised input is shifted against what another library computes; small tests are exact. Pass
#           dtype=np.float64. (This script needs 1 GB of memory.)
# Seen:     2026-11-30
#           rows of 1.0: mean(axis=0) 0.559, one column 1.000, of all 1.000, dtype=float64 1.000
#           noise around 5: mean(axis=0) 4.478, std(axis=0) 1.090; StandardScaler 5.000, 1.000
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet numpy==2.3.5 scikit-learn==1.8.0
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
from sklearn.preprocessing import StandardScaler

rows = 30_000_000
ones = np.ones((rows, 2), np.float32)
along, column, wide = ones.mean(axis=0)[0], ones[:, 0].mean(), ones.mean(axis=0, dtype=np.float64)[0]
print(
    f"rows of 1.0: mean(axis=0) {along:.3f}, one column {column:.3f}, of all {ones.mean():.3f}, dtype=float64 "
    f"{wide:.3f}"
)
del ones
noise = np.random.default_rng(0).standard_normal((rows, 2), dtype=np.float32) + np.float32(5)
scaler = StandardScaler(copy=False)
for start in range(0, rows, rows // 10):
    scaler.partial_fit(noise[start : start + rows // 10])
print(
    f"noise around 5: mean(axis=0) {noise.mean(axis=0)[0]:.3f}, std(axis=0) {noise.std(axis=0)[0]:.3f}; "
    f"StandardScaler {scaler.mean_[0]:.3f}, {scaler.scale_[0]:.3f}"
)
raise SystemExit(
    0
    if along < 0.6 and column == wide == 1 and noise.mean(axis=0)[0] < 4.6 and abs(scaler.mean_[0] - 5) < 0.01
    else 1
)
PY
