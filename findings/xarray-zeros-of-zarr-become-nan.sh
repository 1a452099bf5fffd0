#!/usr/bin/env bash
# xarray opens the class ids of a zarr array with every 0 as NaN, and the rest as floats, if the store has format 2.
#
# Guess:    an int32 array with values 0 to 3, all of them written, opens as int32 with values 0 to 3; the store's format is a
#           detail.
# Versions: xarray 2026.9.0, zarr 3.1.6, numpy 2.3.5
# Instead:  zarr's fill_value says what unwritten chunks hold, 0 by default. In format 2 xarray takes it for a mark of missing
#           values and masks it, so written zeros are NaN; in format 3 it does not. zarr itself reads the zeros in both.
# Means:    class 0, background, silence and padding vanish from counts and means: the mean of [0, 1, 2, 0, 3] is 2.0 instead of
#           1.2. Converting a store from format 2 to 3 changes the results. Open with mask_and_scale=False, or create the arrays
#           with fill_value=None. The option made for this, use_zarr_fill_value_as_mask=False, is not handed on to the reader by
#           open_zarr in this version and changes nothing.
# Seen:     2026-11-30
#           zarr format 2: zarr reads [0, 1, 2, 0, 3], xarray [nan, 1.0, 2.0, nan, 3.0], mean 2.0
#           zarr format 3: zarr reads [0, 1, 2, 0, 3], xarray [0, 1, 2, 0, 3], mean 1.2
#           zarr format 2, use_zarr_fill_value_as_mask=False: [nan, 1.0, 2.0, nan, 3.0]
#           zarr format 2, mask_and_scale=False: [0, 1, 2, 0, 3]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet xarray==2026.9.0 zarr==3.1.6 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import warnings

import xarray
import zarr

warnings.simplefilter("ignore")
ids, read = [0, 1, 2, 0, 3], {}
for version in (2, 3):
    group = zarr.open_group(f"store{version}.zarr", mode="w", zarr_format=version)
    names = {"attributes": {"_ARRAY_DIMENSIONS": ["row"]}} if version == 2 else {"dimension_names": ["row"]}
    array = group.create_array("label", shape=(5,), chunks=(5,), dtype="int32", **names)
    array[:] = ids
    stored = zarr.open_group(f"store{version}.zarr", mode="r")["label"][:].tolist()
    label = xarray.open_zarr(f"store{version}.zarr", consolidated=False)["label"]
    read[version] = label.values.tolist()
    print(f"zarr format {version}: zarr reads {stored}, xarray {read[version]}, mean {float(label.mean())}")
    assert stored == ids
options = {"use_zarr_fill_value_as_mask": False}, {"mask_and_scale": False}
for option in options:
    plain = xarray.open_zarr("store2.zarr", consolidated=False, **option)["label"].values.tolist()
    print(f"zarr format 2, {'='.join(map(str, *option.items()))}: {plain}")
raise SystemExit(0 if str(read[2]) == "[nan, 1.0, 2.0, nan, 3.0]" and read[3] == plain == ids else 1)
PY
