"""Trials of the pipelines' steps that are killed, starved of disk, damaged or run twice at once: `make chaos`."""
