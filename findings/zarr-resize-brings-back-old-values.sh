#!/usr/bin/env bash
# A zarr array that is shrunk and grown again shows part of what was cut off; HDF5 shows the fill value.
#
# Guess:    resize(5) followed by resize(20) leaves 15 fill values behind the 5 kept ones, in zarr as in h5py.
# Versions: zarr 3.1.6, h5py 3.16.0, numpy 2.3.5
# Instead:  zarr removes whole chunks beyond the new end and leaves the one that the end falls into as it is. With
#           chunks of 8, the values 6, 7 and 8 are back. Both zarr formats do so. h5py fills them.
# Means:    "drop the bad tail, append again later" mixes deleted rows into the new ones wherever the writer skips a
#           place, and deleted data are still in the store. Overwrite the tail with the fill value before shrinking.
# Seen:     2026-11-30
#           zarr, format 2: [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
#           zarr, format 3: [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
#           HDF5:           [1, 2, 3, 4, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet zarr==3.1.6 h5py==3.16.0 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import h5py
import numpy as np
import zarr

ends = []
for version in (2, 3):
    array = zarr.create_array(
        "array.zarr", shape=(20,), chunks=(8,), dtype="int32", overwrite=True, zarr_format=version
    )
    array[:] = np.arange(1, 21)
    array.resize((5,))
    array.resize((20,))
    ends.append(array[:].tolist())
    print(f"zarr, format {version}: {ends[-1]}")
with h5py.File("file.h5", "w") as file:
    dataset = file.create_dataset("x", data=np.arange(1, 21), chunks=(8,), maxshape=(None,))
    dataset.resize((5,))
    dataset.resize((20,))
    ends.append(dataset[:].tolist())
print(f"HDF5:           {ends[-1]}")
raise SystemExit(0 if ends[0] == ends[1] and ends[0][5:9] == [6, 7, 8, 0] and ends[2][5:] == [0] * 15 else 1)
PY
