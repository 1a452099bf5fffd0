#!/usr/bin/env bash
# Two ways of the zstandard package to read a .zst file return half of it, two others all of it.
#
# Guess:    a file of several frames (appended to, or made by a parallel compressor) is read whole by each of them, as
#           .gz files of several members are, or fails.
# Versions: zstandard 0.25.0
# Instead:  decompress() and read_to_iter() return the first frame and say nothing; stream_reader() with its default and
#           copy_stream() and open() read on.
# Means:    a corpus shard that was appended to or made with pzstd loses everything behind its first frame by the
#           convenient call. Count lines against a second reader once, or use open().
# Seen:     2026-11-30
#           1000 lines written; decompress 500, read_to_iter 500, stream_reader 1000, copy_stream 1000, open 1000
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet zstandard==0.25.0
cd "$work"
venv/bin/python - <<'PY'
import io

import zstandard

half = [b"".join(b"line %d\n" % number for number in range(start, start + 500)) for start in (0, 500)]
data = b"".join(zstandard.ZstdCompressor().compress(part) for part in half)
open("lines.zst", "wb").write(data)
unpack = zstandard.ZstdDecompressor
copied = io.BytesIO()
unpack().copy_stream(io.BytesIO(data), copied)
found = {
    "decompress": unpack().decompress(data),
    "read_to_iter": b"".join(unpack().read_to_iter(io.BytesIO(data))),
    "stream_reader": unpack().stream_reader(io.BytesIO(data)).read(),
    "copy_stream": copied.getvalue(),
    "open": zstandard.open("lines.zst", "rb").read(),
}
counts = {name: text.count(b"\n") for name, text in found.items()}
print("1000 lines written;", ", ".join(f"{name} {count}" for name, count in counts.items()))
raise SystemExit(0 if list(counts.values()) == [500, 500, 1000, 1000, 1000] else 1)
PY
