"""Benchmarks of this machine: the speed of training and of its input, and the cost of every rank.

`python -m benchmarks` runs them. Objectives are compared with each other in `d2v.comparison`.
"""

from benchmarks.recipe_updates import time_updates

__all__ = ["time_updates"]
