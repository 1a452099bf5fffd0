"""Speech: recordings at 16 kHz, their sources and preparation, the convolutional encoder, and its span masks.

Raw inputs are sound files and arrays.
"""
