#!/usr/bin/env bash
# Speaker "007", written as a partition by pyarrow, comes back as the number 7 from pyarrow, pandas and polars, and as "007" from DuckDB.
#
# Guess:    a column of strings that a table is partitioned by is a column of strings when the table is read.
# Versions: pyarrow 26.0.1, pandas 3.1.1, polars 2.1.0, duckdb 2.0.1
# Instead:  the values are in the folders' names only, and a reader guesses their type: 007 is 7. One folder with a letter anywhere
#           makes all of them strings again. A polars table by partition_by keeps its column in the files too and so its zeros.
# Means:    joins with a table of speakers find nothing, for those data sets whose ids are all digits. Give the partitioning a
#           schema, or keep the id as a column as well.
# Seen:     2026-11-30
#           ['007', '012', '100'] read by pyarrow: [7, 12, 100]
#           ['007', '012', '100'] read by pandas: [7, 12, 100]
#           ['007', '012', '100'] read by polars: [7, 12, 100]
#           ['007', '012', '100'] read by DuckDB: ['007', '012', '100']
#           ['007', '012', '100'] read by pyarrow with a schema: ['007', '012', '100']
#           ['007', '012', 'm12'] read by pyarrow: ['007', '012', 'm12']
#           ['007', '012', 'm12'] read by pandas: ['007', '012', 'm12']
#           ['007', '012', 'm12'] read by polars: ['007', '012', 'm12']
#           ['007', '012', 'm12'] read by DuckDB: ['007', '012', 'm12']
#           ['007', '012', 'm12'] read by pyarrow with a schema: ['007', '012', 'm12']
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pyarrow==26.0.1 pandas==3.1.1 polars==2.1.0 duckdb==2.0.1
cd "$work"
venv/bin/python - <<'PY'
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq

hive = pa.dataset.partitioning(pa.schema([("speaker", pa.string())]), flavor="hive")
readers = {
    "pyarrow": lambda path: pq.read_table(path)["speaker"].to_pylist(),
    "pandas": lambda path: pd.read_parquet(path)["speaker"].tolist(),
    "polars": lambda path: pl.scan_parquet(path, hive_partitioning=True).collect()["speaker"].to_list(),
    "DuckDB": lambda path: [
        row[0] for row in duckdb.sql(f"SELECT speaker FROM read_parquet('{path}/*/*.parquet', hive_partitioning=true)").fetchall()
    ],
    "pyarrow with a schema": lambda path: pq.read_table(path, partitioning=hive)["speaker"].to_pylist(),
}
seen = {}
for path, speakers in (("digits", ["007", "012", "100"]), ("letters", ["007", "012", "m12"])):
    pq.write_to_dataset(pa.table({"speaker": speakers, "file": ["a", "b", "c"]}), path, partition_cols=["speaker"])
    for name, read in readers.items():
        seen[path, name] = sorted(read(path))
        print(f"{speakers} read by {name}: {seen[path, name]}")
numbers, right = [7, 12, 100], ["007", "012", "100"]
digits = [seen["digits", name] for name in readers]
raise SystemExit(
    0
    if digits == [numbers, numbers, numbers, right, right]
    and all(seen["letters", name] == ["007", "012", "m12"] for name in readers)
    else 1
)
PY
