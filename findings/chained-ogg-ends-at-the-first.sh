#!/usr/bin/env bash
# An Ogg file of several links, as radio recorders and "cat" make it, is read to the end of the first link by soundfile.
#
# Guess:    Ogg allows streams one after another in a file (chaining), so each reader gives the whole and says how long it is.
# Versions: soundfile 0.14.0 (bundled libsndfile 1.2.2), av 18.1.0 (its own FFmpeg 8 libraries), mutagen 1.48.1, numpy 2.3.5
# Instead:  2 s and 1 s, joined: soundfile says and reads 2 s, without a word. PyAV decodes 3 s (48256 samples for Vorbis: the
#           second link is not trimmed) and says that the duration is 1 s, that of the last link; mutagen says 2 s. None raises.
# Means:    of a day of recorded radio the first programme is left, and a filter by duration sees the last. Count decoded samples,
#           and take the links apart before storing.
# Seen:     2026-11-30
#           VORBIS, 2 s and 1 s: soundfile says 2.00 s and reads 2.00, PyAV says 1.00 and decodes 3.02, mutagen says 2.00
#           OPUS, 2 s and 1 s: soundfile says 2.00 s and reads 2.00, PyAV says 1.01 and decodes 3.00, mutagen says 2.00
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet soundfile==0.14.0 av==18.1.0 mutagen==1.48.1 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import av
import numpy as np
import soundfile
from mutagen.oggopus import OggOpus
from mutagen.oggvorbis import OggVorbis

noise = 0.1 * np.random.default_rng(0).standard_normal(32_000).astype("float32")
seen = {}
for codec, tags in (("VORBIS", OggVorbis), ("OPUS", OggOpus)):
    with open(f"{codec}.ogg", "wb") as chain:
        for size in (32_000, 16_000):
            soundfile.write("link.ogg", noise[:size], 16_000, format="OGG", subtype=codec)
            with open("link.ogg", "rb") as link:
                chain.write(link.read())
    said, read = soundfile.info(chain.name).duration, len(soundfile.read(chain.name)[0]) / 16_000
    with av.open(chain.name) as file:
        container = file.duration / av.time_base
        decoded = sum(frame.samples / frame.sample_rate for frame in file.decode(audio=0))
    tagged = tags(chain.name).info.length
    seen[codec] = [round(value, 1) for value in (said, read, container, decoded, tagged)]
    print(
        f"{codec}, 2 s and 1 s: soundfile says {said:.2f} s and reads {read:.2f}, "
        f"PyAV says {container:.2f} and decodes {decoded:.2f}, mutagen says {tagged:.2f}"
    )
raise SystemExit(0 if all(values == [2.0, 2.0, 1.0, 3.0, values[4]] for values in seen.values()) else 1)
PY
