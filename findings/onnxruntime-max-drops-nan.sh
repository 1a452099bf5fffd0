#!/usr/bin/env bash
# ONNX Runtime's ReduceMax and ReduceMin drop NaN; its Max, Min, Clip and Relu keep it, and so does the reference.
#
# Guess:    the largest of values with a NaN among them is NaN, as in numpy, torch and ONNX's own reference.
# Versions: onnx 1.23.2, onnxruntime 1.32.0 (CPU), numpy 2.3.5
# Instead:  ReduceMax of [1, nan, 3] is 3 and ReduceMin is 1, while Max of the same values by element is NaN. The
#           reference evaluator says NaN for all.
# Means:    max pooling over time hides a model that has gone wrong (overflow in half precision) at deployment: training
#           code shows NaN, the exported model a confident answer. Test exported models on NaN, or add IsNaN to the
#           graph.
# Seen:     2026-11-30
#           ReduceMax: ONNX Runtime [3.0], reference [nan]
#           ReduceMin: ONNX Runtime [1.0], reference [nan]
#           Max: ONNX Runtime [1.0, nan, 3.0], reference [1.0, nan, 3.0]
#           Min: ONNX Runtime [1.0, nan, 3.0], reference [1.0, nan, 3.0]
#           Relu: ONNX Runtime [1.0, nan, 3.0], reference [1.0, nan, 3.0]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet onnx==1.23.2 onnxruntime==1.32.0 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

values = np.array([[1, np.nan, 3]], np.float32)
kept = {}
for operator, feed in (
    ("ReduceMax", ["x"]),
    ("ReduceMin", ["x"]),
    ("Max", ["x", "x"]),
    ("Min", ["x", "x"]),
    ("Relu", ["x"]),
):
    graph = helper.make_graph(
        [helper.make_node(operator, feed, ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    one, other = session.run(None, {"x": values})[0], ReferenceEvaluator(model).run(None, {"x": values})[0]
    kept[operator] = bool(np.isnan(one).any()), bool(np.isnan(other).any())
    print(f"{operator}: ONNX Runtime {one.ravel().tolist()}, reference {other.ravel().tolist()}")
raise SystemExit(
    0
    if [one for one, _ in kept.values()] == [False, False, True, True, True]
    and all(other for _, other in kept.values())
    else 1
)
PY
