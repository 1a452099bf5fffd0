"""Which number format the matrix products take."""

from __future__ import annotations

from typing import Literal

import torch

from d2v.errors import ConfigError

Precision = Literal["fp32", "bf16"]


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
        return "bf16", "as the recipe says"
    return ("bf16", f"the {name} has it") if native else ("fp32", f"the {name} has no bf16")


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
