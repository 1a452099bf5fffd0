"""Text: sources and preparation of documents, byte-level BPE tokens, the token encoder, and its masks.

Raw inputs are strings and pairs of strings.
"""
