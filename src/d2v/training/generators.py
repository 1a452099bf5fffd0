"""States of the process's random generators, as tensors and numbers."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def states() -> dict[str, Any]:
    """The global generators. Training draws from keys alone; probes and code around it may use these."""
    python_version, python_state, python_gauss = random.getstate()
    numpy_state: Any = np.random.get_state(legacy=False)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": numpy_state | {"state": {"key": _as_tensor(numpy_state), "pos": numpy_state["state"]["pos"]}},
        "python": [python_version, torch.tensor(python_state), python_gauss],
    }


def _as_tensor(numpy_state: Any) -> torch.Tensor:
    return torch.from_numpy(numpy_state["state"]["key"].astype(np.int64))


def restore(states: dict[str, Any]) -> None:
    """Set the generators to what `states` gave."""
    torch.set_rng_state(states["torch"].cpu())
    if len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
    words = states["numpy"]["state"]["key"].cpu().numpy().astype(np.uint32)
    position = states["numpy"]["state"]["pos"]
    np.random.set_state(states["numpy"] | {"state": {"key": words, "pos": position}})
    python_version, python_state, python_gauss = states["python"]
    random.setstate((python_version, tuple(python_state.tolist()), python_gauss))
