#!/usr/bin/env bash
# usearch fills the places of neighbours that it has not found with key 0, a valid key.
#
# Guess:    places without a result hold a mark that is no key, as faiss writes -1; or the rows are shorter.
# Versions: usearch 2.26.6, faiss-cpu 1.15.1, numpy 2.3.5
# Instead:  a batch search for 5 in an index of 2 gives keys [9, 7, 0, 0, 0] with distances nan; matches.counts says 2.
#           A search for a single vector returns a shorter array, so code tested with one query is not warned.
# Means:    labels[matches.keys] votes for item 0 in young or filtered indexes, and kNN accuracy leans to its class. Cut
#           every row by counts, or drop where the distance is nan.
# Seen:     2026-11-30
#           usearch, batch: keys [7, 9, 0, 0, 0], distances [3.0, 3.0, nan, nan, nan], counts [2, 2, 2]
#           usearch, one query: keys [7, 9]; faiss: [0, 1, -1, -1, -1]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet usearch==2.26.6 faiss-cpu==1.15.1 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import faiss
import numpy as np
from usearch.index import Index

vectors, queries = np.eye(4, dtype=np.float32)[:2], np.ones((3, 4), np.float32)
index = Index(ndim=4, metric="l2sq", dtype="f32")
index.add(np.array([7, 9]), vectors)
batch, single = index.search(queries, 5), index.search(queries[0], 5)
other = faiss.IndexFlatL2(4)
other.add(vectors)
missing = other.search(queries, 5)[1]
print(
    f"usearch, batch: keys {batch.keys[0].tolist()}, distances {batch.distances[0].tolist()}, counts "
    f"{batch.counts.tolist()}"
)
print(f"usearch, one query: keys {single.keys.tolist()}; faiss: {missing[0].tolist()}")
raise SystemExit(
    0 if batch.keys[0, 2:].tolist() == [0, 0, 0] and len(single.keys) == 2 and missing[0, 2] == -1 else 1
)
PY
