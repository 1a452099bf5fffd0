"""Downstream tasks: classification, several labels an item, regression and transcription.

Each has a head, targets, a loss, predictions and metrics behind the interface of `base`. `build_task` makes one from a
recipe.
"""
