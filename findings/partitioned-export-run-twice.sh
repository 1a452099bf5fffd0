#!/usr/bin/env bash
# An export that is run again doubles the rows, if it is partitioned, and written by pyarrow or pandas.
#
# Guess:    to_parquet(path) writes what is there now, as it does for a single file; or it refuses a folder that is not empty.
# Versions: pyarrow 26.0.1, pandas 3.1.1, polars 2.1.0, duckdb 2.0.1, fastparquet 2026.9.0
# Instead:  pyarrow's write_to_dataset gives its files new names each time and leaves the old ones: 3 rows are 6. pandas'
#           partition_cols calls it. polars and fastparquet use the same names, so 3 are 3, but a second export of 2 rows leaves the
#           third of before. pyarrow.dataset.write_dataset and DuckDB refuse.
# Means:    a training set grows by each run of the pipeline, with each example twice on both sides of a split made later; counts
#           per class stay in proportion, so little shows. Remove the folder first, or existing_data_behavior="delete_matching".
# Seen:     2026-11-30
#           pyarrow write_to_dataset: 3 rows and 3 rows are 6, 3 rows and 2 rows are 5
#           pandas: 3 rows and 3 rows are 6, 3 rows and 2 rows are 5
#           pandas with fastparquet: 3 rows and 3 rows are 3, 3 rows and 2 rows are 3
#           polars: 3 rows and 3 rows are 3, 3 rows and 2 rows are 3
#           pyarrow write_dataset: 3 rows and 3 rows are ArrowInvalid, 3 rows and 2 rows are ArrowInvalid
#           DuckDB: 3 rows and 3 rows are IOException, 3 rows and 2 rows are IOException
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pyarrow==26.0.1 pandas==3.1.1 polars==2.1.0 duckdb==2.0.1 fastparquet==2026.9.0
cd "$work"
venv/bin/python - <<'PY'
import shutil
import warnings

import duckdb
import polars as pl
import pyarrow.dataset
import pyarrow.parquet as pq

warnings.simplefilter("ignore")
writers = {
    "pyarrow write_to_dataset": lambda rows: pq.write_to_dataset(rows.to_arrow(), "rows", partition_cols=["label"]),
    "pandas": lambda rows: rows.to_pandas().to_parquet("rows", partition_cols=["label"]),
    "pandas with fastparquet": lambda rows: rows.to_pandas().to_parquet(
        "rows", engine="fastparquet", partition_cols=["label"]
    ),
    "polars": lambda rows: rows.write_parquet("rows", partition_by="label"),
    "pyarrow write_dataset": lambda rows: pyarrow.dataset.write_dataset(
        rows.to_arrow(), "rows", format="parquet", partitioning=["label"], partitioning_flavor="hive"
    ),
    "DuckDB": lambda rows: duckdb.sql("COPY rows TO 'rows' (FORMAT parquet, PARTITION_BY (label))"),
}
rows = pl.DataFrame({"label": ["a", "b", "c"], "file": ["1.wav", "2.wav", "3.wav"]})
seen = {}
for name, write in writers.items():
    seen[name] = []
    for second in (rows, rows.head(2)):
        shutil.rmtree("rows", ignore_errors=True)
        write(rows)
        try:
            write(second)
            seen[name].append(pl.scan_parquet("rows/**/*.parquet").select(pl.len()).collect().item())
        except Exception as error:
            seen[name].append(type(error).__name__)
    print(f"{name}: 3 rows and 3 rows are {seen[name][0]}, 3 rows and 2 rows are {seen[name][1]}")
doubled, kept = [6, 5], [3, 3]
results = list(seen.values())
raise SystemExit(
    0
    if results[:4] == [doubled, doubled, kept, kept] and all(isinstance(value, str) for pair in results[4:] for value in pair)
    else 1
)
PY
