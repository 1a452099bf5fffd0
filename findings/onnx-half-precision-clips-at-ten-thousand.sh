#!/usr/bin/env bash
# The converter to half precision clips constants at 10,000, although the type goes to 65,504.
#
# Guess:    weights beyond the range of float16 become its largest value or infinity; those within it are rounded.
# Versions: onnxconverter-common 1.16.0, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.3.5
# Instead:  its defaults are 1e-7 and 1e4: 30000 becomes 10000 and 1e-8 becomes 1e-7, zero stays zero. Its Python
#           warning does not stop it. The copy of the same function inside onnxruntime.transformers keeps 30000 and has
#           5.96e-8 and 65504 as its limits.
# Means:    scale factors of integer audio (32768), sums and position tables are silently cut to a third, and the result
#           depends on which copy a tool imports. Pass min_positive_val=5.96e-8, max_finite_val=65504.
# Seen:     2026-11-30
#           defaults: [30000.0, 32768.0, 9.99999993922529e-09, -1000000000.0, 0.0] -> ['1e+04', '1e+04', '1.19e-07', '-1e+04', '0']
#           {'min_positive_val': 5.96e-08, 'max_finite_val': 65504}: [30000.0, 32768.0, 9.99999993922529e-09, -1000000000.0, 0.0] -> ['3e+04', '3.28e+04', '5.96e-08', '-6.55e+04', '0']
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet onnx==1.23.2 onnxruntime==1.32.0 onnxconverter-common==1.16.0 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import warnings

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxconverter_common import float16

warnings.simplefilter("ignore")
constants = np.array([30000, 32768, 1e-8, -1e9, 0], np.float32)
graph = helper.make_graph(
    [helper.make_node("Mul", ["x", "c"], ["y"])],
    "graph",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [5])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [5])],
    [numpy_helper.from_array(constants, "c")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
seen = []
for options in ({}, {"min_positive_val": 5.96e-8, "max_finite_val": 65504}):
    half = float16.convert_float_to_float16(model, **options)
    session = onnxruntime.InferenceSession(half.SerializeToString(), providers=["CPUExecutionProvider"])
    seen.append(session.run(None, {"x": np.ones(5, np.float16)})[0].astype(np.float32))
    print(f"{options or 'defaults'}: {constants.tolist()} -> {['%.3g' % value for value in seen[-1]]}")
raise SystemExit(0 if seen[0][0] == seen[0][1] == 10000 and seen[1][0] == 30000 and seen[1][1] == 32768 else 1)
PY
