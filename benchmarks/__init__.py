"""How fast training is, and what it costs each of its ranks, on this machine."""

from benchmarks.recipe_updates import time_updates

__all__ = ["time_updates"]
