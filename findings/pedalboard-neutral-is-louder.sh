#!/usr/bin/env bash
# pedalboard's effects at settings that do nothing change the level: the limiter makes a quiet sound five times as loud.
#
# Guess:    a limiter leaves what is under its threshold, a reverb with dry_level=1 and wet_level=0 returns its input, and so does a
#           convolution with a single 1.
# Versions: pedalboard 0.9.26, scipy 1.16.3, numpy 2.3.5
# Instead:  Limiter() multiplies by 4.9 (13.7 dB: a make-up gain that has no parameter) far under its threshold of -10 dB; Reverb's
#           dry level of 1 is a factor of 2; Convolution scales its impulse response, so a single 1 is a factor of 1/8, where
#           scipy's convolve gives 1. Place and length are exact, and Compressor and Chorus at neutral settings are neutral.
# Means:    augmentation with "a bit of reverb" or a limiter "for safety" shifts the level of one part of the data, by a factor that
#           a model can learn; loudness set before is lost. Scale back to the input's level after the board.
# Seen:     2026-11-30
#           Limiter(): 64000 of 64000 samples, level times 4.87
#           Reverb, dry_level 1, wet_level 0: 64000 of 64000 samples, level times 2.0
#           Convolution with a single 1: 64000 of 64000 samples, level times 0.125
#           Compressor(): 64000 of 64000 samples, level times 1.0
#           Chorus, mix 0: 64000 of 64000 samples, level times 1.0
#           scipy's convolve with a single 1: 1.000
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pedalboard==0.9.26 scipy==1.16.3 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
import pedalboard
import scipy.signal

rate = 16_000
sine = (0.01 * np.sin(2 * np.pi * 440 * np.arange(4 * rate) / rate)).astype("float32")
single = np.eye(1, 64, dtype="float32")[0]
effects = {
    "Limiter()": pedalboard.Limiter(),
    "Reverb, dry_level 1, wet_level 0": pedalboard.Reverb(wet_level=0, dry_level=1),
    "Convolution with a single 1": pedalboard.Convolution(single, sample_rate=rate),
    "Compressor()": pedalboard.Compressor(),
    "Chorus, mix 0": pedalboard.Chorus(mix=0),
}
gains = {}
for name, effect in effects.items():
    sound = pedalboard.Pedalboard([effect])(sine, rate)
    gains[name] = round(float(sound[rate:-rate].std() / sine[rate:-rate].std()), 3)
    print(f"{name}: {len(sound)} of {len(sine)} samples, level times {gains[name]}")
other = float(scipy.signal.convolve(sine, single)[: len(sine)].std() / sine.std())
print(f"scipy's convolve with a single 1: {other:.3f}")
limited, dry, convolved, *neutral = gains.values()
raise SystemExit(0 if 4 < limited < 6 and (dry, convolved) == (2, 0.125) and neutral == [1, 1] else 1)
PY
