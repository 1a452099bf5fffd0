"""One module per step: its node functions, and `create_pipeline(modality)`, which names their inputs and outputs.

A node takes parsed blocks of the recipe and paths, calls one entry of `d2v`, and returns the folder that it filled.
Nodes import `d2v` when they run, so that `kedro registry list` and messages about wrong recipes do not wait for torch.
"""
