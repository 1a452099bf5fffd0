#!/usr/bin/env bash
# A float64 column of datasets comes out as float32 in numpy format, but only when more than one row is asked for.
#
# Guess:    with_format("numpy") gives arrays of the column's own type.
# Versions: datasets 5.2.0, numpy 2.3.5
# Instead:  float64 becomes float32 in batches, and stays float64 in a single row. Times in seconds since 1970 move by
#           up to a minute: two events a quarter of a second apart become the same. int8 becomes int64, and an int64
#           column with a missing value float32 as well, so that ids above 16,777,216 are changed. The pandas format
#           keeps the types.
# Means:    time stamps for alignment, coordinates and ids are wrong in the training loop and right when one row is
#           looked at. Pass with_format("numpy", dtype=np.float64), or use "arrow".
# Seen:     2026-11-30
#           time: stored float64, batch float32, one row float64; off by 62.00 s
#           int8 column: batch int64; int64 column with a missing value: float32, 16777217 reads 16777216
#           pandas format: {'time': 'float64', 'small': 'int8', 'id': 'float64'}
#           with dtype=np.float64: float64
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet datasets==5.2.0 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import datasets
import numpy as np

datasets.disable_progress_bars()
features = datasets.Features(
    {"time": datasets.Value("float64"), "small": datasets.Value("int8"), "id": datasets.Value("int64")}
)
rows = {"time": [1764500000.25, 1764500000.5, 1764500030.0], "small": [1, 2, 3], "id": [16777217, None, 3]}
data = datasets.Dataset.from_dict(rows, features=features)
batch, one = data.with_format("numpy")[:], data.with_format("numpy")[0]
print(
    f"time: stored float64, batch {batch['time'].dtype}, one row {one['time'].dtype}; "
    f"off by {np.abs(batch['time'].astype(float) - rows['time']).max():.2f} s"
)
print(
    f"int8 column: batch {batch['small'].dtype}; int64 column with a missing value: {batch['id'].dtype}, "
    f"16777217 reads {batch['id'][0]:.0f}"
)
print(f"pandas format: {dict(data.with_format('pandas')[:].dtypes.astype(str))}")
kept = data.with_format("numpy", dtype=np.float64)[:]["time"].dtype
print(f"with dtype=np.float64: {kept}")
raise SystemExit(
    0 if batch["time"].dtype == np.float32 and one["time"].dtype == np.float64 and batch["id"][0] == 16777216 else 1
)
PY
