"""When operators may do things their own way."""

from __future__ import annotations

import torch


def trains_eagerly() -> bool:
    """Whether backward will want what is computed now, and no compiler or exporter is looking on: a graph should hold
    plain operators. Without backward these are as fast."""
    return torch.is_grad_enabled() and not torch.compiler.is_compiling()
