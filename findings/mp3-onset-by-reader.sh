#!/usr/bin/env bash
# Four readers of one MP3 with a proper header put its sound at three different times.
#
# Guess:    the LAME header says how many samples of encoder delay to drop, so sample n is sample n in every reader.
# Versions: soundfile 0.14.0, miniaudio 1.71, pedalboard 0.9.26, praat-parselmouth 0.4.7, numpy 2.3.5, scipy 1.16.3
# Instead:  soundfile and miniaudio drop the delay. pedalboard keeps it: 1,105 samples late, 1,555 too many. Praat is
#           later still, 1,632 samples (37 ms at 44.1 kHz) with 930 too many. All four agree on WAV and FLAC of the same
#           signal.
# Means:    intervals annotated in Praat on MP3 files are 37 ms off in the training code that reads the same files, and
#           data that pedalboard augments is 25 ms off its labels. Decode MP3 once, to WAV or FLAC, before anybody
#           annotates.
# Seen:     2026-11-30
#           same.mp3  soundfile      0 samples too many,    0 late (0.0000 s)
#           same.mp3  miniaudio      0 samples too many,    0 late (0.0000 s)
#           same.mp3  pedalboard  1555 samples too many, 1105 late (0.0251 s)
#           same.mp3  Praat        930 samples too many, 1632 late (0.0370 s)
#           same.flac soundfile      0 samples too many,    0 late (0.0000 s)
#           same.flac miniaudio      0 samples too many,    0 late (0.0000 s)
#           same.flac pedalboard     0 samples too many,    0 late (0.0000 s)
#           same.flac Praat          0 samples too many,    0 late (0.0000 s)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet soundfile==0.14.0 pedalboard==0.9.26 miniaudio==1.71 praat-parselmouth==0.4.7 numpy==2.3.5 scipy==1.16.3
cd "$work"
venv/bin/python - <<'PY'
import miniaudio
import numpy as np
import parselmouth
import soundfile as sf
from pedalboard.io import AudioFile
from scipy.signal import butter, correlate, sosfilt

rate = 44100
wave = sosfilt(
    butter(4, [300, 3000], "band", fs=rate, output="sos"), np.random.default_rng(0).standard_normal(2 * rate + 101)
)
wave /= 2 * np.abs(wave).max()


def small(path):
    options = {"output_format": miniaudio.SampleFormat.FLOAT32, "nchannels": 1, "sample_rate": rate}
    return np.frombuffer(miniaudio.decode_file(path, **options).samples, np.float32)


readers = {
    "soundfile": lambda path: sf.read(path)[0],
    "miniaudio": small,
    "pedalboard": lambda path: AudioFile(path).read(10**7)[0],
    "Praat": lambda path: parselmouth.Sound(path).values[0],
}
late = {}
for path in ("same.mp3", "same.flac"):
    sf.write(path, wave, rate)
    for name, read in readers.items():
        back = read(path)
        late[name, path] = int(np.argmax(correlate(back, wave, "full"))) - (len(wave) - 1)
        print(
            f"{path:9} {name:10} {len(back) - len(wave):5} samples too many, {late[name, path]:4} late "
            f"({late[name, path] / rate:.4f} s)"
        )
exact = [late[name, "same.flac"] for name in readers] == [0] * 4
raise SystemExit(0 if exact and [late[name, "same.mp3"] for name in readers] == [0, 0, 1105, 1632] else 1)
PY
