#!/usr/bin/env bash
# A FLAC stream that does not say how long it is cannot be read by soundfile, which takes it for 18 million years.
#
# Guess:    the number of samples in the header is optional in FLAC (0 is "unknown", what an encoder writes into a pipe), so a
#           reader reads on to the end, as it does with a WAV file from a pipe.
# Versions: soundfile 0.14.0 (bundled libsndfile 1.2.2), av 18.1.0 (its own FFmpeg 8 libraries), mutagen 1.48.1, numpy 2.3.5
# Instead:  info.frames is 2**63 - 1, read() raises about an array too big, blocks() raises from libsndfile. mutagen says 0 s.
#           read(n) of an open file works. PyAV decodes all of it and gives no duration.
# Means:    a corpus of streamed FLAC looks broken to one tool, empty to another, and endless to a filter by length; it is neither.
#           Write it once more to a file that can be sought in.
# Seen:     2026-11-30
#           file.flac: soundfile says 32000, read() 32000, blocks() 32000, read(20000) 20000; mutagen 2.0; PyAV all samples, duration 2000000
#           stream.flac: soundfile says 9223372036854775807, read() ValueError, blocks() LibsndfileError, read(20000) 20000; mutagen 0.0; PyAV all samples, duration None
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet soundfile==0.14.0 av==18.1.0 mutagen==1.48.1 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import av
import mutagen.flac
import numpy as np
import soundfile

noise = (3000 * np.random.default_rng(0).standard_normal(32_000)).astype("int16")


class Pipe:
    """A place to write to that cannot go back, as a pipe."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> int:
        self.data += bytes(data)
        return len(data)


def encoded(file) -> None:
    with av.open(file, "w", format="flac") as output:
        stream = output.add_stream("flac", rate=16_000, layout="mono")
        for start in range(0, len(noise), 4_000):
            frame = av.AudioFrame.from_ndarray(noise[None, start : start + 4_000], format="s16", layout="mono")
            frame.sample_rate, frame.pts = 16_000, start
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


pipe = Pipe()
encoded(pipe)
with open("stream.flac", "wb") as file:
    file.write(pipe.data)
encoded("file.flac")


def tried(action) -> str:
    try:
        return str(action())
    except Exception as error:
        return type(error).__name__


def part(path: str) -> int:
    with soundfile.SoundFile(path) as file:
        return int(np.array_equal(file.read(20_000, dtype="int16"), noise[:20_000])) * 20_000


def decoded(path: str) -> str:
    with av.open(path) as file:
        same = np.array_equal(np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)]), noise)
        return f"{'all' if same else 'other'} samples, duration {file.duration}"


seen = {}
for path in ("file.flac", "stream.flac"):
    seen[path] = [
        tried(lambda: soundfile.info(path).frames),
        tried(lambda: len(soundfile.read(path)[0])),
        tried(lambda: sum(map(len, soundfile.blocks(path, blocksize=4_000)))),
        tried(lambda: part(path)),
        tried(lambda: mutagen.flac.FLAC(path).info.length),
        tried(lambda: decoded(path)),
    ]
    told = "{}: soundfile says {}, read() {}, blocks() {}, read(20000) {}; mutagen {}; PyAV {}"
    print(told.format(path, *seen[path]))
raise SystemExit(
    0
    if seen["file.flac"] == ["32000", "32000", "32000", "20000", "2.0", "all samples, duration 2000000"]
    and seen["stream.flac"][:3] == [str(2**63 - 1), "ValueError", "LibsndfileError"]
    and seen["stream.flac"][5] == "all samples, duration None"
    else 1
)
PY
