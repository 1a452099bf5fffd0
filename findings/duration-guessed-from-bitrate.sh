#!/usr/bin/env bash
# A minute of AAC in its plain container lasts 37 minutes by its stated duration, and an MP3 five, if they begin with silence.
#
# Guess:    the duration that the container states is right to within a frame or a per cent.
# Versions: av 18.1.0 (its own FFmpeg 8 libraries), mutagen 1.48.1, numpy 2.3.5
# Instead:  .aac (ADTS) and MP3 without a Xing header state no length. FFmpeg divides the size by the bitrate of the first frames,
#           and silence is small: 60 s of which 20 are silent are 2,237 s as AAC and 318 s as MP3 of average bitrate. mutagen
#           guesses alike. All decode to 60 s.
# Means:    filters by length, totals of hours and sorting into buckets by length are wrong by factors for recordings that begin
#           quietly, as recordings do; with two tools that agree on the wrong number. Decode, or count packets.
# Seen:     2026-11-30
#           AAC in ADTS: PyAV states 2236.7 s, mutagen 2287.6; packets add up to 60.1, decoded 60.1
#           MP3 without Xing: PyAV states 317.9 s, mutagen 317.9; packets add up to 60.1, decoded 60.1
#           AAC in MP4: PyAV states 60.0 s, mutagen 60.1; packets add up to 60.1, decoded 60.0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet av==18.1.0 mutagen==1.48.1 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import av
import mutagen.aac
import mutagen.mp3
import numpy as np

rate, random = 16_000, np.random.default_rng(0)
wave = np.convolve(random.standard_normal(60 * rate), np.ones(8) / 8, "same").astype("float32") / 4
wave[: 20 * rate] = 0


def written(path: str, codec: str, container: str, options: dict, wrapping: dict) -> None:
    with av.open(path, "w", format=container, options=wrapping) as output:
        stream = output.add_stream(codec, rate=rate, layout="mono", options=options)
        resampler = av.AudioResampler(stream.codec_context.format.name, "mono", rate, frame_size=stream.codec_context.frame_size)
        whole = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        whole.sample_rate, whole.pts = rate, 0
        for frame in [*resampler.resample(whole), *resampler.resample(None), None]:
            output.mux(stream.encode(frame))


def lengths(path: str, tags) -> tuple[float, float, float, float]:
    with av.open(path) as file:
        stated = file.duration / av.time_base
        packets = sum(packet.duration * packet.time_base for packet in file.demux(audio=0) if packet.duration)
    with av.open(path) as file:
        decoded = sum(frame.samples for frame in file.decode(audio=0)) / rate
    return stated, tags(path).info.length, float(packets), decoded


written("clip.aac", "aac", "adts", {}, {})
written("clip.mp3", "libmp3lame", "mp3", {"abr": "1", "b": "64k"}, {"write_xing": "0"})
written("clip.m4a", "aac", "mp4", {}, {})
seen = [
    lengths("clip.aac", mutagen.aac.AAC), lengths("clip.mp3", mutagen.mp3.MP3), lengths("clip.m4a", mutagen.File)
]
for name, (stated, tagged, packets, decoded) in zip(("AAC in ADTS", "MP3 without Xing", "AAC in MP4"), seen, strict=True):
    print(f"{name}: PyAV states {stated:.1f} s, mutagen {tagged:.1f}; packets add up to {packets:.1f}, decoded {decoded:.1f}")
right = all(abs(value - 60) < 0.2 for row in seen for value in row[2:]) and all(abs(value - 60) < 0.2 for value in seen[2])
raise SystemExit(0 if right and seen[0][0] > 600 and seen[1][0] > 180 and seen[1][1] > 180 else 1)
PY
