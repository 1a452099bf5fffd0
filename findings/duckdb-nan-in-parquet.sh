#!/usr/bin/env bash
# DuckDB finds no NaN by WHERE isnan(x) in a Parquet file that pyarrow wrote, and other counts depend on its row groups.
#
# Guess:    WHERE isnan(x) gives the rows that isnan(x) in SELECT marks, and where a row group ends changes no answer.
# Versions: duckdb 2.0.1, pyarrow 26.0.1, numpy 2.3.5
# Instead:  Parquet statistics leave NaN out of minimum and maximum, and DuckDB prunes by them although it sorts NaN
#           above all numbers. WHERE isnan(x): 0 of 2 rows, while count(*) FILTER (WHERE isnan(x)) says 2. WHERE x >
#           0.5: 4 or 3 rows by row group size (pyarrow's own filter says 2: NaN is not greater than anything). Without
#           statistics isnan is right and it is 4.
# Means:    the very query that is run to show "no NaN in these features" shows none. Count with FILTER or sum a CASE,
#           compare with pyarrow.compute.is_nan, or write such columns without statistics.
# Seen:     2026-11-30
#           row groups of 8, statistics True: WHERE isnan 0, FILTER isnan 2; x > 0.5: 4 (pyarrow 2)
#           row groups of 4, statistics True: WHERE isnan 0, FILTER isnan 2; x > 0.5: 3 (pyarrow 2)
#           row groups of 2, statistics True: WHERE isnan 0, FILTER isnan 2; x > 0.5: 3 (pyarrow 2)
#           row groups of 8, statistics False: WHERE isnan 2, FILTER isnan 2; x > 0.5: 4 (pyarrow 2)
#           row groups of 2, statistics False: WHERE isnan 2, FILTER isnan 2; x > 0.5: 4 (pyarrow 2)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet duckdb==2.0.1 pyarrow==26.0.1 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

scores = pa.table({"x": np.array([0.1, np.nan, 0.2, 0.3, 0.9, np.nan, 0.8, 0.1])})
seen = {}
for size, statistics in ((8, True), (4, True), (2, True), (8, False), (2, False)):
    pq.write_table(scores, "scores.parquet", row_group_size=size, write_statistics=statistics)
    ask = lambda what: duckdb.execute(what.format("'scores.parquet'")).fetchone()[0]
    where = ask("SELECT count(*) FROM {} WHERE isnan(x)")
    chosen = ask("SELECT count(*) FILTER (WHERE isnan(x)) FROM {}")
    above = ask("SELECT count(*) FROM {} WHERE x > 0.5")
    own = pq.read_table("scores.parquet", filters=[("x", ">", 0.5)]).num_rows
    seen[size, statistics] = where, chosen, above
    print(
        f"row groups of {size}, statistics {statistics}: WHERE isnan {where}, FILTER isnan {chosen}; x > 0.5: "
        f"{above} (pyarrow {own})"
    )
ends = seen[8, True][:2] == (0, 2) and seen[8, False][:2] == (2, 2)
raise SystemExit(
    0 if ends and len({above for (_, statistics), (_, _, above) in seen.items() if statistics}) > 1 else 1
)
PY
