#!/usr/bin/env bash
# soundfile writes an int32 array of 16-bit sample values as silence.
#
# Guess:    subtype="PCM_16" writes the values as they are, and clips or refuses what does not fit.
# Versions: soundfile 0.14.0 (bundled libsndfile 1.2.2), scipy 1.16.3, numpy 2.3.5
# Instead:  the type of the array is the scale: int32 means full scale at 2**31, so the upper 16 bits are written. A
#           peak of 12,000 becomes 0 or -1. Sums, differences and mixes of int16 recordings in a wider type, as one does
#           against overflow, are such arrays. Converting to float32 without dividing gives the opposite, everything
#           clipped. No warning in either case.
# Means:    after "mix in int32 to be safe" the file has the right length and no sound. Cast back to int16 (clipped)
#           before writing.
# Seen:     2026-11-30
#           int16: peak 12069 written, 12069 read; same samples True
#           int32: peak 12069 written, 1 read; same samples False
#           float32: peak 12069 written, 32768 read; same samples False
#           scipy writes int32 as a 32-bit file; soundfile reads it as int16 with peak 1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet soundfile==0.14.0 scipy==1.16.3 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import io

import numpy as np
import soundfile as sf
from scipy.io import wavfile

wave = np.round(3000 * np.random.default_rng(0).standard_normal(16000)).astype(np.int16)
peaks = {}
for name in ("int16", "int32", "float32"):
    file = io.BytesIO()
    sf.write(file, wave.astype(name), 16000, format="WAV", subtype="PCM_16")
    file.seek(0)
    back = sf.read(file, dtype="int16")[0].astype(int)
    peaks[name] = int(np.abs(back).max())
    print(f"{name}: peak {np.abs(wave).max()} written, {peaks[name]} read; same samples {np.array_equal(back, wave)}")
file = io.BytesIO()
wavfile.write(file, 16000, wave.astype(np.int32))
file.seek(0)
print(
    f"scipy writes int32 as a 32-bit file; soundfile reads it as int16 with peak "
    f"{np.abs(sf.read(file, dtype='int16')[0].astype(int)).max()}"
)
raise SystemExit(0 if peaks["int16"] > 9000 and peaks["int32"] <= 1 and peaks["float32"] >= 32767 else 1)
PY
