"""Models from elsewhere and for elsewhere: `d2v.load` (`load`), imports from fairseq and transformers, and exports to
transformers, timm, ONNX and torch.export.

Nothing here needs fairseq or transformers. `encode_files` writes the features of many files into one Parquet file.
"""
