#!/usr/bin/env bash
# Labels that go through a MATLAB file come back with blanks behind them, so "cat" is no longer "cat".
#
# Guess:    scipy.io.loadmat of what savemat wrote: strings, flags and half floats survive; that 1-D arrays become 2-D is known.
# Versions: scipy 1.16.3, numpy 2.3.5
# Instead:  a list or array of strings is stored as a rectangle of characters: every label has the length of the longest. Flags come
#           back as uint8, for which ~ gives 254 and 255, and indexing by them takes rows 0 and 1 instead of selecting; float16 as
#           float64. An array of dtype object keeps strings as they are, each in an array of its own. No warning.
# Means:    label == "cat" is false for all but the longest label, so a class is empty; and a mask selects the wrong rows, as many
#           as it is long. strip() and astype(bool) after loading, or store ids.
# Seen:     2026-11-30
#           labels ['cat', 'horse', 'cat']: ['cat  ', 'horse', 'cat  '], equal to 'cat': 0
#           mask [False, True, True]: [0, 1, 1] (uint8), [10, 20, 30] by it: [10, 20, 20]
#           half: float64
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet scipy==1.16.3 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
from scipy.io import loadmat, savemat

labels, mask, half = ["cat", "horse", "cat"], np.array([False, True, True]), np.array([0.5, 1.5, 2.5], "float16")
savemat("file.mat", {"labels": labels, "mask": mask, "half": half})
read = loadmat("file.mat", squeeze_me=True)
found = read["labels"].tolist()
print(f"labels {labels}: {found}, equal to 'cat': {sum(label == 'cat' for label in found)}")
rows = np.array([10, 20, 30])
print(f"mask {mask.tolist()}: {read['mask'].tolist()} ({read['mask'].dtype}), [10, 20, 30] by it: {rows[read['mask']].tolist()}")
print(f"half: {read['half'].dtype}")
raise SystemExit(
    0
    if found == ["cat  ", "horse", "cat  "]
    and read["mask"].dtype == np.uint8
    and rows[read["mask"]].tolist() == [10, 20, 20]
    and read["half"].dtype == np.float64
    else 1
)
PY
