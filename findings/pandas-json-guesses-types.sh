#!/usr/bin/env bash
# pandas.read_json makes the number 7 of the string "007", and dates of whole numbers, if their column is called end_time.
#
# Guess:    JSON says what is a string and what is a number, so nothing is left to guess: strings stay, integers stay.
# Versions: pandas 3.1.1, polars 2.1.0
# Instead:  strings that all look like numbers become numbers: "007" is 7, and "1e5" 100000.0. Integers become times of 1970 and
#           after if the column's name ends in _at or _time, begins with "timestamp", or is "date", "datetime" or "modified", and
#           all of them are above 31,536,000: sample numbers from 33 minutes on at 16 kHz, milliseconds after nine hours.
#           start_time, in which one is 0, stays. polars keeps all.
# Means:    ids of speakers and hashes of digits no longer match, and the arithmetic end_time - start_time fails for long recordings
#           only. Pass dtype=False, convert_dates=False.
# Seen:     2026-11-30
#           written: {'speaker': '007', 'hash': '1e5', 'start_time': 0, 'end_time': 32000000}
#           pandas:  {'speaker': '7 (int64)', 'hash': '100000.0 (float64)', 'start_time': '0 (int64)', 'end_time': '1971-01-06 08:53:20 (datetime64[us])'}
#           as written: pandas with dtype=False, convert_dates=False True, polars True
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pandas==3.1.1 polars==2.1.0
cd "$work"
venv/bin/python - 2> /dev/null <<'PY'
import io
import json

import pandas as pd
import polars as pl

rows = [
    {"speaker": "007", "hash": "1e5", "start_time": 0, "end_time": 32_000_000},
    {"speaker": "012", "hash": "330", "start_time": 32_000_000, "end_time": 32_160_000},
]
text = "".join(json.dumps(row) + "\n" for row in rows)
guessed = pd.read_json(io.StringIO(text), lines=True)
plain = pd.read_json(io.StringIO(text), lines=True, dtype=False, convert_dates=False).to_dict("records") == rows
other = pl.read_ndjson(io.BytesIO(text.encode())).to_dicts() == rows
print("written:", rows[0])
print("pandas: ", {name: f"{value} ({guessed[name].dtype})" for name, value in zip(guessed, guessed.iloc[0], strict=True)})
print(f"as written: pandas with dtype=False, convert_dates=False {plain}, polars {other}")
types = [guessed[name].dtype.kind for name in guessed]
raise SystemExit(0 if types == ["i", "f", "i", "M"] and guessed["speaker"].tolist() == [7, 12] and plain and other else 1)
PY
