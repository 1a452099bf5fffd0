#!/usr/bin/env bash
# faiss.Kmeans given a million points trains on 12,800 of them and reports the loss of those.
#
# Guess:    train(x) uses x; obj[-1] is the sum of squared distances of x to its centroids, as scikit-learn's inertia_.
# Versions: faiss-cpu 1.15.1, numpy 2.3.5
# Instead:  256 points a centroid are drawn and the rest is dropped without a message (verbose says so). obj is the loss
#           of the sample: 80 times too small here, and it stays where it is when more data are added. With
#           max_points_per_centroid raised it is the loss of all points.
# Means:    pseudo-labels for speech units made "on 1,000 hours" come from minutes, and curves of obj over data size or
#           codebook size compare different samples. Set max_points_per_centroid, and compute the loss with index.search
#           over all points.
# Seen:     2026-11-30
#           default: reported 1,380,994, over all points 110,183,760
#           {'max_points_per_centroid': 1000000}: reported 157,065,984, over all points 157,015,200
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet faiss-cpu==1.15.1 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import faiss
import numpy as np

random = np.random.default_rng(0)
count, clusters, size = 1_000_000, 50, 16
centres = 8 * random.standard_normal((clusters, size))
points = (centres[random.integers(0, clusters, count)] + random.standard_normal((count, size))).astype(np.float32)
losses = {}
for options in ({}, {"max_points_per_centroid": count}):
    model = faiss.Kmeans(size, clusters, niter=20, seed=1, **options)
    reported = float(model.train(points))
    true = float(model.index.search(points, 1)[0].sum())
    losses[bool(options)] = reported / true
    print(f"{options or 'default'}: reported {reported:,.0f}, over all points {true:,.0f}")
raise SystemExit(0 if losses[False] < 0.05 and losses[True] > 0.9 else 1)
PY
