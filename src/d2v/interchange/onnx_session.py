"""An encoder that onnxruntime computes, in float32 or with weights of eight bits.

Of linear layers in eight bits the weights are rounded once, channel by channel, and what goes in is rounded as it comes
("dynamic" quantization); everything else stays float32.

Shapes: B items, T tokens, E extra tokens, D width.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from d2v.data.batch import Inputs
from d2v.errors import ConfigError
from d2v.interchange.encoder_export import Graph, export_onnx
from d2v.models.encoder import Encoded, Encoder

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INSTALL = "pip install 'd2v[interchange]'"
OUTPUTS = {"tokens": "(items, tokens, width)", "extra": "(items, extra tokens, width)"}


class _Tokens(nn.Module):
    """What a graph returns: final features of tokens, and of extra tokens where there are some."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, ...]:
        encoded = self.encoder.encode(self.encoder.stem(inputs), self.encoder.token_lengths(lengths))
        return (encoded.tokens, encoded.extra) if self.encoder.num_extra else (encoded.tokens,)


class OnnxSession:
    """The same encoder as a graph of onnxruntime on the CPU. Building it takes some ten seconds.

    Args:
        encoder: in evaluation mode, float32, on the CPU.
        about: contents of its config.json.
        weights: `float32`, or `int8` for linear layers in eight bits.

    Raises:
        ConfigError: a package is missing.
    """

    def __init__(self, encoder: Encoder, about: Mapping[str, Any], weights: Literal["float32", "int8"]) -> None:
        missing = [package for package in PACKAGES if find_spec(package) is None]
        if missing:
            raise ConfigError(f"runtime onnxruntime needs {', '.join(missing)}, not installed here: {INSTALL}")
        import onnx
        import onnxruntime

        outputs = OUTPUTS if encoder.num_extra else {"tokens": OUTPUTS["tokens"]}
        model = export_onnx(Graph(_Tokens(encoder).eval(), outputs), about)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "encoder.onnx"
            onnx.save(model, path, save_as_external_data=True)
            if weights == "int8":
                path = _in_eight_bits(path)
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._inputs = {
            value.name for value in self._session.get_inputs() + self._session.get_overridable_initializers()
        }

    def encode(self, inputs: Inputs) -> Encoded:
        """Final features of a batch, as `Encoder.encode` gives them."""
        given = {"inputs": inputs.values.numpy()}
        if inputs.lengths is not None and "lengths" in self._inputs:
            given["lengths"] = inputs.lengths.numpy()
        tokens_BTD, *extra = (torch.from_numpy(found) for found in self._session.run(None, given))
        return Encoded(tokens_BTD, extra[0] if extra else tokens_BTD[:, :0], [])


def _in_eight_bits(path: Path) -> Path:
    import logging

    from onnxruntime.quantization import QuantType, quantize_dynamic

    target = path.with_name("int8.onnx")
    root, silent = logging.getLogger(), logging.NullHandler()
    before = root.disabled
    root.addHandler(silent)  # the quantizer's advice would give a root logger without handlers one that stays
    root.disabled = True
    try:
        quantize_dynamic(
            path,
            target,
            weight_type=QuantType.QUInt8 if _sums_overflow() else QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["MatMul", "Gemm"],
            use_external_data_format=True,
            extra_options={"MatMulConstBOnly": True},
        )
    finally:
        root.disabled = before
        root.removeHandler(silent)
    return target


def _sums_overflow() -> bool:
    """Whether the processor adds products of signed with unsigned bytes in 16 bits, which are too few: x86 before VNNI.
    Errors are eight times as large there (0.09 to 0.11 of the features, 0.012 to 0.014 with unsigned weights)."""
    found = torch.cpu.get_capabilities()
    return found.get("architecture") == "x86_64" and not (found.get("avx512_vnni") or found.get("avx_vnni"))
