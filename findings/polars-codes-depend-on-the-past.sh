#!/usr/bin/env bash
# The integer codes of a polars Categorical depend on what the process has cast before, in columns that have nothing to do with it.
#
# Guess:    codes count the column's own categories, 0 and 1 for two labels, by appearance; the same column gives the same codes.
# Versions: polars 2.1.0, pandas 3.1.1, pyarrow 26.0.1
# Instead:  all Categoricals of a process share one table of strings. ["no", "yes"] has the codes 0 and 1 in a fresh process, and 3
#           and 4 after three speakers have been cast elsewhere; a label that is also a speaker's name gets the speaker's number.
#           pandas and pyarrow count each column for itself. The strings themselves are always right.
# Means:    class ids by to_physical() are out of the range of the model's outputs, or worse, within it and permuted from one run to
#           the next: a saved classifier is scored on other ids. Use pl.Enum with the list of labels, or a join with a table of ids.
# Seen:     2026-11-30
#           fresh process: [0, 1, 0]
#           after a column of speakers: [3, 4, 3]
#           after a column with the same words in another order: [1, 0, 1]
#           pandas: [0, 1, 0], pyarrow: [0, 1, 0], polars Enum: [0, 1, 0]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet polars==2.1.0 pandas==3.1.1 pyarrow==26.0.1
cd "$work"
cat > codes.py <<'PY'
import sys

import polars as pl

before = pl.Series(sys.argv[1:], dtype=pl.String).cast(pl.Categorical)
print(pl.Series(["no", "yes", "no"]).cast(pl.Categorical).to_physical().to_list())
PY
fresh=$(venv/bin/python codes.py)
after=$(venv/bin/python codes.py anna boris carla)
order=$(venv/bin/python codes.py yes no)
others=$(venv/bin/python - <<'PY'
import pandas as pd
import polars as pl
import pyarrow as pa

speakers = pl.Series(["anna", "boris", "carla"]).cast(pl.Categorical)
labels = ["no", "yes", "no"]
pandas = pd.Series(labels).astype("category").cat.codes.tolist()
arrow = pa.array(labels).dictionary_encode().indices.to_pylist()
enum = pl.Series(labels, dtype=pl.Enum(["no", "yes"])).to_physical().to_list()
print(f"pandas: {pandas}, pyarrow: {arrow}, polars Enum: {enum}")
PY
)
printf 'fresh process: %s\nafter a column of speakers: %s\nafter a column with the same words in another order: %s\n%s\n' \
    "$fresh" "$after" "$order" "$others"
[ "$fresh" = "[0, 1, 0]" ] && [ "$after" = "[3, 4, 3]" ] && [ "$order" = "[1, 0, 1]" ] &&
    [ "$others" = "pandas: [0, 1, 0], pyarrow: [0, 1, 0], polars Enum: [0, 1, 0]" ]
