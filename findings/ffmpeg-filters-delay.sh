#!/usr/bin/env bash
# FFmpeg's denoisers, limiter and equalisers return as many samples as they got, but late, and the end is lost.
#
# Guess:    a filter that returns exactly as many samples as it was given has compensated its delay.
# Versions: av 18.1.0 (its own FFmpeg 8 libraries), numpy 2.3.5, scipy 1.16.3
# Instead:  at 48 kHz, afftdn (the usual denoiser) is 1,200 samples late (25 ms), anlmdn 384, alimiter 239,
#           dialoguenhance 1,536, afftfilt 3,072, superequalizer 4,095. As many samples of the end are gone. highpass,
#           deesser, adeclick are in time.
# Means:    denoised recordings do not fit their word times, nor their clean twins in training pairs, and no count shows
#           it. Pad the input by that much, cut it off the front of the output, or align by correlation once.
# Seen:     2026-11-30
#           highpass        192000 samples in, 192000 out, 0 late (0.0 ms)
#           deesser         192000 samples in, 192000 out, 0 late (0.0 ms)
#           adeclick        192000 samples in, 192000 out, 0 late (0.0 ms)
#           alimiter        192000 samples in, 192000 out, 239 late (5.0 ms)
#           afftdn          192000 samples in, 192000 out, 1200 late (25.0 ms)
#           anlmdn          192000 samples in, 192000 out, 384 late (8.0 ms)
#           dialoguenhance  192000 samples in, 192000 out, 1536 late (32.0 ms)
#           afftfilt        192000 samples in, 192000 out, 3072 late (64.0 ms)
#           superequalizer  192000 samples in, 192000 out, 4095 late (85.3 ms)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet av==18.1.0 numpy==2.3.5 scipy==1.16.3
cd "$work"
venv/bin/python - <<'PY'
from fractions import Fraction

import av
import numpy as np
from scipy.signal import butter, correlate, sosfilt

rate = 48000
random = np.random.default_rng(0)
wave = sosfilt(butter(4, [300, 3000], "band", fs=rate, output="sos"), random.standard_normal(4 * rate))
wave /= 2.2 * np.abs(wave).max()
wave *= 0.02 + 0.98 * np.repeat(random.integers(0, 2, 4 * rate // 800), 800)


def filtered(name, options):
    graph = av.filter.Graph()
    source = graph.add_abuffer(format="fltp", sample_rate=rate, layout="mono", time_base=Fraction(1, rate))
    middle, sink = graph.add(name, options), graph.add("abuffersink")
    source.link_to(middle)
    middle.link_to(sink)
    graph.configure()
    blocks = []
    for start in [*range(0, len(wave), 1024), None]:
        if start is None:
            source.push(None)
        else:
            samples = wave[None, start : start + 1024].astype(np.float32)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = rate, start
            source.push(frame)
        while True:
            try:
                blocks.append(sink.pull().to_ndarray()[0])
            except (av.error.BlockingIOError, av.error.EOFError):
                break
    return np.concatenate(blocks)


expected = {
    "highpass": 0,
    "deesser": 0,
    "adeclick": 0,
    "alimiter": 239,
    "afftdn": 1200,
    "anlmdn": 384,
    "dialoguenhance": 1536,
    "afftfilt": 3072,
    "superequalizer": 4095,
}
seen = {}
for name in expected:
    back = filtered(name, {"highpass": "f=20", "afftfilt": "real=re:imag=im"}.get(name))
    seen[name] = int(np.argmax(np.abs(correlate(back, wave, "full")))) - (len(wave) - 1)
    print(f"{name:15} {len(wave)} samples in, {len(back)} out, {seen[name]} late ({1000 * seen[name] / rate:.1f} ms)")
raise SystemExit(0 if seen == expected else 1)
PY
