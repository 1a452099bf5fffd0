#!/usr/bin/env bash
# FFmpeg's stereo to mono is 3 dB louder in floats than in integers, and goes beyond full scale; 5.1 to mono is 3.4 times as loud.
#
# Guess:    equal channels mixed to one keep their level, whatever the type of the numbers; mono to stereo copies.
# Versions: av 18.1.0 (its own FFmpeg 8 libraries), numpy 2.3.5
# Instead:  the weights are 0.707 for left and right each. If the output is an integer format they are scaled down to a sum of 1; if
#           it is a float format they are not, as floats do not clip: 1.414 for stereo, 3.414 for 5.1. Mono to stereo gives 0.707 in
#           both. It is the output's format that counts: int16 in, float out is louder too.
# Means:    one corpus decoded to "s16" and another to "flt" differ by 3 dB where they were stereo, and a float WAV of a loud song
#           clips when it is written as 16 bits. Take the channels and average them yourself, or give the weights by the pan filter.
# Seen:     2026-11-30
#           s16p to s16p: stereo to mono times 1.0, 5.1 to mono 1.0, mono to stereo 0.707
#           s16p to fltp: stereo to mono times 1.414, 5.1 to mono 3.414, mono to stereo 0.707
#           fltp to s16p: stereo to mono times 1.0, 5.1 to mono 1.0, mono to stereo 0.707
#           fltp to fltp: stereo to mono times 1.414, 5.1 to mono 3.414, mono to stereo 0.707
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet av==18.1.0 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import av
import numpy as np

sine = (20_000 * np.sin(0.1 * np.arange(1600))).astype("int16")
SCALE = {"s16p": 1, "fltp": 2**15}


def level(given: str, channels: str, wanted: str, count: int, layout: str) -> float:
    sound = np.stack([sine] * count)
    sound = sound if given == "s16p" else (sound / 2**15).astype("float32")
    frame = av.AudioFrame.from_ndarray(sound, format=given, layout=channels)
    frame.sample_rate, frame.pts = 16_000, 0
    resampler = av.AudioResampler(wanted, layout, 16_000)
    parts = [part.to_ndarray()[0] for part in (*resampler.resample(frame), *resampler.resample(None))]
    return float(np.abs(np.concatenate(parts)).max() * SCALE[wanted] / np.abs(sine).max())


seen = {}
for given in SCALE:
    for wanted in SCALE:
        seen[given, wanted] = found = [
            round(level(given, channels, wanted, count, layout), 3)
            for channels, count, layout in (("stereo", 2, "mono"), ("5.1", 6, "mono"), ("mono", 1, "stereo"))
        ]
        print("{} to {}: stereo to mono times {}, 5.1 to mono {}, mono to stereo {}".format(given, wanted, *found))
integers = all(np.allclose(seen[given, "s16p"], [1, 1, 0.707], atol=0.002) for given in SCALE)
floats = all(np.allclose(seen[given, "fltp"], [1.414, 3.414, 0.707], atol=0.002) for given in SCALE)
raise SystemExit(0 if integers and floats else 1)
PY
