#!/usr/bin/env bash
# 5,000 ones in half precision are 5,000 in a column of polars and 2,048 in a group of it; pandas says 5,000 for both, and 2,048 for a running sum.
#
# Guess:    a sum by group is the sum of the group's column, and sums of half floats are kept in something wider, as means are.
# Versions: polars 2.1.0, pandas 3.1.1, numpy 2.4.6
# Instead:  polars adds a group's half floats one by one in half precision: at 2,048 the next one is lost in rounding. The sum of a column
#           adds in blocks and arrives, also in the expression over(). The group's mean is right, so mean x count and sum disagree.
#           pandas sums groups and columns in float64, and its running sums in half precision, as numpy does.
# Means:    features stored as float16 to save space, counted or pooled by file, speaker or class, stop growing without a word. Cast to
#           float32 before group_by and before a running sum.
# Seen:     2026-12-01
#           polars: column 5000.0, group 2048.0, group, streaming 2048.0, over 5000.0, mean of the group 1.0
#           pandas: column 5000.0, group 5000.0, running sum 2048.0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet polars==2.1.0 pandas==3.1.1 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
import pandas as pd
import polars as pl

ones = np.ones(5_000, "float16")
frame = pl.DataFrame({"group": [0] * len(ones), "x": ones})
total = pl.col("x").sum()
by_polars = {
    "column": frame["x"].sum(),
    "group": frame.group_by("group").agg(total)["x"].item(),
    "group, streaming": frame.lazy().group_by("group").agg(total).collect(engine="streaming")["x"].item(),
    "over": frame.select(total.over("group"))["x"][0],
    "mean of the group": frame.group_by("group").agg(pl.col("x").mean())["x"].item(),
}
table = pd.DataFrame({"group": 0, "x": ones})
by_pandas = {
    "column": float(table["x"].sum()),
    "group": float(table.groupby("group")["x"].sum().item()),
    "running sum": float(table["x"].cumsum().iloc[-1]),
}
for library, sums in (("polars", by_polars), ("pandas", by_pandas)):
    print(f"{library}:", ", ".join(f"{name} {value}" for name, value in sums.items()))
ok = [*by_polars.values()] == [5000, 2048, 2048, 5000, 1] and [*by_pandas.values()] == [5000, 5000, 2048]
raise SystemExit(0 if ok else 1)
PY
