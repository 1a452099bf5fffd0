#!/usr/bin/env bash
# Telephone codecs in WAV come back longer than they were written, and the file does not say by how much.
#
# Guess:    info.frames of a WAV file is the number of samples that were written.
# Versions: soundfile 0.14.0 (bundled libsndfile 1.2.2), av 18.1.0 (its own FFmpeg 8 libraries), numpy 2.3.5
# Instead:  IMA and MS ADPCM, GSM 6.10 and G.721 are padded to whole blocks (up to 1,016 samples, 64 ms at 16 kHz) with
#           what the encoder makes of silence, and soundfile and PyAV both count the padding as sound.
# Means:    durations in manifests, rates of speech and word error rates by the second are off for short calls, each
#           file ends in a stretch of false silence, and converting to ADPCM and back twice moves cut points. Keep the
#           length beside the file.
# Seen:     2026-11-30
#           PCM_16    wrote 48137, soundfile 48137 (0 ms more), PyAV 48137
#           IMA_ADPCM wrote 48137, soundfile 48816 (42 ms more), PyAV 48816
#           MS_ADPCM  wrote 48137, soundfile 48576 (27 ms more), PyAV 48576
#           GSM610    wrote 24137, soundfile 24320 (23 ms more), PyAV 24320
#           G721_32   wrote 24137, soundfile 24240 (13 ms more), PyAV 24240
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

extra = {}
for codec, rate in (
    ("PCM_16", 16000),
    ("IMA_ADPCM", 16000),
    ("MS_ADPCM", 16000),
    ("GSM610", 8000),
    ("G721_32", 8000),
):
    frames = 3 * rate + 137
    file = io.BytesIO()
    sf.write(file, 0.5 * np.sin(2 * np.pi * 440 * np.arange(frames) / rate), rate, format="WAV", subtype=codec)
    file.seek(0)
    count = sf.info(file).frames
    file.seek(0)
    with av.open(file) as opened:
        other = sum(frame.samples for frame in opened.decode(audio=0))
    extra[codec] = count - frames
    print(f"{codec:9} wrote {frames}, soundfile {count} ({1000 * (count - frames) / rate:.0f} ms more), PyAV {other}")
raise SystemExit(0 if extra.pop("PCM_16") == 0 and all(more > 0 for more in extra.values()) else 1)
PY
