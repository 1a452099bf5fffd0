"""Files that exports of data2vec 2.0 carry with them, for transformers to run.

They import torch and transformers alone, nothing of d2v.
"""
