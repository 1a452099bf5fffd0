#!/usr/bin/env bash
# UMAP's transform gives the training points their own places only if all of them are passed, in the same order.
#
# Guess:    transform(X) == embedding_ shows that transform is a function of each point; so transform(X[:100]) are its first rows.
# Versions: umap-learn 0.5.12, numpy 2.3.5, scikit-learn 1.8.0
# Instead:  transform compares a hash of the whole array with the training data's and then returns the stored embedding. Any other
#           selection or order is optimised anew: a part of X, or X reversed, comes out up to 1 and more units away, and the place of a
#           new point depends on the points beside it. Repeating a call gives the same values, so it looks like a function.
# Means:    a check "transform reproduces the fit" proves nothing, plots made batch by batch are blurred, and drift measured in the
#           plane is partly the batch. Transform everything that is compared in one call.
# Seen:     2026-11-30
#           standard deviation of the embedding: [8.699999809265137, 8.800000190734863]
#           moved by: all points 0.00; the first 100 of them median 0.40, most 1.14; all in reverse order 0.33, 1.45
#           new points, with 100 others or without: median 0.02, most 1.96; repeated 0.00
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet umap-learn==0.5.12 numpy==2.3.5 scikit-learn==1.8.0
cd "$work"
venv/bin/python - <<'PY'
import warnings

import numpy as np
import umap

warnings.simplefilter("ignore")
random = np.random.default_rng(0)
centres = 6 * random.standard_normal((5, 20))
draw = lambda count: (centres[random.integers(0, 5, count)] + random.standard_normal((count, 20))).astype(np.float32)
points, new = draw(1000), draw(200)
model = umap.UMAP(random_state=1).fit(points)
away = lambda one, other: np.linalg.norm(one - other, axis=1)
same = away(model.transform(points), model.embedding_)
part = away(model.transform(points[:100].copy()), model.embedding_[:100])
turned = away(model.transform(points[::-1].copy())[::-1], model.embedding_)
batch = model.transform(new)
beside = away(model.transform(new[:100]), batch[:100])
print(f"standard deviation of the embedding: {model.embedding_.std(0).round(1).tolist()}")
print(f"moved by: all points {same.max():.2f}; the first 100 of them median {np.median(part):.2f}, most {part.max():.2f}; "
      f"all in reverse order {np.median(turned):.2f}, {turned.max():.2f}")
print(f"new points, with 100 others or without: median {np.median(beside):.2f}, most {beside.max():.2f}; "
      f"repeated {away(model.transform(new), batch).max():.2f}")
raise SystemExit(0 if same.max() == 0 and part.max() > 0.1 and turned.max() > 0.1 and beside.max() > 0.1 else 1)
PY
