#!/usr/bin/env bash
# A duration in a Parquet file is 1,500 in DuckDB and fastparquet, of milliseconds or whatever it was; float16 is two bytes in fastparquet.
#
# Guess:    pyarrow writes a column of durations as one, with its unit, and each reader gives durations, or refuses the column.
# Versions: pyarrow 26.0.1, pandas 3.1.1, polars 2.1.0, duckdb 2.0.1, fastparquet 2026.9.0, numpy 2.3.5
# Instead:  Parquet has no such type. pyarrow stores integers and writes their type into a note of its own, which polars and pandas
#           read and DuckDB and fastparquet do not: 1.5 s is 1500 from a column of milliseconds and 1500000000 from one of
#           nanoseconds. pandas' timedeltas are such columns. Half floats, which Parquet has, are numbers in all but fastparquet
#           (bytes).
# Means:    sums of segment lengths in SQL are off by powers of thousand between files that show the same in pandas. Store seconds
#           in a float column, with the unit in its name.
# Seen:     2026-11-30
#           duration[ms] of 1.5: {'pandas': '0 days 00:00:01.500000', 'polars': '0:00:01.500000', 'DuckDB': '1500', 'fastparquet': '1500'}
#           duration[ns] of 1.5: {'pandas': '0 days 00:00:01.500000', 'polars': '0:00:01.500000', 'DuckDB': '1500000000', 'fastparquet': '1500000000'}
#           halffloat of 1.5: {'pandas': '1.5', 'polars': '1.5', 'DuckDB': '1.5', 'fastparquet': b'\x00>'}
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pyarrow==26.0.1 pandas==3.1.1 polars==2.1.0 duckdb==2.0.1 fastparquet==2026.9.0 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import warnings
from datetime import timedelta

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

warnings.simplefilter("ignore")
columns = {
    "ms": pa.array([1_500], pa.duration("ms")),
    "ns": pa.array([1_500_000_000], pa.duration("ns")),
    "half": pa.array(np.array([1.5], "float16")),
}
readers = {
    "pandas": lambda path: pd.read_parquet(path).iloc[0, 0],
    "polars": lambda path: pl.read_parquet(path).item(),
    "DuckDB": lambda path: duckdb.sql(f"FROM '{path}'").fetchall()[0][0],
    "fastparquet": lambda path: pd.read_parquet(path, engine="fastparquet").iloc[0, 0],
}
seen = {}
for name, values in columns.items():
    pq.write_table(pa.table({name: values}), f"{name}.parquet")
    seen[name] = {reader: read(f"{name}.parquet") for reader, read in readers.items()}
    shown = {reader: value if isinstance(value, bytes) else str(value) for reader, value in seen[name].items()}
    print(f"{values.type} of 1.5:", shown)
span = timedelta(seconds=1.5)
raise SystemExit(
    0
    if [*seen["ms"].values()] == [span, span, 1500, 1500]
    and [*seen["ns"].values()] == [span, span, 1_500_000_000, 1_500_000_000]
    and [*seen["half"].values()] == [1.5, 1.5, 1.5, b"\x00>"]
    else 1
)
PY
