#!/usr/bin/env bash
# A short Ogg Vorbis clip is up to 20 ms longer in PyAV than it is.
#
# Guess:    the number of samples is in the file (the last page's granule position), so every reader returns what was
#           written.
# Versions: soundfile 0.14.0, av 18.1.0 (its own FFmpeg 8 libraries), numpy 2.3.5
# Instead:  where all audio fits one Ogg page (clips of about half a second and less at 16 kHz), PyAV returns the whole
#           last block. The samples before the end are the same; the extra ones are the encoder's filling.
#           stream.duration is right. Clips of several pages are exact, and soundfile is exact for all.
# Means:    spoken words and sound effects are just that short. Frame counts, durations in a manifest and masks made
#           with one reader do not fit the other. Cut to stream.duration after decoding.
# Seen:     2026-11-30
#           8000 Hz: wrote 1737, soundfile 1737, PyAV 1792, duration 1737, alike before the end True
#           8000 Hz: wrote 4137, soundfile 4137, PyAV 4352, duration 4137, alike before the end True
#           8000 Hz: wrote 24137, soundfile 24137, PyAV 24137, duration 24137, alike before the end True
#           16000 Hz: wrote 3337, soundfile 3337, PyAV 3584, duration 3337, alike before the end True
#           16000 Hz: wrote 8137, soundfile 8137, PyAV 8192, duration 8137, alike before the end True
#           16000 Hz: wrote 48137, soundfile 48137, PyAV 48137, duration 48137, alike before the end True
#           22050 Hz: wrote 4547, soundfile 4547, PyAV 4608, duration 4547, alike before the end True
#           22050 Hz: wrote 11162, soundfile 11162, PyAV 11264, duration 11162, alike before the end True
#           22050 Hz: wrote 66287, soundfile 66287, PyAV 66287, duration 66287, alike before the end True
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
extra = {}
for rate in (8000, 16000, 22050):
    for seconds in (0.2, 0.5, 3.0):
        frames = int(rate * seconds) + 137
        file = io.BytesIO()
        sf.write(file, 0.1 * random.standard_normal(frames), rate, format="OGG", subtype="VORBIS")
        file.seek(0)
        one = sf.read(file, dtype="float32")[0]
        file.seek(0)
        with av.open(file) as opened:
            duration = opened.streams.audio[0].duration
            other = np.concatenate([frame.to_ndarray()[0] for frame in opened.decode(audio=0)])
        alike = np.allclose(one, other[:frames], atol=1e-5)
        extra[rate, seconds] = len(other) - frames
        print(
            f"{rate} Hz: wrote {frames}, soundfile {len(one)}, PyAV {len(other)}, duration {duration}, alike "
            f"before the end {alike}"
        )
exact = all(extra[rate, 3.0] == 0 for rate in (8000, 16000, 22050))
raise SystemExit(0 if exact and extra[8000, 0.5] > 0 and extra[16000, 0.5] > 0 else 1)
PY
