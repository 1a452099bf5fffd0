"""How fast training is, and what it costs each of its ranks, on this machine."""

from d2v.bench.recipe import time_updates

__all__ = ["time_updates"]
