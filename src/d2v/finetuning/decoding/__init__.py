"""Decoding: from the frames of a CTC head to text.

The greedy decoder takes the best path. Beam search adds a lexicon and an n-gram language model, ours or one of KenLM
and flashlight.
"""
