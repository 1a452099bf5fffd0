#!/usr/bin/env bash
# netCDF4 hides one valid number of each type: -32767 in int16, the value of clipped audio, and 255 in uint8, the value of white.
#
# Guess:    a variable without a declared fill value gives every value back that was written; only places never written are masked.
# Versions: netCDF4 1.7.5.1.post1, h5py 3.16.0, xarray 2026.9.0, numpy 2.3.5
# Instead:  netCDF has a default fill value for each type, and the Python library masks whatever equals it, declared or not, written
#           or not. Audio scaled by 32767 and clipped has exactly -32767 at its negative peaks, and those samples are gone, the
#           positive ones stay. The file is right: h5py and xarray read the numbers.
# Means:    filled(0), compressed() or a mean over the masked array turns peaks into silence, shortens a recording, darkens white.
#           Call set_auto_mask(False) on the file; fill_value=False at creation, which switches filling off, does not switch this
#           off.
# Seen:     2026-11-30
#           int16 audio, 16000 samples: netCDF4 masks 2200 of 4400 clipped ones, h5py and xarray none
#           filled(0): smallest value -32459, largest 32767
#           uint8 picture: netCDF4 masks 256 of 256 white pixels
#           int16, created with fill_value=False: netCDF4 masks 2200
#           int16 with set_auto_mask(False): as written
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet netCDF4==1.7.5.1.post1 h5py==3.16.0 xarray==2026.9.0 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import h5py
import netCDF4
import numpy as np
import xarray

time = np.arange(16_000) / 16_000
audio = np.round(32767 * np.clip(1.1 * np.sin(2 * np.pi * 100 * time + 0.1), -1, 1)).astype("int16")
picture = np.full((32, 32), 40, "uint8")
picture[:16, :16] = 255
with netCDF4.Dataset("file.nc", "w") as file:
    for name, array, fill in (("audio", audio, None), ("picture", picture, None), ("declared", audio, False)):
        for axis, size in enumerate(array.shape):
            file.createDimension(f"{name}{axis}", size)
        sizes = [f"{name}{axis}" for axis in range(array.ndim)]
        file.createVariable(name, array.dtype, sizes, fill_value=fill)[:] = array
with netCDF4.Dataset("file.nc") as file:
    heard, seen, declared = file["audio"][:], file["picture"][:], file["declared"][:]
    file.set_auto_mask(False)
    plain = file["audio"][:]
with h5py.File("file.nc") as file, xarray.open_dataset("file.nc") as data:
    others = [int((array != audio).sum()) for array in (file["audio"][:], data["audio"].values)]
clipped, hidden = int((np.abs(audio) == 32767).sum()), int(np.ma.count_masked(heard))
print(
    f"int16 audio, {len(audio)} samples: netCDF4 masks {hidden} of {clipped} clipped ones, h5py and xarray "
    f"{'none' if others == [0, 0] else others}"
)
silent = np.ma.filled(heard, 0)
print(f"filled(0): smallest value {silent.min()}, largest {silent.max()}")
white = int(np.ma.count_masked(seen))
print(f"uint8 picture: netCDF4 masks {white} of {(picture == 255).sum()} white pixels")
unfilled = int(np.ma.count_masked(declared))
print(f"int16, created with fill_value=False: netCDF4 masks {unfilled}")
right = np.array_equal(plain, audio)
print("int16 with set_auto_mask(False):", "as written" if right else "other")
lost = hidden == unfilled == (audio == -32767).sum() == 2200 and np.all(audio[np.ma.getmaskarray(heard)] == -32767)
raise SystemExit(0 if lost and others == [0, 0] and white == 256 and right else 1)
PY
