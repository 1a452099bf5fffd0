#!/usr/bin/env bash
# A video that a phone held upright has recorded is upright in OpenCV and lies on its side in PyAV and imageio.
#
# Guess:    a reader of frames returns them as players show them; height and width are the same in all of them.
# Versions: av 18.1.0 (its own FFmpeg 8 libraries), opencv-python-headless 5.0.0.93, imageio 2.38.1, numpy 2.3.5
# Instead:  cameras store frames as the sensor lies and put a rotation into the container. OpenCV turns the frames and swaps the
#           width that it states; PyAV returns them as stored and tells frame.rotation; imageio's pyav plugin returns them as stored
#           and tells nothing.
# Means:    boxes and masks drawn over one reader's frames do not fit the other's, and a crawl mixes upright and lying people. Turn
#           by frame.rotation, or switch OpenCV's CAP_PROP_ORIENTATION_AUTO off, in one place.
# Seen:     2026-11-30
#           plain.mp4 (PyAV's frame.rotation 0): {'PyAV': ((48, 64), 'top left'), 'OpenCV': ((48, 64), 'top left'), 'imageio': ((48, 64), 'top left')}
#           turned.mp4 (PyAV's frame.rotation -90): {'PyAV': ((48, 64), 'top left'), 'OpenCV': ((64, 48), 'top right'), 'imageio': ((48, 64), 'top left')}
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet av==18.1.0 opencv-python-headless==5.0.0.93 imageio==2.38.1 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import struct

import av
import cv2
import imageio.v3
import numpy as np

picture = np.zeros((48, 64, 3), "uint8")
picture[:24, :32] = 255
with av.open("plain.mp4", "w") as file:
    stream = file.add_stream("mpeg4", rate=25)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    for _ in range(10):
        file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
    file.mux(stream.encode(None))
with open("plain.mp4", "rb") as file:
    data = bytearray(file.read())
matrix = data.index(b"tkhd") + 44  # of the track header, version 0
one = 1 << 16
assert struct.unpack(">9i", data[matrix : matrix + 36]) == (one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
data[matrix : matrix + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 48 * one, 0, 1 << 30)
with open("turned.mp4", "wb") as file:
    file.write(data)


def corner(frame: np.ndarray) -> str:
    places = {"top left": frame[4, 4], "top right": frame[4, -5], "bottom left": frame[-5, 4]}
    return next(place for place, value in places.items() if value.mean() > 128)


seen = {}
for path in ("plain.mp4", "turned.mp4"):
    with av.open(path) as file:
        frame = next(file.decode(video=0))
    frames = {
        "PyAV": frame.to_ndarray(format="rgb24"),
        "OpenCV": cv2.VideoCapture(path).read()[1],
        "imageio": imageio.v3.imread(path, plugin="pyav")[0],
    }
    seen[path] = {name: (array.shape[:2], corner(array)) for name, array in frames.items()}
    print(f"{path} (PyAV's frame.rotation {frame.rotation}):", seen[path])
stored, upright = ((48, 64), "top left"), ((64, 48), "top right")
raise SystemExit(
    0
    if [*seen["plain.mp4"].values()] == [stored] * 3 and [*seen["turned.mp4"].values()] == [stored, upright, stored]
    else 1
)
PY
