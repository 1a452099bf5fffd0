#!/usr/bin/env bash
# safetensors.numpy 0.8 writes a transposed array with the right shape and its numbers in the wrong places.
#
# Guess:    an array that is not in one C-ordered piece is copied into order, as up to 0.7, or refused, as
#           safetensors.torch does.
# Versions: safetensors 0.8.0, numpy 2.3.5
# Instead:  the memory is written as it lies under the logical shape. Transposed, Fortran-ordered and column-sliced
#           arrays load with other values, without an error, and the loaded array is no longer equal to the saved one.
#           With 0.7.0 all are right. The project knows (its issue 825); 0.8.0 is what pip installs.
# Means:    projections from scikit-learn (PCA components are Fortran-ordered) and weights stored as w.T are scrambled
#           on disk, and the checksum of the file is fine. Pass np.ascontiguousarray(array), and compare once after
#           saving.
# Seen:     2026-11-30
#           plain: saved [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]], loaded [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]; right True, after ascontiguousarray True
#           transposed: saved [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]], loaded [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]; right False, after ascontiguousarray True
#           Fortran order: saved [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]], loaded [[0.0, 3.0, 1.0], [4.0, 2.0, 5.0]]; right False, after ascontiguousarray True
#           first columns: saved [[0.0, 1.0], [3.0, 4.0]], loaded [[0.0, 1.0], [2.0, 3.0]]; right False, after ascontiguousarray True
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet safetensors==0.8.0 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
from safetensors.numpy import load_file, save_file

table = np.arange(6.0).reshape(2, 3)
arrays = {
    "plain": table,
    "transposed": table.T,
    "Fortran order": np.asfortranarray(table),
    "first columns": table[:, :2],
}
right = {}
for name, array in arrays.items():
    save_file({"array": array}, "array.safetensors")
    back = load_file("array.safetensors")["array"]
    save_file({"array": np.ascontiguousarray(array)}, "array.safetensors")
    right[name] = np.array_equal(back, array), np.array_equal(load_file("array.safetensors")["array"], array)
    print(
        f"{name}: saved {array.tolist()}, loaded {back.tolist()}; right {right[name][0]}, after ascontiguousarray "
        f"{right[name][1]}"
    )
raise SystemExit(
    0
    if [plain for plain, _ in right.values()] == [True, False, False, False]
    and all(copied for _, copied in right.values())
    else 1
)
PY
