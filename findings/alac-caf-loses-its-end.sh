#!/usr/bin/env bash
# A lossless ALAC file from soundfile loses its end in FFmpeg, or is refused.
#
# Guess:    ALAC in CAF, written by one library and read by the other, has the same samples: lossless is lossless.
# Versions: soundfile 0.14.0 (bundled libsndfile 1.2.2), av 18.1.0 (its own FFmpeg 8 libraries), numpy 2.3.5
# Instead:  soundfile reads its own file back exactly. PyAV cuts up to 2,047 samples off the end: with 3,081 samples in
#           the last block of 4,096 it returns 1,015 fewer, as if the filling of the last block were subtracted from its
#           real length once more. With 2,000 or 256 in the last block nothing is lost. A file of whole blocks alone is
#           refused as invalid.
# Means:    an archive made with soundfile plays on one side and is short by up to 0.1 s, or unreadable, in every tool
#           that is built on FFmpeg. Use FLAC.
# Seen:     2026-11-30
#           256 samples in the last block: soundfile exact True, lost in PyAV: 0
#           2000 samples in the last block: soundfile exact True, lost in PyAV: 0
#           3081 samples in the last block: soundfile exact True, lost in PyAV: 1015
#           4000 samples in the last block: soundfile exact True, lost in PyAV: 96
#           0 samples in the last block: soundfile exact True, lost in PyAV: all, refused as invalid
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet soundfile==0.14.0 av==18.1.0 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import io

import av
import numpy as np
import soundfile as sf

random = np.random.default_rng(0)
lost = {}
for last in (256, 2000, 3081, 4000, 0):
    wave = (3000 * random.standard_normal(3 * 4096 + last)).astype(np.int16)
    file = io.BytesIO()
    sf.write(file, wave, 16000, format="CAF", subtype="ALAC_16")
    file.seek(0)
    exact = np.array_equal(sf.read(file, dtype="int16")[0], wave)
    file.seek(0)
    try:
        with av.open(file) as opened:
            back = np.concatenate([frame.to_ndarray()[0] for frame in opened.decode(audio=0)])
        assert np.array_equal(back, wave[: len(back)])
        lost[last] = len(wave) - len(back)
    except av.error.InvalidDataError:
        lost[last] = "all, refused as invalid"
    print(f"{last} samples in the last block: soundfile exact {exact}, lost in PyAV: {lost[last]}")
raise SystemExit(
    0 if lost[256] == lost[2000] == 0 and lost[3081] == 1015 and lost[4000] == 96 and isinstance(lost[0], str) else 1
)
PY
