#!/usr/bin/env bash
# A loud Ogg Vorbis or Opus file read as int16 turns its peaks into the opposite sign.
#
# Guess:    a decoder's overshoot beyond full scale is clipped to +-32767 when integers are asked for, as with MP3.
# Versions: soundfile 0.14.0 (bundled libsndfile 1.2.2), numpy 2.3.5
# Instead:  as float32 the overshoot is there (1.35 and more). As int16 Vorbis and Opus wrap round: +1.1 becomes about
#           -0.9. The MP3 of the same signal is clipped. int32 wraps as well for Vorbis and Opus.
# Means:    recordings mastered loud get full-scale clicks, thousands of them, in one container and not in another, and
#           no error. Read float32 and clip, or scale by the peak, before going to int16.
# Seen:     2026-11-30
#           VORBIS          float peak 1.35, beyond full scale 55301, int16 of the wrong sign there 55275
#           OPUS            float peak 1.59, beyond full scale 48109, int16 of the wrong sign there 48096
#           MPEG_LAYER_III  float peak 1.36, beyond full scale 44866, int16 of the wrong sign there 0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet soundfile==0.14.0 numpy==2.3.5
"$work/venv/bin/python" - <<'PY'
import io

import numpy as np
import soundfile as sf

rate = 48000
loud = 0.999 * np.sign(np.sin(2 * np.pi * 440 * np.arange(2 * rate) / rate))
wrong = {}
for container, codec in (("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")):
    file = io.BytesIO()
    sf.write(file, loud, rate, format=container, subtype=codec)
    file.seek(0)
    floats = sf.read(file, dtype="float32")[0]
    file.seek(0)
    integers = sf.read(file, dtype="int16")[0]
    beyond = np.abs(floats) > 1
    wrong[codec] = (np.sign(integers[beyond]) != np.sign(floats[beyond])).mean()
    print(
        f"{codec:15} float peak {np.abs(floats).max():.2f}, beyond full scale {beyond.sum()}, "
        f"int16 of the wrong sign there {(np.sign(integers[beyond]) != np.sign(floats[beyond])).sum()}"
    )
raise SystemExit(0 if wrong["VORBIS"] > 0.9 and wrong["OPUS"] > 0.9 and wrong["MPEG_LAYER_III"] == 0 else 1)
PY
