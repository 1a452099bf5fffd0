#!/usr/bin/env bash
# datasets.to_json writes 1e-11 as 0.0 and cuts every number at ten decimals; so does pandas.
#
# Guess:    JSON has decimal numbers of any length, and writers print a float64 so that it is read back exactly.
# Versions: datasets 5.2.0, pandas 3.1.1, polars 2.1.0, numpy 2.3.5
# Instead:  to_json of pandas, which datasets uses, has double_precision=10: places after the point, not significant digits. Of
#           100,000 numbers from 1e-30 to 1e5 nearly all change, and those from 1e-15 to 5e-11 are 0, although 1e-16 is written as
#           1e-16. 15 is the most that it takes, and most numbers still change. polars' write_ndjson and Python's json are exact,
#           and CSV is exact with all three.
# Means:    learning rates, probabilities, p-values and losses in logarithmic sweeps become zeros, whose logarithm is -inf;
#           embeddings differ from those in Parquet by 1e-10. Write Parquet, or JSON by polars or json.dumps.
# Seen:     2026-11-30
#           [1e-16, 1e-11, 0.1234567890123456] by datasets.to_json: [1e-16, 0.0, 0.123456789]
#           pandas to_json: 99896 of 100000 changed, 6796 are 0
#           pandas to_json, double_precision=15: 85708 of 100000 changed, 0 are 0
#           polars write_ndjson: 0 of 100000 changed, 0 are 0
#           pandas to_csv, read_csv: 0 of 100000 changed, 0 are 0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet datasets==5.2.0 pandas==3.1.1 polars==2.1.0 numpy==2.3.5
cd "$work"
export HF_HOME="$work/cache" HF_HUB_OFFLINE=1
venv/bin/python - <<'PY'
import io
import json

import numpy as np
import pandas as pd
import polars as pl
from datasets import Dataset, disable_progress_bars

disable_progress_bars()
few = [1e-16, 1e-11, 0.1234567890123456]
Dataset.from_dict({"x": few}).to_json("few.jsonl")
with open("few.jsonl") as file:
    read = [json.loads(line)["x"] for line in file if line.strip()]
print(f"{few} by datasets.to_json: {read}")
random = np.random.default_rng(0)
numbers = np.concatenate([random.standard_normal(50_000), 10.0 ** random.uniform(-30, 5, 50_000)])
frame = pd.DataFrame({"x": numbers})


def lines(text: str) -> np.ndarray:
    return np.array([json.loads(line)["x"] for line in text.splitlines()])


ways = {
    "pandas to_json": lines(frame.to_json(orient="records", lines=True)),
    "pandas to_json, double_precision=15": lines(frame.to_json(orient="records", lines=True, double_precision=15)),
    "polars write_ndjson": lines(pl.DataFrame({"x": numbers}).write_ndjson()),
    "pandas to_csv, read_csv": pd.read_csv(io.StringIO(frame.to_csv(index=False)))["x"].to_numpy(),
}
seen = {name: (int((back != numbers).sum()), int((back == 0).sum())) for name, back in ways.items()}
for name, (changed, zeros) in seen.items():
    print(f"{name}: {changed} of {len(numbers)} changed, {zeros} are 0")
ten, fifteen, *exact = seen.values()
raise SystemExit(
    0 if read == [1e-16, 0.0, 0.123456789] and ten[0] > 99_000 and ten[1] > 5_000 and fifteen[0] > 50_000 and exact == [(0, 0)] * 2 else 1
)
PY
