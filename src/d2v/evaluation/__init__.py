"""Frozen encoders measured: features, nearest neighbours, linear probes and effective rank, with bootstrap intervals.

`evaluate` compares a pretrained encoder with random weights and plain features and writes a report; `online` is the
small probe that runs during training.
"""
