#!/usr/bin/env bash
# ONNX Runtime's quantizer sets up logging for the whole program: lines of other libraries appear, some of them twice.
#
# Guess:    a function that quantizes a model leaves the program's logging as it was.
# Versions: onnx 1.23.2, onnxruntime 1.32.0, numpy 2.3.5
# Instead:  quantize_dynamic gives its advice with logging.warning, a function of Python's that gives the root logger a
#           handler where it has none. The handler stays: a later logging.basicConfig(level=INFO) of the program does
#           nothing, so its own lines are missing, and a library with a handler of its own says everything twice.
# Means:    a service that sets up its log after loading models logs nothing of its own. Set up logging before, or give
#           the root logger a logging.NullHandler while quantizing.
# Seen:     2026-11-30
#           handlers of the root logger before: 0, after: 1
#           the program's line after basicConfig(level=INFO): missing
#           a line of a library with its own handler: 2 times
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet onnx==1.23.2 onnxruntime==1.32.0 numpy==2.3.5
cd "$work"
cat > script.py <<'PY'
import logging
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic

graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "w"], ["y"])],
    "graph",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64])],
    [numpy_helper.from_array(np.eye(64, dtype=np.float32), "w")],
)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), "model.onnx")
before = len(logging.getLogger().handlers)
quantize_dynamic("model.onnx", "eight_bits.onnx")
print(f"handlers of the root logger before: {before}, after: {len(logging.getLogger().handlers)}", flush=True)
logging.basicConfig(level=logging.INFO)
logging.getLogger("program").info("line of the program")
library = logging.getLogger("library")
library.addHandler(logging.StreamHandler())
library.warning("line of the library")
PY
venv/bin/python script.py > out.txt 2> log.txt
cat out.txt
if grep -q "line of the program" log.txt; then said=there; else said=missing; fi
times=$(grep -c "line of the library" log.txt)
echo "the program's line after basicConfig(level=INFO): $said"
echo "a line of a library with its own handler: $times times"
grep -q "before: 0, after: 1" out.txt && [ "$said" = missing ] && [ "$times" = 2 ]
