#!/usr/bin/env bash
# A WMA file that FFmpeg writes comes back from FFmpeg without its first 2,048 samples.
#
# Guess:    a lossy codec delays or pads; what is written at the start is found again, a little later, as in MP3 and AAC.
# Versions: av 18.1.0 (bundled FFmpeg), numpy 2.3.5
# Instead:  with wmav2 the first frame serves the decoder to fill its overlap and is not given out: a click in the first 2,048 samples is
#           gone, later ones stand 2,048 samples early, and the recording is shorter by that or less. With wmav1 it is the same.
# Means:    46 ms at 44.1 kHz: labels by time are off, and the attack of a short sound is lost. Pad the start before writing WMA,
#           or keep masters in a lossless format.
# Seen:     2026-11-30
#           wmav2: written 88,200, read 88,064; clicks at (1000, 20000, 60000), found near [17952, 57952]
#           wmav1: the same
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet av==18.1.0 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import av
import numpy as np

RATE, CLICKS = 44_100, (1_000, 20_000, 60_000)
wave = np.zeros(2 * RATE, np.float32)
for click in CLICKS:
    wave[click : click + 40] = 0.8


def write(codec: str) -> str:
    with av.open(f"{codec}.wma", "w", format="asf") as file:
        stream = file.add_stream(codec, rate=RATE, layout="mono")
        stream.bit_rate = 128_000
        frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        frame.rate = RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            file.mux(packet)
    return f"{codec}.wma"


def read(name: str) -> np.ndarray:
    with av.open(name) as file:
        return np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])


for codec in ("wmav2", "wmav1"):
    found = read(write(codec))
    loud = np.flatnonzero(np.abs(found) > 0.4)
    starts = [int(loud[0]), *(int(b) for a, b in zip(loud, loud[1:]) if b - a > 1_000)]
    print(f"{codec}: written {len(wave):,}, read {len(found):,}; clicks at {CLICKS}, found near {starts}")
    assert len(found) == 88_064
    assert [round((click - start) / 64) * 64 for click, start in zip(CLICKS[1:], starts, strict=True)] == [2_048, 2_048]
PY
