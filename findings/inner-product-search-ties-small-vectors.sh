#!/usr/bin/env bash
# Search by inner product depends on the vectors' scale in LanceDB, usearch and hnswlib: small vectors are all equally near. Not in faiss.
#
# Guess:    the five largest inner products stay the same five, in the same order, when all vectors are multiplied by one number.
# Versions: lancedb 0.40.0, usearch 2.26.6, hnswlib 0.8.0, faiss-cpu 1.15.1, numpy 2.4.6
# Instead:  the first three rank by 1 - product, kept in float32. Beside 1 a product below some 6e-8 is nothing, and one of 1e-6 keeps a
#           digit. Items that tie come in the order of storage (LanceDB, hnswlib) or another (usearch). faiss ranks by the product
#           itself. Cosine and Euclidean distance do not have it.
# Means:    vectors that are no unit vectors, such as pooled features times small weights, posteriors over many classes or outputs of a last
#           layer that starts small, are searched wrongly without a word. Normalise, or take cosine, or multiply by a
#           constant before storing.
# Seen:     2026-12-01, 300 vectors of 64 normal numbers, the query is vector 7
#           times 1: exact [7, 145, 4, 169, 211], all four [7, 145, 4, 169, 211]
#           times 0.0001: exact [7, 145, 4, 169, 211], faiss [7, 145, 4, 169, 211]
#           times 0.0001: lancedb [7, 4, 6, 31, 115], hnswlib [7, 4, 6, 31, 115], usearch [7, 225, 211, 169, 145]
#           distances of lancedb, times 0.0001: 0.999999344 and four times 0.999999821
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet lancedb==0.40.0 usearch==2.26.6 hnswlib==0.8.0 faiss-cpu==1.15.1 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import faiss
import hnswlib
import lancedb
import numpy as np
import pyarrow as pa
from usearch.index import Index

WIDTH, NEAREST = 64, 5
unscaled = np.random.default_rng(0).normal(size=(300, WIDTH)).astype("float32")
database = lancedb.connect("lance")


def by_faiss(vectors, query):
    index = faiss.IndexFlatIP(WIDTH)
    index.add(vectors)
    return index.search(query[None], NEAREST)[1][0].tolist()


def by_hnswlib(vectors, query):
    index = hnswlib.BFIndex(space="ip", dim=WIDTH)
    index.init_index(len(vectors))
    index.add_items(vectors)
    return index.knn_query(query[None], NEAREST)[0][0].tolist()


def by_usearch(vectors, query):
    index = Index(ndim=WIDTH, metric="ip", dtype="f32")
    index.add(np.arange(len(vectors)), vectors)
    return index.search(query, NEAREST, exact=True).keys.tolist()


def by_lancedb(vectors, query):
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), WIDTH)
    table = database.create_table("items", pa.table({"item": range(len(vectors)), "vector": column}), mode="overwrite")
    found = table.search(query).distance_type("dot").limit(NEAREST).to_arrow()
    print("lancedb's distances:", found["_distance"].to_pylist())
    return found["item"].to_pylist()


libraries = {"faiss": by_faiss, "lancedb": by_lancedb, "hnswlib": by_hnswlib, "usearch": by_usearch}
wrong = {}
for scale in (1.0, 1e-4):
    vectors = (unscaled * scale).astype("float32")
    products = vectors.astype("float64") @ vectors[7].astype("float64")
    exact = np.argsort(-products)[:NEAREST].tolist()
    found = {name: search(vectors, vectors[7]) for name, search in libraries.items()}
    print(f"times {scale}: exact {exact},", found)
    wrong[scale] = {name for name, items in found.items() if items != exact}
raise SystemExit(0 if wrong == {1.0: set(), 1e-4: {"lancedb", "hnswlib", "usearch"}} else 1)
PY
