"""The bytes that this process sends to other ranks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


def _share(ranks: int) -> float:
    """A ring passes each of N chunks on N - 1 times."""
    return (ranks - 1) / ranks


def _whole(ranks: int) -> float:
    """A chain passes the whole message on."""
    return float(ranks > 1)


_SENT: dict[str, Callable[[int], float]] = {
    "allreduce_": lambda ranks: 2.0 * _share(ranks),
    "allreduce_coalesced_": lambda ranks: 2.0 * _share(ranks),
    "allgather_": _share,
    "_allgather_base_": _share,
    "allgather_coalesced_": _share,
    "allgather_into_tensor_coalesced_": _share,
    "reduce_scatter_": _share,
    "_reduce_scatter_base_": _share,
    "reduce_scatter_tensor_coalesced_": _share,
    "broadcast_": _whole,
    "reduce_": _whole,
    "barrier": lambda ranks: 0.0,
}
"""Collective -> the bytes a rank sends, as a multiple of the whole message, by ring algorithms (Patarasuk and Yuan
2009). A gather's message is its result, a scatter's message is its input."""


class Traffic(TorchDispatchMode):
    """Counts the collectives called inside `with`, whoever calls them: each goes through torch's dispatcher.

    Args:
        ranks: N, of every group.

    Attributes:
        calls: collective -> how often.
        sent_bytes: collective -> what this rank sent.
    """

    def __init__(self, ranks: int) -> None:
        super().__init__()
        self._ranks = ranks
        self.calls: Counter[str] = Counter()
        self.sent_bytes: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func.namespace == "c10d":
            name = func._opname
            message = max((sum(tensor.nbytes for tensor in _tensors(arg)) for arg in args[:2]), default=0)
            self.calls[name] += 1
            self.sent_bytes[name] += round(message * _SENT[name](self._ranks))
        return func(*args, **(kwargs or {}))


def _tensors(value: Any) -> Iterator[Tensor]:
    """Those in nested lists."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
