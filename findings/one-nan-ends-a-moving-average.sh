#!/usr/bin/env bash
# A moving average over 50 values is NaN to the end of the series after one NaN, or 0 after one spike, by library.
#
# Guess:    a value spoils the 50 windows that hold it.
# Versions: scipy 1.16.3, opencv-python-headless 5.0.0.93, bottleneck 1.6.0, pandas 3.1.1, polars 2.1.0, numpy 2.3.5
# Instead:  scipy.ndimage.uniform_filter1d and OpenCV's blur carry a sum along, so one NaN or infinity at place 100 of 1,000 spoils
#           all that follows; scipy's gaussian_filter1d does not. bottleneck, which xarray takes for rolling means, is right with
#           NaN and NaN to the end with infinity; one 1e9 in float32 makes the rest 0.0 instead of 0.5. pandas and polars are right
#           each time.
# Means:    one bad frame, pixel or diverged loss empties the rest of an energy curve, a picture's row or a training curve, and a
#           filter "drop NaN" drops good data with it. Replace bad values before averaging, and sum in float64.
# Seen:     2026-11-30
#           nan at 100, wrong from 200 to 1000: uniform_filter1d 800, OpenCV blur 800, bottleneck 0, pandas 0, polars 0
#           inf at 100, wrong from 200 to 1000: uniform_filter1d 800, OpenCV blur 800, bottleneck 800, pandas 0, polars 0
#           1000000000.0 at 100, wrong from 200 to 1000: uniform_filter1d 0, OpenCV blur 0, bottleneck 800, pandas 0, polars 0
#           bottleneck's last value after 1e9: 0.0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet scipy==1.16.3 opencv-python-headless==5.0.0.93 bottleneck==1.6.0 pandas==3.1.1 polars==2.1.0 \
    numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import warnings

import bottleneck
import cv2
import numpy as np
import pandas as pd
import polars as pl
from scipy import ndimage

warnings.simplefilter("ignore")
averages = {
    "uniform_filter1d": lambda row: ndimage.uniform_filter1d(row, 50),
    "OpenCV blur": lambda row: cv2.blur(row[None], (50, 1))[0],
    "bottleneck": lambda row: bottleneck.move_mean(row, 50),
    "pandas": lambda row: pd.Series(row).rolling(50).mean().to_numpy(),
    "polars": lambda row: pl.Series(row).rolling_mean(50).to_numpy(),
}
seen = {}
for bad in (np.nan, np.inf, 1e9):
    row = np.full(1000, 0.5, "float32")
    row[100] = bad
    for name, average in averages.items():
        after = average(row)[200:]
        seen[name, str(bad)] = int((~np.isclose(after, 0.5)).sum()), float(after[-1])
    print(f"{bad} at 100, wrong from 200 to 1000:", ", ".join(f"{name} {seen[name, str(bad)][0]}" for name in averages))
print("bottleneck's last value after 1e9:", seen["bottleneck", "1000000000.0"][1])
wrong = {key for key, (count, _) in seen.items() if count}
spoiled = {(name, bad) for name in ("uniform_filter1d", "OpenCV blur") for bad in ("nan", "inf")}
spoiled |= {("bottleneck", "inf"), ("bottleneck", "1000000000.0")}
raise SystemExit(0 if wrong == spoiled and {seen[key][0] for key in wrong} >= {800} else 1)
PY
