#!/usr/bin/env bash
# librosa's MFCC of a quiet recording depend on the loudest one in the same stack.
#
# Guess:    functions that take a stack of signals (..., n) give for each what they give for it alone, as the mel
#           spectrogram does.
# Versions: librosa 0.11.0, numpy 2.3.5
# Instead:  power_to_db cuts 80 dB below the loudest value of the whole stack. So do mfcc, spectral_contrast and
#           onset_strength, which call it: beside a loud clip, a clip that is 100 dB quieter has the MFCC of silence and
#           no onsets.
# Means:    features change with the batch that a clip happens to be in, and a quiet channel with its neighbour. Compute
#           decibels one signal at a time, or with top_db=None.
# Seen:     2026-11-30
#           melspectrogram: alike
#           mfcc: differ by 684.8, of at most 1123.9
#           spectral_contrast: differ by 18.2, of at most 55.9
#           onset_strength: differ by 0.1, of at most 0.1
#           mfcc of the quiet clip within the stack: 1 different column, alone 32
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet librosa==0.11.0 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import librosa
import numpy as np

rate = 16_000
seconds = np.arange(rate) / rate
tone = np.sin(2 * np.pi * 440 * seconds)
quiet = 1e-5 * tone * (1 + 0.5 * np.sin(2 * np.pi * 3 * seconds))
stack = np.stack([tone, quiet]).astype(np.float32)
differ = {}
for name, function in (
    ("melspectrogram", librosa.feature.melspectrogram),
    ("mfcc", librosa.feature.mfcc),
    ("spectral_contrast", librosa.feature.spectral_contrast),
    ("onset_strength", librosa.onset.onset_strength),
):
    together, alone = function(y=stack, sr=rate)[1], function(y=stack[1], sr=rate)
    differ[name] = not np.allclose(together, alone, atol=1e-9)
    size = f"differ by {np.abs(together - alone).max():.1f}, of at most {np.abs(alone).max():.1f}"
    print(f"{name}: {size if differ[name] else 'alike'}")
columns = [
    len(np.unique(np.round(features, 3), axis=1).T)
    for features in (librosa.feature.mfcc(y=stack, sr=rate)[1], librosa.feature.mfcc(y=stack[1], sr=rate))
]
print(f"mfcc of the quiet clip within the stack: {columns[0]} different column, alone {columns[1]}")
raise SystemExit(0 if [*differ.values()] == [False, True, True, True] and columns[0] == 1 < columns[1] else 1)
PY
