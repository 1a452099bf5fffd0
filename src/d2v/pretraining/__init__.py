"""Pretraining, one of the two jobs that `d2v.training` does: from random weights, or from those of a model folder."""

from d2v.pretraining.pretrain import pretrain, pretraining_job

__all__ = ["pretrain", "pretraining_job"]
