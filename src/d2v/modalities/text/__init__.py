"""Text: byte-level BPE tokens."""
