#!/usr/bin/env bash
# datasets.to_csv writes six numbers of an embedding of 1,024, and three dots.
#
# Guess:    a column of lists is written in full in some notation, or to_csv refuses it as polars does.
# Versions: datasets 5.2.0, pandas 3.1.1, polars 2.1.0
# Instead:  each list is written as numpy prints it to people: beyond 1,000 numbers only the first and last three, and no commas, so
#           even [1 2 3] is not read back as a list. pandas does the same with cells of arrays, and writes cells of lists in full.
#           No warning.
# Means:    the export looks right in its head, with short lists, and is lost for embeddings, spectrogram rows and token ids. Write
#           Parquet or JSON lines.
# Seen:     2026-11-30
#           datasets.to_csv of 1024 numbers: [0.000e+00 1.000e+00 2.000e+00 ... 1.021e+03 1.022e+03 1.023e+03], of 3: [1 2 3]
#           datasets.to_json: all of them
#           pandas.to_csv: 71 characters from an array, 7090 from a list; polars: ComputeError
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet datasets==5.2.0 pandas==3.1.1 polars==2.1.0
cd "$work"
export HF_HOME="$work/cache" HF_HUB_OFFLINE=1
venv/bin/python - <<'PY'
import json

import numpy as np
import pandas as pd
import polars as pl
from datasets import Dataset, disable_progress_bars

disable_progress_bars()
row = [float(number) for number in range(1024)]
rows = Dataset.from_dict({"embedding": [row], "ids": [[1, 2, 3]]})
rows.to_csv("rows.csv")
rows.to_json("rows.jsonl")
cell = pd.read_csv("rows.csv")["embedding"][0]
with open("rows.jsonl") as file:
    exact = json.loads(file.readline())["embedding"] == row
lengths = [len(pd.DataFrame({"x": [value]}).to_csv()) for value in (np.array(row), row)]
try:
    refused = str(pl.DataFrame({"x": [row]}).write_csv())
except Exception as error:
    refused = type(error).__name__
print(f"datasets.to_csv of 1024 numbers: {cell}, of 3: {pd.read_csv('rows.csv')['ids'][0]}")
print(f"datasets.to_json: {'all of them' if exact else 'other'}")
print(f"pandas.to_csv: {lengths[0]} characters from an array, {lengths[1]} from a list; polars: {refused}")
raise SystemExit(0 if "..." in cell and exact and lengths[0] < 100 and lengths[1] > 5000 and "Error" in refused else 1)
PY
