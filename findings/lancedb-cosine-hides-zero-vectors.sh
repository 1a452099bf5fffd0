#!/usr/bin/env bash
# A LanceDB search by cosine never finds a row whose vector is all zeros, and a query of zeros finds nothing.
#
# Guess:    a search that asks for more rows than there are gives all of them; a vector of zeros is last, at distance 1.
# Versions: lancedb 0.40.0, pyarrow 25.0.1, numpy 2.3.5
# Instead:  the row is left out without a word, while the same search by L2 or dot product has it. A query of zeros
#           gives an empty answer and no error.
# Means:    items whose features are zero (an empty text as a bag of words, a silent clip after subtraction of its mean)
#           are in the table, count in count_rows, and can never be found. Check norms before adding, or search by dot
#           product of vectors that are normalised with a floor.
# Seen:     2026-11-30
#           rows in the table: 31
#           l2: 31 rows, the zero vector is there
#           dot: 31 rows, the zero vector is there
#           cosine: 30 rows, the zero vector is missing
#           cosine, a query of zeros: 0 rows
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet lancedb==0.40.0 pyarrow==25.0.1 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import lancedb
import numpy as np
import pyarrow as pa

vectors = [np.eye(4, dtype=np.float32)[number % 4] * (number + 1) for number in range(30)] + [np.zeros(4, np.float32)]
schema = pa.schema([("id", pa.int64()), ("vector", pa.list_(pa.float32(), 4))])
rows = [{"id": number, "vector": vector.tolist()} for number, vector in enumerate(vectors)]
table = lancedb.connect("store").create_table("items", pa.Table.from_pylist(rows, schema=schema))
print(f"rows in the table: {table.count_rows()}")
found = {}
for metric in ("l2", "dot", "cosine"):
    answer = table.search([1.0, 0.5, 0.25, 0.125]).distance_type(metric).limit(100).to_list()
    found[metric] = len(answer), any(row["id"] == 30 for row in answer)
    print(f"{metric}: {found[metric][0]} rows, the zero vector is {'there' if found[metric][1] else 'missing'}")
of_zeros = len(table.search([0.0] * 4).distance_type("cosine").limit(100).to_list())
print(f"cosine, a query of zeros: {of_zeros} rows")
expected = {"l2": (31, True), "dot": (31, True), "cosine": (30, False)}
raise SystemExit(0 if found == expected and of_zeros == 0 else 1)
PY
