#!/usr/bin/env bash
# A LanceDB search with a filter gives no rows at all once there is an index, though a hundred rows fit the filter.
#
# Guess:    where(..., prefilter=True).limit(10) gives 10 rows as long as 10 rows fit, with or without an index.
# Versions: lancedb 0.40.0, pyarrow 25.0.1, numpy 2.3.5
# Instead:  the filter is applied to the rows of the 20 nearest parts of the index (nprobes), and what lies in others is
#           not found. 10,000 vectors around 100 points, the label "rare" on those of one point: of 100 searches with
#           the filter and default settings each gives 10 rows without an index, and 98 or 99 give 0 rows with it.
# Means:    filters work in a test on a small table and empty the answer when the index comes, without an error. Say
#           minimum_nprobes(n).maximum_nprobes(0): further parts are then looked at until there are enough rows.
# Seen:     2026-11-30
#           searches that give all 10 rows: without an index 100, with it 2 (then 1), with maximum_nprobes(0) 100
#           searches that give none: with the index 98 (then 99)
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
from lancedb.index import IvfFlat

random = np.random.default_rng(0)
point = np.arange(10_000) % 100
vectors = random.standard_normal((100, 32))[point] + 0.2 * random.standard_normal((10_000, 32))
vectors = vectors.astype(np.float32)
column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 32)
labels = ["rare" if one == 7 else "common" for one in point]
table = lancedb.connect("db").create_table("items", pa.table({"label": labels, "vector": column}))


def rows_of_each(to_the_end=False):
    found = []
    for vector in vectors[:100]:
        search = table.search(vector).where("label = 'rare'", prefilter=True).limit(10)
        search = search.minimum_nprobes(20).maximum_nprobes(0) if to_the_end else search
        found.append(search.to_arrow().num_rows)
    return found


without = rows_of_each()
table.create_index("vector", config=IvfFlat(num_partitions=100))
within, to_the_end = rows_of_each(), rows_of_each(to_the_end=True)
print(
    f"searches that give all 10 rows: without an index {without.count(10)}, with it {within.count(10)}, with "
    f"maximum_nprobes(0) {to_the_end.count(10)}"
)
print(f"searches that give none: with the index {within.count(0)}")
raise SystemExit(0 if without.count(10) == to_the_end.count(10) == 100 and within.count(0) > 50 else 1)
PY
