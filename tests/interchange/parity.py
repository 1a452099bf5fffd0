"""What the two parity tests share: reading goldens and comparing with them."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from d2v.data.batch import Batch

RELATIVE = 1e-5


class Golden:
    """Arrays of one golden; `reference` prefers the float64 evaluation."""

    def __init__(self, folder: Path, name: str) -> None:
        self.arrays = np.load(folder / f"{name}.npz")

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(self.arrays[name])

    def names(self, prefix: str) -> list[str]:
        return [name for name in self.arrays.files if name.startswith(prefix)]

    def batch(self, dtype: torch.dtype = torch.float32) -> Batch:
        source = self["source"].to(dtype)
        ids = torch.arange(len(source))
        return Batch(source, ids, torch.zeros_like(ids), update=0)


def relative_error(ours: Tensor, reference: Tensor) -> float:
    """Largest absolute difference over the reference's largest magnitude."""
    assert ours.shape == reference.shape
    return float((ours.double() - reference.double()).abs().max() / reference.double().abs().max())


def assert_close(ours: Tensor, reference: Tensor, tolerance: float = RELATIVE) -> None:
    error = relative_error(ours.detach(), reference)
    assert error < tolerance, f"relative error {error:.2e}"


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
