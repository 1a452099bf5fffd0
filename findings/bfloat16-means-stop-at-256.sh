#!/usr/bin/env bash
# The mean of 5,000 ones in bfloat16 is 0.05 in numpy with ml_dtypes; in float16 it is 1, but the spread of a column of ones is 0.45.
#
# Guess:    means of 16-bit floats are added up in float32, as numpy does for float16, and std is as good as mean.
# Versions: numpy 2.4.6, ml_dtypes 0.7.0 (what safetensors and JAX give for bfloat16)
# Instead:  numpy widens float16 by name, in mean alone. bfloat16 is a type of another package, so sum, mean, average, nanmean and var add
#           in bfloat16, which has no 257, and in no order of pairs: sums of ones end at 256, along any axis. Products (`@`) and
#           norm are right. var and std of float16 take their mean in float16: right for one row of numbers, wrong for
#           columns, where rows are added one by one.
# Means:    features loaded as bfloat16 and averaged over frames are a tenth of what they are, more frames make them smaller, and
#           no warning comes. Standard deviations of float16 features over items are wrong though their means are right.
#           Give dtype=np.float32, or cast first.
# Seen:     2026-12-01, ones of shape (5000, 4)
#           float16: sum 5000, mean 1, mean of columns 1, product 5000, std 0, std of columns 0.4526
#           bfloat16: sum 256, mean 0.05127, mean of columns 0.05127, product 5000, std 0.2266, std of columns 0.2266
#           bfloat16, dtype=float32: mean 1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet numpy==2.4.6 ml_dtypes==0.7.0
cd "$work"
venv/bin/python - <<'PY'
import ml_dtypes
import numpy as np

seen = {}
for dtype in (np.float16, ml_dtypes.bfloat16):
    table = np.ones((5_000, 4), dtype)
    column = np.ascontiguousarray(table[:, 0])
    seen[dtype] = {
        "sum": column.sum(),
        "mean": column.mean(),
        "mean of columns": table.mean(axis=0)[0],
        "product": column @ column,
        "std": column.std(),
        "std of columns": table.std(axis=0)[0],
    }
    numbers = {name: float(value) for name, value in seen[dtype].items()}
    print(f"{np.dtype(dtype)}:", ", ".join(f"{name} {value:.4g}" for name, value in numbers.items()))
    seen[dtype] = numbers
right = float(np.ones(5_000, ml_dtypes.bfloat16).mean(dtype=np.float32))
print(f"bfloat16, dtype=float32: mean {right:.4g}")
half, brain = seen.values()
ok = (
    [half[name] for name in ("sum", "mean", "mean of columns", "product", "std")] == [5000, 1, 1, 5000, 0]
    and half["std of columns"] > 0.4
    and brain["sum"] == 256
    and brain["product"] == 5000
    and brain["mean"] < 0.06
    and brain["mean of columns"] < 0.06
    and right == 1
)
raise SystemExit(0 if ok else 1)
PY
