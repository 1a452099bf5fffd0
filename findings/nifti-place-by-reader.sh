#!/usr/bin/env bash
# nibabel and SimpleITK put the same NIfTI volume at different places, if its two transforms differ.
#
# Guess:    the file says where its voxels are, so both readers agree up to the sign of two axes.
# Versions: nibabel 5.4.2, SimpleITK 2.5.7, numpy 2.3.5
# Instead:  a file may hold two transforms, qform (often the scanner) and sform (often an atlas). nibabel takes the
#           sform if it has a code at all. SimpleITK takes the qform in such a file when the sform's code is 2, 3 or 4
#           (aligned, Talairach, MNI) and the qform has a code, and the sform when both are "scanner". Here: 5, 6, 7 mm
#           rotated by 17 degrees, or -10, -20, -30 mm unrotated.
# Means:    masks and volumes that went through registration lie elsewhere in the second tool, with no message. Make
#           both transforms equal, with one code, before data are shared.
# Seen:     2026-11-30
#           qform code 1, sform code 0: nibabel qform, SimpleITK qform
#           qform code 0, sform code 2: nibabel sform, SimpleITK sform
#           qform code 1, sform code 1: nibabel sform, SimpleITK sform
#           qform code 1, sform code 2: nibabel sform, SimpleITK qform
#           qform code 1, sform code 4: nibabel sform, SimpleITK qform
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet nibabel==5.4.2 SimpleITK==2.5.7 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import nibabel
import numpy as np
import SimpleITK

voxels = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
cosine, sine = np.cos(0.3), np.sin(0.3)
transforms = {
    "qform": np.array([[2.0, 0, 0, -10], [0, 2, 0, -20], [0, 0, 2, -30], [0, 0, 0, 1]]),
    "sform": np.array([[2 * cosine, -2 * sine, 0, 5], [2 * sine, 2 * cosine, 0, 6], [0, 0, 2, 7], [0, 0, 0, 1]]),
}


def named(affine):
    return next((name for name, other in transforms.items() if np.allclose(affine, other, atol=1e-3)), "neither")


taken = {}
for codes in ((1, 0), (0, 2), (1, 1), (1, 2), (1, 4)):
    image = nibabel.Nifti1Image(voxels, None)
    image.set_qform(transforms["qform"], codes[0], update_affine=False)
    image.set_sform(transforms["sform"], codes[1], update_affine=False)
    nibabel.save(image, "volume.nii")
    other = SimpleITK.ReadImage("volume.nii")
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(other.GetDirection(), (3, 3)) * other.GetSpacing()
    affine[:3, 3] = other.GetOrigin()
    taken[codes] = named(nibabel.load("volume.nii").affine), named(np.diag([-1, -1, 1, 1]) @ affine)
    print(f"qform code {codes[0]}, sform code {codes[1]}: nibabel {taken[codes][0]}, SimpleITK {taken[codes][1]}")
raise SystemExit(0 if taken[1, 1] == ("sform", "sform") and taken[1, 2] == taken[1, 4] == ("sform", "qform") else 1)
PY
