"""Pretraining objectives: data2vec 1.0 and 2.0, and the baselines MAE, masked language modelling and wav2vec 2.0.

Each is one module behind the interface of `base`: from a batch to a loss and statistics. `build` makes one from a
recipe.
"""
