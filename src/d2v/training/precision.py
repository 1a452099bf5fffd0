"""Which number format the matrix products take."""

from __future__ import annotations

from typing import Literal

import torch

from d2v.errors import ConfigError

Precision = Literal["fp32", "bf16"]

_INSTRUCTIONS = {torch.bfloat16: ("avx512_bf16", "amx_bf16"), torch.float16: ("avx512_fp16", "amx_fp16")}
"""Of x86 CPUs, for products of a format: any of these will do."""


def choose_precision(wanted: str, device: torch.device) -> tuple[Precision, str]:
    """The format of the matrix products, and why.

    Parameters, teacher and losses stay in fp32 either way. `auto` takes bf16 wherever the hardware has it. It asks
    for the instructions and does not time them: a timing would choose differently on a busy machine, and the same
    command must train the same model.

    Raises:
        ConfigError: bf16 is asked for on a GPU without it.
    """
    if wanted == "fp32":
        return "fp32", "as the recipe says"
    native, name = _has_bf16(device), "GPU" if device.type == "cuda" else "CPU"
    if wanted == "bf16":
        if device.type == "cuda" and not native:
            raise ConfigError("train.precision bf16: this GPU has no bf16 units: set train.precision=fp32.")
        return "bf16", "; ".join(filter(None, ("as the recipe says", emulated(torch.bfloat16, device))))
    return ("bf16", f"the {name} has it") if native else ("fp32", f"the {name} has no bf16")


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in _INSTRUCTIONS[torch.bfloat16])


def emulated(dtype: torch.dtype, device: torch.device) -> str:
    """What to say where an x86 CPU has no instructions for the products of a format of 16 bits; else nothing. They were
    a ninth to a twenty-fifth as fast as those of float32 on one with AVX2 alone."""
    if device.type != "cpu" or dtype not in _INSTRUCTIONS:
        return ""
    capabilities = torch.cpu.get_capabilities()
    names = _INSTRUCTIONS[dtype]
    if capabilities.get("architecture") != "x86_64" or any(capabilities.get(name) for name in names):
        return ""
    return f"this CPU has no instructions for {str(dtype).removeprefix('torch.')}: float32 is several times as fast"
