"""d2v: data2vec 1.0 and 2.0, pretrained, probed, tracked and versioned."""

__version__ = "0.1.0"
