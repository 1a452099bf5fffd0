#!/usr/bin/env bash
# A model that onnx saves again in another folder grows: the new weights go behind the old ones in the data file. In the
# working directory the same call is refused.
#
# Guess:    saving a model with external data to the same two names twice gives the same two files, wherever they are.
# Versions: onnx 1.23.2, numpy 2.3.5
# Instead:  whether the data file is there already is looked up in the working directory, and it is written beside the
#           model. Where these are the same folder, the second save is an error. Where they are not, the weights are
#           appended, the model points behind them, and those of the save before stay in the file and belong to nothing.
# Means:    an export that runs every night into one folder fills the disk, and two exports of the same weights have
#           different digests. Remove the data file first, or save into an empty folder and rename that.
# Seen:     2026-11-30
#           save 1: weights.data 262144 bytes, the first weight at byte 0
#           save 2: weights.data 524288 bytes, the first weight at byte 262144
#           save 3: weights.data 786432 bytes, the first weight at byte 524288
#           model files alike: False; weights read back alike: True
#           in the working directory: save 1 is written, save 2 is refused (FileExistsError)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet onnx==1.23.2 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

values = np.arange(256 * 256, dtype=np.float32).reshape(256, 256)
sizes, models = [], []
folder = Path("exports")
folder.mkdir()


def save(folder: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 256])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 256])],
        [numpy_helper.from_array(values, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="weights.data")


for number in range(1, 4):
    save(folder)
    (weights,) = onnx.load(folder / "model.onnx", load_external_data=False).graph.initializer
    place = {one.key: one.value for one in weights.external_data}
    sizes.append((folder / "weights.data").stat().st_size)
    models.append((folder / "model.onnx").read_bytes())
    print(f"save {number}: weights.data {sizes[-1]} bytes, the first weight at byte {place.get('offset', 0)}")
alike = models[0] == models[2]
same = np.array_equal(numpy_helper.to_array(onnx.load(folder / "model.onnx").graph.initializer[0]), values)
print(f"model files alike: {alike}; weights read back alike: {same}")
save(Path())
try:
    save(Path())
    refused = None
except FileExistsError as error:
    refused = type(error).__name__
print(f"in the working directory: save 1 is written, save 2 is {f'refused ({refused})' if refused else 'written'}")
raise SystemExit(0 if refused and sizes == [values.nbytes, 2 * values.nbytes, 3 * values.nbytes] and same and not alike else 1)
PY
