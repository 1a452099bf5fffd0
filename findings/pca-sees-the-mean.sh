#!/usr/bin/env bash
# scikit-learn's PCA of float32 data changes with the mean of the data, as soon as there are ten rows a column.
#
# Guess:    PCA subtracts the mean first, so a constant on all values changes nothing but mean_, and one row more
#           changes little.
# Versions: scikit-learn 1.9.1, numpy 2.3.5
# Instead:  with ten rows a column or more and at most 1,000 columns, PCA takes another way by itself
#           (covariance_eigh): it forms the products of the data as they are and subtracts those of the mean from them.
#           In float32 the difference is rounding: around a mean of 1,000 the first variance comes out five times too
#           large, and the first component points elsewhere.
# Means:    features with an offset beside their spread (times, positions, hidden units that are constant thousands)
#           get a wrong PCA, and only when there is enough data. Subtract the mean yourself, pass float64, or say
#           svd_solver="full".
# Seen:     2026-12-01
#           mean 0, 999 rows: first variance 8.7, right 8.7, cosine of the first components 1.00
#           mean 0, 1000 rows: first variance 8.7, right 8.7, cosine of the first components 1.00
#           mean 300, 999 rows: first variance 8.7, right 8.7, cosine of the first components 1.00
#           mean 300, 1000 rows: first variance 8.9, right 8.7, cosine of the first components 0.98
#           mean 1000, 999 rows: first variance 8.7, right 8.7, cosine of the first components 1.00
#           mean 1000, 1000 rows: first variance 42.8, right 8.7, cosine of the first components 0.17
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet scikit-learn==1.9.1 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
from sklearn.decomposition import PCA

data = np.random.default_rng(0).standard_normal((1000, 100)).astype(np.float32)
data[:, 0] *= 3
seen = []
for mean in (0, 300, 1000):
    for rows in (999, 1000):
        shifted = data[:rows] + np.float32(mean)
        found = PCA().fit(shifted)
        right = PCA(svd_solver="full").fit(shifted.astype(np.float64))
        alike = abs(found.components_[0] @ right.components_[0])
        variances = f"first variance {found.explained_variance_[0]:.1f}, right {right.explained_variance_[0]:.1f}"
        print(f"mean {mean}, {rows} rows: {variances}, cosine of the first components {alike:.2f}")
        seen.append((found.explained_variance_[0] / right.explained_variance_[0], alike))
right = all(abs(ratio - 1) < 0.01 and alike > 0.99 for ratio, alike in (*seen[:3], seen[4]))
raise SystemExit(0 if right and seen[5][0] > 2 and seen[5][1] < 0.5 else 1)
PY
