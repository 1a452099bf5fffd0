#!/usr/bin/env bash
# FLAC, ALAC and TTA written by FFmpeg from 32-bit samples lose the last eight bits, and come back as 32-bit samples.
#
# Guess:    a lossless codec that is given 32-bit integers keeps them, or refuses what it cannot keep.
# Versions: av 18.1.0 (its own FFmpeg 8 libraries), numpy 2.3.5
# Instead:  the encoders take the format s32, code 24 bits of it, and the decoder gives s32 again with zeros below: differences up
#           to 255. WavPack and 32-bit WAV are exact. Only the stream's bits_per_raw_sample would tell. No error, no warning.
# Means:    "compress losslessly, verify by number of samples and format" passes, checksums of the samples do not; fine for sound,
#           not for sensor data, for float audio scaled to 32 bits with a small level (a level of -90 dB keeps 9 bits), nor for
#           integers that mean something else. Compare samples once, or use WavPack.
# Seen:     2026-11-30
#           flac: written s32, read s32, 48000 samples, largest difference 255
#           alac: written s32p, read s32p, 48000 samples, largest difference 255
#           tta: written s32, read s32, 48000 samples, largest difference 255
#           wavpack: written s32p, read s32p, 48000 samples, largest difference 0
#           pcm_s32le: written s32, read s32, 48000 samples, largest difference 0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet av==18.1.0 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import av
import numpy as np

sound = np.random.default_rng(0).integers(-(2**31), 2**31, 48_000).astype("int32")
seen = {}
for codec, container, number in (
    ("flac", "flac", "s32"),
    ("alac", "mov", "s32p"),
    ("tta", "tta", "s32"),
    ("wavpack", "wv", "s32p"),
    ("pcm_s32le", "wav", "s32"),
):
    path = f"sound.{container}"
    with av.open(path, "w", format=container) as file:
        stream = file.add_stream(codec, rate=48_000, layout="mono")
        stream.codec_context.format = number
        whole = av.AudioFrame.from_ndarray(sound[None], format=number, layout="mono")
        whole.sample_rate, whole.pts = 48_000, 0
        resampler = av.AudioResampler(number, "mono", 48_000, frame_size=stream.codec_context.frame_size or 0)
        for frame in [*resampler.resample(whole), *resampler.resample(None), None]:
            file.mux(stream.encode(frame))
    with av.open(path) as file:
        frames = list(file.decode(audio=0))
    back = np.concatenate([frame.to_ndarray().ravel() for frame in frames])
    seen[codec] = int(np.abs(back[:48_000].astype("int64") - sound).max())
    print(f"{codec}: written {number}, read {frames[0].format.name}, {len(back)} samples, largest difference {seen[codec]}")
raise SystemExit(0 if seen == {"flac": 255, "alac": 255, "tta": 255, "wavpack": 0, "pcm_s32le": 0} else 1)
PY
