#!/usr/bin/env bash
# A seeded espeak-ng says a sentence differently each time, with some voices such as Reed.
#
# Guess:    after espeak_ng_SetRandSeed(1), and with the library loaded anew, the same text and voice give the same samples:
#           the seed is there for that.
# Versions: espeakng-loader 0.2.4 (espeak-ng 1.52), Python's ctypes, Linux
# Instead:  the noise of Reed's breath comes from C's own rand(), which neither the seed nor unloading resets. It goes on
#           through the process, so the samples depend on what was said before. With srand(1) before each they are equal.
# Means:    a synthetic corpus differs when it is made in another order, in parts, or resumed. Few voices do it, so a test
#           with the default voice passes.
# Seen:     2026-11-30
#           different recordings of 3: {'en': 1, 'en+f2': 1, 'en+klatt4': 1, 'en+Reed': 3}; of Reed with srand(1) before each: 1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet espeakng-loader==0.2.4
cd "$work"
venv/bin/python - <<'PY'
import _ctypes
import ctypes
import hashlib
import os

import espeakng_loader

CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


def say(voice: bytes, srand: bool = False) -> str:
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    library.espeak_Initialize(2, 0, os.fsencode(os.path.relpath(espeakng_loader.get_data_path())), 0x8000)
    library.espeak_ng_SetRandSeed(ctypes.c_long(1))
    if srand:
        ctypes.CDLL(None).srand(1)
    pieces = []

    @CALLBACK
    def collect(samples, count, _):
        if samples and count > 0:
            pieces.append(ctypes.string_at(samples, 2 * count))
        return 0

    library.espeak_SetSynthCallback(collect)
    library.espeak_SetVoiceByName(voice)
    text = b"the kettle is over there\0"
    library.espeak_Synth(text, ctypes.c_size_t(len(text)), 0, 1, 0, 1, None, None)
    library.espeak_Terminate()
    _ctypes.dlclose(library._handle)
    return hashlib.sha256(b"".join(pieces)).hexdigest()


found = {voice: len({say(voice.encode()) for _ in range(3)}) for voice in ("en", "en+f2", "en+klatt4", "en+Reed")}
seeded = len({say(b"en+Reed", srand=True) for _ in range(3)})
print(f"different recordings of 3: {found}; of Reed with srand(1) before each: {seeded}")
raise SystemExit(0 if found["en"] == 1 and found["en+Reed"] == 3 and seeded == 1 else 1)
PY
