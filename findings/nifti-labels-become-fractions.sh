#!/usr/bin/env bash
# Labels 0 to 7, loaded and saved again by nibabel without a change, come back as 0.988, 2.004, 2.992.
#
# Guess:    load, get_fdata, save with the affine and header of the input: whole numbers stay whole numbers.
# Versions: nibabel 5.4.2, numpy 2.3.5
# Instead:  get_fdata gives float64; the old header asks for uint8; so nibabel scales the range of the values to 0..255
#           and stores a slope of 0.0275. The values read back are up to 0.012 off (for int16 headers less, but off as
#           well), and astype(int) cuts them: 0, 0, 2, 2, 4, 4, 6, 7.
# Means:    segmentations that went through any float step lose every other class by == or astype(int), in whoever reads
#           them next. Cast to the label type before Nifti1Image, and round, not cut, what is read.
# Seen:     2026-11-30
#           written [0, 1, 2, 3, 4, 5, 6, 7], first read [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
#           saved as float with the same header, type uint8, slope 0.0275: [0.0, 0.988, 2.004, 2.992, 4.008, 4.996, 6.012, 7.0]
#           astype(int): [0, 0, 2, 2, 4, 4, 6, 7]; with a cast before saving: [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet nibabel==5.4.2 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import nibabel
import numpy as np

labels = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), "labels.nii.gz")
first = nibabel.load("labels.nii.gz")
values = first.get_fdata()
nibabel.save(nibabel.Nifti1Image(values, first.affine, first.header), "again.nii.gz")
again = nibabel.load("again.nii.gz")
back = again.get_fdata().ravel()
nibabel.save(nibabel.Nifti1Image(values.astype(np.uint8), first.affine, first.header), "cast.nii.gz")
cast = nibabel.load("cast.nii.gz").get_fdata().ravel()
print(f"written {labels.ravel().tolist()}, first read {values.ravel().tolist()}")
print(
    f"saved as float with the same header, type {again.get_data_dtype()}, slope {again.dataobj.slope:.4f}: "
    f"{back.round(3).tolist()}"
)
print(f"astype(int): {back.astype(int).tolist()}; with a cast before saving: {cast.tolist()}")
raise SystemExit(
    0 if back.astype(int).tolist() == [0, 0, 2, 2, 4, 4, 6, 7] and cast.tolist() == list(range(8)) else 1
)
PY
