#!/usr/bin/env bash
# ONNX Runtime Extensions' AudioDecoder returns stereo interleaved, resamples it so, and hardly filters.
#
# Guess:    the operator that speech models are exported with decodes as the training code does: a row a channel, a
#           proper low pass before downsampling, MP3 without the encoder's delay.
# Versions: onnxruntime-extensions 0.15.2, onnxruntime 1.32.0, onnx 1.23.2, soundfile 0.14.0, numpy 2.3.5
# Instead:  a second of stereo is one row of 88,200 numbers, left and right by turns. With downsampling_rate that row is
#           resampled as if it were one signal, so each output sample is a mixture of both channels, of twice the wanted
#           count. At 44.1 to 16 kHz, a tone of 9 kHz comes through at 7 kHz with -6.5 dB, one of 12 kHz at 4 kHz with
#           -20 dB, and 7 kHz itself has lost 1 dB. An MP3 is 3,132 samples longer than it was.
# Means:    the exported model is fed other audio than the trained one: half speed for stereo, aliases in sibilants for
#           the rest. Set stereo_to_mono, and hand the graph audio that is already at its rate.
# Seen:     2026-11-30
#           stereo of +0.5 and -0.5: shape (1, 88200), first values [0.5, -0.5, 0.5, -0.5]
#           at 16 kHz: shape (1, 32001), mean of the absolute values 0.000
#           440 Hz to 16 kHz: -0.1 dB
#           7000 Hz to 16 kHz: -1.1 dB
#           9000 Hz to 16 kHz: -6.5 dB
#           12000 Hz to 16 kHz: -20.4 dB
#           MP3 of 44100 samples: 47232
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet onnxruntime-extensions==0.15.2 onnxruntime==1.32.0 onnx==1.23.2 soundfile==0.14.0 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import io

import numpy as np
import onnxruntime
import soundfile as sf
from onnx import TensorProto, helper
from onnxruntime_extensions import get_library_path

rate, time = 44100, np.arange(44100) / 44100


def decode(wave, container="WAV", **options):
    graph = helper.make_graph(
        [helper.make_node("AudioDecoder", ["file", "format"], ["audio"], domain="ai.onnx.contrib", **options)],
        "graph",
        [
            helper.make_tensor_value_info("file", TensorProto.UINT8, [None]),
            helper.make_tensor_value_info("format", TensorProto.STRING, [None]),
        ],
        [helper.make_tensor_value_info("audio", TensorProto.FLOAT, None)],
    )
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.contrib", 1)]
    session_options = onnxruntime.SessionOptions()
    session_options.register_custom_ops_library(get_library_path())
    model = helper.make_model(graph, opset_imports=domains, ir_version=9).SerializeToString()
    session = onnxruntime.InferenceSession(model, session_options, providers=["CPUExecutionProvider"])
    file = io.BytesIO()
    sf.write(file, wave, rate, format=container)
    data = np.frombuffer(file.getvalue(), np.uint8)
    return session.run(None, {"file": data, "format": np.array([container.lower()])})[0]


stereo = np.stack([np.full(rate, 0.5), np.full(rate, -0.5)], 1)
plain, lower = decode(stereo), decode(stereo, downsampling_rate=16000)
print(f"stereo of +0.5 and -0.5: shape {plain.shape}, first values {plain[0, :4].round(2).tolist()}")
print(f"at 16 kHz: shape {lower.shape}, mean of the absolute values {np.abs(lower).mean():.3f}")
levels = {}
for tone in (440, 7000, 9000, 12000):
    out = decode(0.5 * np.sin(2 * np.pi * tone * time), downsampling_rate=16000)[0, 1000:-1000]
    levels[tone] = 20 * np.log10(out.std() / (0.5 / np.sqrt(2)))
    print(f"{tone} Hz to 16 kHz: {levels[tone]:.1f} dB")
mp3 = decode(0.5 * np.sin(2 * np.pi * 440 * time), "MP3").shape[1]
print(f"MP3 of {rate} samples: {mp3}")
raise SystemExit(
    0
    if plain.shape == (1, 2 * rate) and np.abs(lower).mean() < 0.1 and -8 < levels[9000] < -5 and mp3 > rate + 1000
    else 1
)
PY
