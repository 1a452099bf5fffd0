"""Pretraining as one call."""
