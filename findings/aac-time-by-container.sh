#!/usr/bin/env bash
# The same compressed packets, copied without recoding into another container, decode to another time.
#
# Guess:    a lossless remux (FFmpeg's "copy") keeps every sample where it was.
# Versions: av 18.1.0 (its own FFmpeg 8 libraries), numpy 2.3.5, scipy 1.16.3
# Instead:  the encoder's delay is not in the packets but in the container: MP4 and Matroska say how much to drop at the
#           start, ADTS (.aac), MPEG-TS and AVI have no place for it. Out of those, the same packets come 1,024 (AAC),
#           1,105 (MP3) or 312 (Opus) samples late, and longer. AAC at 16 kHz: 64 ms, three frames of a 20 ms encoder.
# Means:    time-aligned labels, pairs of recordings, and separated tracks fit in one download format and are shifted in
#           the next. Measure the lag by correlation once for every format that comes in; duration does not show it
#           reliably.
# Seen:     2026-11-30
#           aac        16000 mp4      wrote 32000, read 32768, 0 samples late (0.0 ms)
#           aac        16000 adts     wrote 32000, read 33792, 1024 samples late (64.0 ms)
#           aac        48000 matroska wrote 96000, read 96256, 0 samples late (0.0 ms)
#           aac        48000 mpegts   wrote 96000, read 97280, 1024 samples late (21.3 ms)
#           libmp3lame 48000 mp3      wrote 96000, read 96000, 0 samples late (0.0 ms)
#           libmp3lame 48000 avi      wrote 96000, read 97920, 1105 samples late (23.0 ms)
#           libopus    48000 ogg      wrote 96000, read 96000, 0 samples late (0.0 ms)
#           libopus    48000 mpegts   wrote 96000, read 96960, 312 samples late (6.5 ms)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet av==18.1.0 numpy==2.3.5 scipy==1.16.3
cd "$work"
venv/bin/python - <<'PY'
import io

import av
import numpy as np
from scipy.signal import butter, correlate, sosfilt

random = np.random.default_rng(0)


def encoded(codec, container, wave, rate):
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, layout="mono")
        resampler = av.AudioResampler(
            stream.codec_context.format.name, "mono", rate, frame_size=stream.codec_context.frame_size
        )
        whole = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), format="fltp", layout="mono")
        whole.sample_rate, whole.pts = rate, 0
        for frame in [*resampler.resample(whole), *resampler.resample(None), None]:
            output.mux(stream.encode(frame))
    return file.getvalue()


def copied(data, container):
    file = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(file, "w", format=container) as output:
        stream = output.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
    return file.getvalue()


def decoded(data):
    resampler = av.AudioResampler("fltp", "mono")
    with av.open(io.BytesIO(data)) as source:
        frames = [part for frame in source.decode(audio=0) for part in resampler.resample(frame)]
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])


lags = []
for codec, rate, one, other in (
    ("aac", 16000, "mp4", "adts"),
    ("aac", 48000, "matroska", "mpegts"),
    ("libmp3lame", 48000, "mp3", "avi"),
    ("libopus", 48000, "ogg", "mpegts"),
):
    wave = sosfilt(butter(4, [300, 3000], "band", fs=rate, output="sos"), random.standard_normal(2 * rate))
    wave *= np.repeat(random.integers(0, 2, 2 * rate // 800), 800)[: 2 * rate] / np.abs(wave).max() / 2
    first = encoded(codec, one, wave, rate)
    for container, data in ((one, first), (other, copied(first, other))):
        back = decoded(data)
        lag = int(np.argmax(correlate(back, wave, "full"))) - (len(wave) - 1)
        lags.append(lag)
        print(
            f"{codec:10} {rate} {container:8} wrote {len(wave)}, read {len(back)}, {lag} samples late "
            f"({1000 * lag / rate:.1f} ms)"
        )
raise SystemExit(0 if lags[0::2] == [0] * 4 and lags[1::2] == [1024, 1024, 1105, 312] else 1)
PY
