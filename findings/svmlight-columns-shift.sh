#!/usr/bin/env bash
# scikit-learn reads its own svmlight file back with every feature one column to the left, if the first column happens to be empty.
#
# Guess:    load_svmlight_file of what dump_svmlight_file wrote, both with their defaults, is the same matrix.
# Versions: scikit-learn 1.9.1, numpy 2.3.5
# Instead:  dump counts columns from 0, load decides by the file: if no 0 occurs in it, columns count from 1. A sparse matrix
#           without an entry in column 0 comes back shifted and one column narrower. With n_features given the width is right and
#           the shift stays.
# Means:    the training file has the first word of the vocabulary, the small test file has not, and a model is tested on other
#           features; shapes agree if n_features is passed. Pass zero_based=True to both.
# Seen:     2026-11-30
#           [[1, 0, 2], [0, 3, 0]] is read as [[1, 0, 2], [0, 3, 0]]
#           [[0, 5, 2], [0, 3, 0]] is read as [[5, 2], [3, 0]], with n_features=3 as [[5, 2, 0], [3, 0, 0]], with zero_based=True as [[0, 5, 2], [0, 3, 0]]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet scikit-learn==1.9.1 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import io

import numpy as np
from sklearn.datasets import dump_svmlight_file, load_svmlight_file


def back(matrix: list[list[int]], **options) -> list[list[float]]:
    file = io.BytesIO()
    dump_svmlight_file(np.array(matrix, float), [0, 1], file)
    return load_svmlight_file(io.BytesIO(file.getvalue()), **options)[0].toarray().astype(int).tolist()


full, empty = [[1, 0, 2], [0, 3, 0]], [[0, 5, 2], [0, 3, 0]]
seen = [back(full), back(empty), back(empty, n_features=3), back(empty, zero_based=True, n_features=3)]
print(f"{full} is read as {seen[0]}")
print(f"{empty} is read as {seen[1]}, with n_features=3 as {seen[2]}, with zero_based=True as {seen[3]}")
raise SystemExit(0 if seen == [full, [[5, 2], [3, 0]], [[5, 2, 0], [3, 0, 0]], empty] else 1)
PY
