#!/usr/bin/env bash
# The usual way from an Arrow column of vectors to a numpy matrix gives other rows' vectors after a slice or a filter by position.
#
# Guess:    column.values are the numbers of the column, so values.reshape(-1, size) is the matrix of its rows, sliced
#           or not.
# Versions: pyarrow 26.0.1, numpy 2.3.5
# Instead:  .values of a slice is the whole array that the slice was cut from: rows 5 and 6 read as rows 0 and 1.
#           flatten() obeys the slice, but leaves out missing rows, so from the first null on every vector belongs to
#           the row before. Neither has both right.
# Means:    a batch's vectors are silently those of the file's beginning (the shape is larger, but code that takes the
#           first n rows does not see it), or shifted against ids. Use flatten() after drop_null on all columns, or
#           to_numpy_ndarray of a tensor type.
# Seen:     2026-11-30
#           rows 5 and 6 begin with [20.0, 24.0]; .values: 10 rows, first two [0.0, 4.0]; flatten(): [20.0, 24.0]
#           4 rows, the second missing: flatten() has 3 rows: [0.0, 2.0, 3.0]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pyarrow==26.0.1 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
import pyarrow as pa

vectors = np.arange(40, dtype=np.float32).reshape(10, 4)
column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 4)
part = column.slice(5, 2)
values = part.values.to_numpy().reshape(-1, 4)
flat = part.flatten().to_numpy().reshape(-1, 4)
print(
    f"rows 5 and 6 begin with {vectors[5:7, 0].tolist()}; .values: {len(values)} rows, first two "
    f"{values[:2, 0].tolist()}; "
    f"flatten(): {flat[:, 0].tolist()}"
)
holes = pa.array([[0.0, 0.0], None, [2.0, 2.0], [3.0, 3.0]], pa.list_(pa.float32(), 2))
flat_holes = holes.flatten().to_numpy().reshape(-1, 2)
print(f"4 rows, the second missing: flatten() has {len(flat_holes)} rows: {flat_holes[:, 0].tolist()}")
raise SystemExit(0 if values[0, 0] == 0 and len(values) == 10 and flat[0, 0] == 20 and len(flat_holes) == 3 else 1)
PY
