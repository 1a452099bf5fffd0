#!/usr/bin/env bash
# Ogg Vorbis gets nearly three times as loud in ten encodings, Opus less than a third as loud: codecs add more than noise.
#
# Guess:    an encoding more adds noise and dulls the treble; the level stays within a few per cent, and so the errors do not add
#           up.
# Versions: soundfile 0.14.0 (bundled libsndfile 1.2.2), av 18.1.0 (its own FFmpeg 8 libraries), numpy 2.3.5
# Instead:  pink noise at a level of 0.1 is at 2.8 times that after ten Vorbis encodings at soundfile's default quality, at 2.0
#           times after ten of MP3, at 0.3 times after ten of Opus (16 kHz), of which one alone takes 16 %. A harmonic, voice-like
#           sound stays within 9 %. FFmpeg decodes the last file to the same level, so it is in the encoders' bits. Length and place
#           stay exact.
# Means:    clips that were stored, cut and stored again (crawls, annotation tools, cached augmentations) carry the number of
#           encodings in their level, which a model can learn for a label, and noisy sounds clip at the peaks. Keep FLAC between
#           steps.
# Seen:     2026-11-30
#           pink noise, VORBIS: 1.03 after one, 1.54 after five, 2.81 after ten, 2.81 by FFmpeg
#           pink noise, MPEG_LAYER_III: 1.01 after one, 1.32 after five, 1.97 after ten, 1.97 by FFmpeg
#           pink noise, OPUS: 0.84 after one, 0.43 after five, 0.29 after ten, 0.29 by FFmpeg
#           voice-like, VORBIS: 1.00 after one, 1.02 after five, 1.09 after ten, 1.09 by FFmpeg
#           voice-like, MPEG_LAYER_III: 1.00 after one, 1.00 after five, 1.00 after ten, 1.00 by FFmpeg
#           voice-like, OPUS: 1.00 after one, 0.98 after five, 0.96 after ten, 0.96 by FFmpeg
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
import soundfile

rate = 16_000
random, time = np.random.default_rng(0), np.arange(8 * rate) / rate
spectrum = np.fft.rfft(random.standard_normal(8 * rate))
frequency = np.fft.rfftfreq(8 * rate, 1 / rate)
spectrum[(frequency < 50) | (frequency > 7500)] = 0
spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
pink = np.fft.irfft(spectrum, 8 * rate)
voice = sum(np.sin(2 * np.pi * 120 * k * time + k) / k for k in range(1, 30)) * (0.5 + 0.5 * np.sin(6 * np.pi * time))


def by_ffmpeg(data: bytes) -> float:
    resampler = av.AudioResampler("fltp", "mono")
    with av.open(io.BytesIO(data)) as file:
        parts = [part.to_ndarray()[0] for frame in file.decode(audio=0) for part in resampler.resample(frame)]
    return float(np.concatenate(parts).std())


def levels(sound, **codec) -> tuple[float, ...]:
    start = sound = (0.1 * sound / sound.std()).astype("float32")
    found = []
    for _ in range(10):
        file = io.BytesIO()
        soundfile.write(file, sound, rate, **codec)
        sound, _ = soundfile.read(io.BytesIO(file.getvalue()), dtype="float32")
        assert len(sound) == len(start)
        found.append(float(sound.std() / start.std()))
    return found[0], found[4], found[9], by_ffmpeg(file.getvalue()) / float(start.std())


seen = {}
for name, sound in (("pink noise", pink), ("voice-like", voice)):
    for kind, subtype in (("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"), ("OGG", "OPUS")):
        seen[name, subtype] = found = levels(sound, format=kind, subtype=subtype)
        print(
            f"{name}, {subtype}: {found[0]:.2f} after one, {found[1]:.2f} after five, {found[2]:.2f} after ten, "
            f"{found[3]:.2f} by FFmpeg"
        )
pinks = [seen["pink noise", subtype][2] for subtype in ("VORBIS", "MPEG_LAYER_III", "OPUS")]
same = all(abs(found[3] / found[2] - 1) < 0.05 for found in seen.values())
raise SystemExit(0 if pinks[0] > 2 and pinks[1] > 1.4 and pinks[2] < 0.5 and same else 1)
PY
