"""Encoding a folder: this project beside the usual way with transformers, on the same weights and files."""
