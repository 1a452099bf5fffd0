"""Pretraining, one of the two jobs that `d2v.training` does: from random weights, or from those of a model folder.

`pretrain` trains a student and its teacher with an online probe, and leaves an encoder folder; `start` reads the
weights to begin with.
"""

from d2v.pretraining.pretrain import pretrain, pretraining_job

__all__ = ["pretrain", "pretraining_job"]
