"""Alignment of frozen encoders: small heads take features of several modalities into one space, learned from pairs.

Read `pairs` (what belongs together, and what is held out), `heads`, `loss`, `train`, `space` (the folder that is left),
`recall` and `baseline` (how good it is) in this order. The encoders are not trained: all of this works on features
that were computed once.
"""
