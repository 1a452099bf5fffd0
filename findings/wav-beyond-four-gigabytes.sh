#!/usr/bin/env bash
# A WAV file beyond 4 GiB is written without an error, and read back short by the library that wrote it.
#
# Guess:    soundfile raises when a WAV gets too large for its 32-bit size, or writes RF64, and reads what it has written.
# Versions: soundfile 0.14.0 (bundled libsndfile 1.2.2), av 18.1.0, numpy 2.3.5
# Instead:  4.4 GB are written, the header says 4294967295 bytes, and soundfile (and Python's wave) read 2,147,483,647 of 2,200,000,000
#           frames: the last 18 minutes are in the file and out of reach. PyAV finds all. RF64 is right in both.
# Means:    a day of one channel, or an hour of 16, is cut where nobody listens. Ask for format="RF64" or "W64" for long recordings.
#           (This script needs 4.4 GB of free disk for a minute.)
# Seen:     2026-11-30
#           WAV: 4,400,000,044 bytes of 2,200,000,000 frames; soundfile 2,147,483,647, PyAV 2,200,000,000
#                Python's wave 2,147,483,647
#           RF64: 4,400,000,104 bytes of 2,200,000,000 frames; soundfile 2,200,000,000, PyAV 2,200,000,000
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet soundfile==0.14.0 av==18.1.0 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import os
import wave

import av
import numpy as np
import soundfile as sf

frames, block = 2_200_000_000, np.full(20_000_000, 7, np.int16)
seen = {}
for container in ("WAV", "RF64"):
    with sf.SoundFile("long.wav", "w", 48000, 1, "PCM_16", format=container) as file:
        for _ in range(frames // len(block)):
            file.write(block)
    own = sf.info("long.wav").frames
    with av.open("long.wav") as opened:
        other = opened.streams.audio[0].duration
    seen[container] = own, other
    print(f"{container}: {os.path.getsize('long.wav'):,} bytes of {frames:,} frames; soundfile {own:,}, PyAV {other:,}")
    if container == "WAV":
        with wave.open("long.wav") as opened:
            print(f"     Python's wave {opened.getnframes():,}")
    os.remove("long.wav")
raise SystemExit(0 if seen == {"WAV": (2**31 - 1, frames), "RF64": (frames, frames)} else 1)
PY
