"""Training, whatever is trained: `train` runs a `Job` on every rank, through `Loop`, `train_step` and `Engine`.

What happens around the loop (metrics, probes, checkpoints, stops) is in `callbacks`; `checkpoint` and `resume` keep a
run whole however often it is interrupted.
"""
