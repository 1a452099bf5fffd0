"""One module per step: its node functions, and `create_pipeline(modality)`, which names their inputs and outputs.

A node takes parsed blocks of the recipe and paths, calls `d2v`, and returns the folder that it filled. The steps train
and finetune hand a job straight to `d2v.training.train.train`; `pretrain` and `finetune` of `d2v` do the same for
callers without Kedro.
Nodes import `d2v` and the tracker when they run, so that `kedro registry list` and messages about wrong recipes do not
wait for torch and MLflow.
"""
