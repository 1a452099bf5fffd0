#!/usr/bin/env bash
# numpy arrays in big-endian order, as readers of several formats return them, become noise in soundfile, OpenCV and tensorstore.
#
# Guess:    a library that takes numpy arrays looks at the byte order, and converts the array or refuses it.
# Versions: soundfile 0.14.0, scipy 1.16.3, opencv-python-headless 5.0.0.93, imagecodecs 2026.3.6, tensorstore 0.1.86, av 18.1.0,
#           pillow 13.0.0, numpy 2.3.5
# Instead:  scipy reads a RIFX file as ">i2" (IDX, FITS and netCDF 3 give such arrays as well). soundfile looks at the type's name
#           only, "int16", and writes the bytes as they lie: a sine becomes noise of up to full scale. OpenCV, imagecodecs' JPEG
#           2000 and tensorstore do the same. PyAV refuses the array, Pillow is right.
# Means:    the shape, the length and the type are right, and the values are not. array.astype(array.dtype.newbyteorder("=")) after
#           such a reader.
# Seen:     2026-11-30
#           scipy reads the sine as >i2: the largest difference is 0
#           soundfile writes it, and reads: the largest difference is 40546
#           OpenCV, PNG: 62220
#           imagecodecs, JPEG 2000: 62220
#           tensorstore reads [1, 2, 300] as [16777216, 33554432, 738263040]
#           Pillow, PNG: 0
#           PyAV: ValueError
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet soundfile==0.14.0 scipy==1.16.3 opencv-python-headless==5.0.0.93 imagecodecs==2026.3.6 \
    tensorstore==0.1.86 av==18.1.0 pillow==13.0.0 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import io
import struct

import av
import cv2
import imagecodecs
import numpy as np
import scipy.io.wavfile
import soundfile
import tensorstore
from PIL import Image

sine = (8000 * np.sin(0.1 * np.arange(1000))).astype("int16")
body = sine.astype(">i2").tobytes()
form = struct.pack(">4sIHHIIHH", b"fmt ", 16, 1, 1, 16000, 32000, 2, 16) + struct.pack(">4sI", b"data", len(body))
with open("sine.wav", "wb") as file:
    file.write(struct.pack(">4sI4s", b"RIFX", 4 + len(form) + len(body), b"WAVE") + form + body)


def apart(one, other) -> int:
    return int(np.abs(np.asarray(one).astype(int) - np.asarray(other).astype(int)).max())


_, read = scipy.io.wavfile.read("sine.wav")
seen = [apart(read, sine)]
print(f"scipy reads the sine as {read.dtype.str}: the largest difference is {seen[-1]}")
soundfile.write("copy.wav", read, 16000, subtype="PCM_16")
seen.append(apart(soundfile.read("copy.wav", dtype="int16")[0], sine))
print(f"soundfile writes it, and reads: the largest difference is {seen[-1]}")
picture = (100 * np.arange(64, dtype="uint16")).reshape(8, 8)
swapped = picture.astype(">u2")
seen.append(apart(cv2.imdecode(cv2.imencode(".png", swapped)[1], cv2.IMREAD_UNCHANGED), picture))
print(f"OpenCV, PNG: {seen[-1]}")
seen.append(apart(imagecodecs.jpeg2k_decode(imagecodecs.jpeg2k_encode(swapped, level=0)), picture))
print(f"imagecodecs, JPEG 2000: {seen[-1]}")
numbers = tensorstore.array(np.array([1, 2, 300], ">i4"))[...].read().result().tolist()
print(f"tensorstore reads [1, 2, 300] as {numbers}")
file = io.BytesIO()
Image.fromarray(swapped).save(file, "PNG")
seen.append(apart(Image.open(file), picture))
print(f"Pillow, PNG: {seen[-1]}")
try:
    av.AudioFrame.from_ndarray(read[None], format="s16", layout="mono")
    refused = "accepted"
except ValueError as error:
    refused = type(error).__name__
print(f"PyAV: {refused}")
wrong = seen == [0, 40546, 62220, 62220, 0] and numbers == [16777216, 33554432, 738263040]
raise SystemExit(0 if wrong and refused == "ValueError" else 1)
PY
