#!/usr/bin/env bash
# OpenCV 5 takes a one-dimensional array for a row; for OpenCV 4 it was a column. The same lines compute something else, or nothing.
#
# Guess:    a filter over a numpy array of shape (n,) gives the same numbers in the new major release, or an error.
# Versions: opencv-python-headless 5.0.0.93 and 4.12.0.88, numpy 2.2.6
# Instead:  GaussianBlur(x, (5, 1), 0) smooths along the array in 5 and did nothing in 4; (1, 5), which worked in 4, does nothing in
#           5. flip, minMaxLoc's place, transpose and rotate change alike. Results have other shapes: calcHist (4,) after (4, 1),
#           findNonZero (n, 2) after (n, 1, 2).
# Means:    a smoothing of an energy curve or spectrum that worked is the identity after an upgrade, without a warning. Give arrays
#           of two dimensions: x[None].
# Seen:     2026-11-30
#           OpenCV 4: changes x by ['GaussianBlur (1, 5)'], flip 1 [0, 1, 2, 3], place of the maximum (0, 3), calcHist (4, 1), findNonZero (3, 1, 2), GaussianBlur of x[None] changes it True
#           OpenCV 5: changes x by ['GaussianBlur (5, 1)'], flip 1 [3, 2, 1, 0], place of the maximum (3, 0), calcHist (4,), findNonZero (3, 2), GaussianBlur of x[None] changes it True
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat > filters.py <<'PY'
import cv2
import numpy as np

x = np.array([0, 0, 0, 1, 0, 0, 0], "float32")
changed = {
    "GaussianBlur (5, 1)": not np.allclose(np.ravel(cv2.GaussianBlur(x, (5, 1), 0)), x),
    "GaussianBlur (1, 5)": not np.allclose(np.ravel(cv2.GaussianBlur(x, (1, 5), 0)), x),
}
ramp = np.arange(4, dtype="float32")
square = np.arange(16, dtype="uint8").reshape(4, 4)
print(f"OpenCV {cv2.__version__[0]}: changes x by", [name for name, does in changed.items() if does], end=", ")
print(f"flip 1 {np.ravel(cv2.flip(ramp, 1)).astype(int).tolist()}, place of the maximum {cv2.minMaxLoc(ramp)[3]}", end=", ")
histogram, places = cv2.calcHist([square], [0], None, [4], [0, 16]), cv2.findNonZero(np.eye(3, dtype="uint8"))
print(f"calcHist {histogram.shape}, findNonZero {places.shape}", end=", ")
print(f"GaussianBlur of x[None] changes it {not np.allclose(cv2.GaussianBlur(x[None], (5, 1), 0)[0], x)}")
PY
seen=""
for version in 4.12.0.88 5.0.0.93; do
    python3 -m venv "venv$version"
    "venv$version/bin/pip" install --quiet --no-deps "opencv-python-headless==$version" numpy==2.2.6
    seen+="$("venv$version/bin/python" filters.py)"$'\n'
done
printf '%s' "$seen"
expected="OpenCV 4: changes x by ['GaussianBlur (1, 5)'], flip 1 [0, 1, 2, 3], place of the maximum (0, 3), \
calcHist (4, 1), findNonZero (3, 1, 2), GaussianBlur of x[None] changes it True
OpenCV 5: changes x by ['GaussianBlur (5, 1)'], flip 1 [3, 2, 1, 0], place of the maximum (3, 0), \
calcHist (4,), findNonZero (3, 2), GaussianBlur of x[None] changes it True"
[ "$seen" = "$expected"$'\n' ]
