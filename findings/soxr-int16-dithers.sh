#!/usr/bin/env bash
# soxr.resample on int16 turns digital silence into noise.
#
# Guess:    zeros resampled are zeros, and int16 in, int16 out is the float result rounded.
# Versions: soxr 1.1.0, numpy 2.3.5
# Instead:  integer output is dithered: silence comes back as -1, 0 and 1, and about half of the samples of any signal
#           differ from the rounded float result. The same call gives the same noise, so a repeated run does not show
#           it.
# Means:    tests for exact silence ("all samples 0", peak 0, run of zeros at the ends) fail after resampling; files of
#           silence do not compress any more; int16 and float32 paths give different features. Resample in float32 and
#           round yourself.
# Seen:     2026-11-30
#           silence: values [-1  0  1], not zero 23%
#           noise: 34% of the samples differ from the rounded float result; repeated: same True
#           float32 silence: values [0.]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet soxr==1.1.0 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
import soxr

silence = soxr.resample(np.zeros(44100, np.int16), 44100, 16000)
quiet = (100 * np.random.default_rng(0).standard_normal(44100)).astype(np.int16)
whole = soxr.resample(quiet, 44100, 16000)
rounded = np.round(soxr.resample(quiet.astype(np.float64), 44100, 16000))
again = soxr.resample(quiet, 44100, 16000)
print(f"silence: values {np.unique(silence)}, not zero {np.mean(silence != 0):.0%}")
differ = f"{np.mean(whole != rounded):.0%} of the samples differ from the rounded float result"
print(f"noise: {differ}; repeated: same {np.array_equal(whole, again)}")
zeros = soxr.resample(np.zeros(44100, np.float32), 44100, 16000)
print(f"float32 silence: values {np.unique(zeros)}")
raise SystemExit(0 if np.any(silence) and np.mean(whole != rounded) > 0.2 and not np.any(zeros) else 1)
PY
