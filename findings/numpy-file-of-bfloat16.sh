#!/usr/bin/env bash
# numpy writes arrays of bfloat16 and float8 without complaint and reads back raw bytes, or nothing.
#
# Guess:    np.save either keeps the type or refuses it; np.load of what np.save wrote gives the array again.
# Versions: ml_dtypes 0.6.0, numpy 2.3.5, safetensors 0.8.0
# Instead:  bfloat16 loads as "V2", two opaque bytes, also with ml_dtypes imported; float8_e4m3fn as "V1". float8_e5m2
#           is written as "<f1", which np.load refuses. No warning at any write. safetensors.numpy keeps bfloat16;
#           float8 it writes as well, and cannot read itself.
# Means:    embeddings saved from JAX or with ml_dtypes in half the size or less can be read only by who knows the type.
#           Save a uint8 or uint16 view with the name beside it; safetensors is right for bfloat16 alone.
# Seen:     2026-11-30
#           bfloat16: .npy gives |V2; safetensors gives bfloat16
#           float8_e4m3fn: .npy gives |V1; safetensors gives AttributeError: module 'numpy' has no attribute 'float8_e4m3fn'
#           float8_e5m2: .npy gives ValueError: descr is not a valid dtype descriptor: '<f1'; safetensors gives AttributeError: module 'numpy' has no attribute 'float8_e5m2'
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet ml_dtypes==0.6.0 numpy==2.3.5 safetensors==0.8.0
cd "$work"
venv/bin/python - <<'PY'
import ml_dtypes
import numpy as np
from safetensors.numpy import load_file, save_file


def attempt(load):
    try:
        return str(load().dtype)
    except (ValueError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"


kept = {}
for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
    values = np.array([1.5, 2, 3], getattr(ml_dtypes, name))
    np.save("values.npy", values)
    save_file({"values": values}, "values.safetensors")
    kept[name] = attempt(lambda: np.load("values.npy")), attempt(lambda: load_file("values.safetensors")["values"])
    print(f"{name}: .npy gives {kept[name][0]}; safetensors gives {kept[name][1]}")
right = kept["bfloat16"] == ("|V2", "bfloat16") and kept["float8_e4m3fn"][0] == "|V1"
raise SystemExit(
    0 if right and "ValueError" in kept["float8_e5m2"][0] and "AttributeError" in kept["float8_e5m2"][1] else 1
)
PY
