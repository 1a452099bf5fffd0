#!/usr/bin/env bash
# FFmpeg's loudness filter returns 192 kHz, whatever went in.
#
# Guess:    a filter that sets the loudness leaves the sampling rate as it is; ebur128, which measures the same, does.
# Versions: av 18.1.0 (its own FFmpeg 8 libraries), numpy 2.3.5
# Instead:  16,000 samples at 16 kHz become 192,000 at 192 kHz (it upsamples to see true peaks and does not come back).
#           Written with the rate of the input, the sound is twelve times slower; written as it is, the corpus is twelve
#           times as large, and the model's own resampling meets a new rate.
# Means:    "normalised to -16 LUFS" corpora have 192 kHz files, or wrong durations where the rate was taken from the
#           input stream. Put aresample behind loudnorm and read the rate from the frames.
# Seen:     2026-11-30
#           ebur128: 80000 samples at 16000 Hz in, 80000 at [16000] out
#           loudnorm: 80000 samples at 16000 Hz in, 960000 at [192000] out
#           ebur128: 240000 samples at 48000 Hz in, 240000 at [48000] out
#           loudnorm: 240000 samples at 48000 Hz in, 960000 at [192000] out
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet av==18.1.0 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
from fractions import Fraction

import av
import numpy as np

seen = {}
for rate in (16000, 48000):
    for name in ("ebur128", "loudnorm"):
        wave = 0.05 * np.random.default_rng(0).standard_normal((1, 5 * rate))
        graph = av.filter.Graph()
        source = graph.add_abuffer(format="dblp", sample_rate=rate, layout="mono", time_base=Fraction(1, rate))
        middle, sink = graph.add(name), graph.add("abuffersink")
        source.link_to(middle)
        middle.link_to(sink)
        graph.configure()
        samples, rates = 0, set()
        for start in [*range(0, wave.shape[1], 1600), None]:
            frame = None
            if start is not None:
                frame = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(wave[:, start : start + 1600]), format="dblp", layout="mono"
                )
                frame.sample_rate, frame.pts = rate, start
            source.push(frame)
            while True:
                try:
                    out = sink.pull()
                except (av.error.BlockingIOError, av.error.EOFError):
                    break
                samples, rates = samples + out.samples, rates | {out.sample_rate}
        seen[name, rate] = samples, rates
        print(f"{name}: {wave.shape[1]} samples at {rate} Hz in, {samples} at {sorted(rates)} out")
ends = [
    seen["loudnorm", rate] == (5 * 192000, {192000}) and seen["ebur128", rate] == (5 * rate, {rate})
    for rate in (16000, 48000)
]
raise SystemExit(0 if all(ends) else 1)
PY
