#!/usr/bin/env bash
# What does not fit into a stored array's type is stored as another number, and as another one by each library.
#
# Guess:    300 into int8, or a value beyond the range of a packed variable, raises: shape and names are checked on append as well.
# Versions: zarr 3.1.6, xarray 2026.9.0, h5py 3.16.0, numpy 2.3.5
# Instead:  zarr wraps (300 is 44), h5py clamps (127), both cut 2.7 to 2 and write NaN as 0. xarray's to_zarr with append_dim takes
#           over the scale of the first batch: 100.0 at a scale of 0.001 in int16 reads as -31.072. A longer string it refuses.
# Means:    a store that the first shard was packed for returns wrong numbers of either sign for the later ones, and moving from
#           HDF5 to zarr turns the largest values into small ones. Check minimum and maximum before each write.
# Seen:     2026-11-30
#           [300.0, -200.0, 2.7, nan] into int8: zarr [44, 56, 2, 0], h5py [127, -128, 2, 0]
#           [0.1, 0.2] packed, [100.0, -5.0] appended: xarray [0.1, 0.2, -31.072, -5.0]
#           a longer string appended: ValueError
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet zarr==3.1.6 xarray==2026.9.0 h5py==3.16.0 numpy==2.3.5
cd "$work"
venv/bin/python - 2> /dev/null <<'PY'
import h5py
import numpy as np
import xarray
import zarr

values = np.array([300, -200, 2.7, np.nan])
array = zarr.create_array("array.zarr", shape=(4,), dtype="int8")
array[:] = values
with h5py.File("array.h5", "w") as file:
    file.create_dataset("x", (4,), "int8")[:] = values
    clamped = file["x"][:].tolist()
wrapped = array[:].tolist()
print(f"{values.tolist()} into int8: zarr {wrapped}, h5py {clamped}")


def batch(numbers: list[float], names: list[str]) -> xarray.Dataset:
    return xarray.Dataset({"value": ("row", numbers), "name": ("row", np.array(names))})


packed = {"value": {"dtype": "int16", "scale_factor": 0.001, "_FillValue": -32768}}
batch([0.1, 0.2], ["ab", "cd"]).to_zarr("packed.zarr", encoding=packed, consolidated=False)
batch([100.0, -5.0], ["ef", "gh"]).to_zarr("packed.zarr", append_dim="row", consolidated=False)
read = [round(value, 3) for value in xarray.open_zarr("packed.zarr", consolidated=False)["value"].values.tolist()]
print(f"[0.1, 0.2] packed, [100.0, -5.0] appended: xarray {read}")
try:
    batch([0.3], ["longer"]).to_zarr("packed.zarr", append_dim="row", consolidated=False)
    string = "accepted"
except ValueError as error:
    string = type(error).__name__
print(f"a longer string appended: {string}")
raise SystemExit(
    0
    if (wrapped[:3], clamped[:3], string) == ([44, 56, 2], [127, -128, 2], "ValueError") and read == [0.1, 0.2, -31.072, -5.0]
    else 1
)
PY
