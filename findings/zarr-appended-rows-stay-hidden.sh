#!/usr/bin/env bash
# Rows appended to a zarr array with consolidated metadata are not there when the store is opened again.
#
# Guess:    open, append, close, open: the array has the new length, whoever reads.
# Versions: zarr 3.1.6, numpy 2.3.5
# Instead:  a store that was consolidated once keeps a second copy of all shapes in its group, which append, resize and create_array
#           leave as it was and which open_group reads by itself. The reader sees 4 of 8 rows and no new array, in both formats;
#           opened by its own path, the array has 8. No error, no warning.
# Means:    a nightly "append the new embeddings" looks as if it did nothing, and a reader that goes by the array's path disagrees
#           with one that goes by the group. Consolidate again after each change, or open with use_consolidated=False.
# Seen:     2026-11-30
#           format 2: open_group (4, ['rows']), use_consolidated=False (8, ['labels', 'rows']), the array by its path 8 rows, consolidated again (8, ['labels', 'rows'])
#           format 3: open_group (4, ['rows']), use_consolidated=False (8, ['labels', 'rows']), the array by its path 8 rows, consolidated again (8, ['labels', 'rows'])
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet zarr==3.1.6 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import warnings

import numpy as np
import zarr

warnings.simplefilter("ignore")
rows = np.arange(4, dtype="int32")
seen = []
for version in (2, 3):
    store = f"store{version}.zarr"
    group = zarr.open_group(store, mode="w", zarr_format=version)
    group.create_array("rows", shape=(4,), chunks=(4,), dtype="int32")[:] = rows
    zarr.consolidate_metadata(store)
    group = zarr.open_group(store, mode="a")
    group["rows"].append(rows + 4)
    group.create_array("labels", shape=(8,), dtype="int32")
    read, plain = zarr.open_group(store, mode="r"), zarr.open_group(store, mode="r", use_consolidated=False)
    own = zarr.open_array(f"{store}/rows", mode="r")
    zarr.consolidate_metadata(store)
    again = zarr.open_group(store, mode="r")
    seen.append([(one["rows"].shape[0], sorted(one.array_keys())) for one in (read, plain, again)] + [own.shape[0]])
    print(
        f"format {version}: open_group {seen[-1][0]}, use_consolidated=False {seen[-1][1]}, the array by its path "
        f"{seen[-1][3]} rows, consolidated again {seen[-1][2]}"
    )
whole = (8, ["labels", "rows"])
raise SystemExit(0 if seen == [[(4, ["rows"]), whole, whole, 8]] * 2 else 1)
PY
