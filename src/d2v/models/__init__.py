"""Building blocks of all models: transformer blocks, the encoder, masking, decoders, the EMA teacher and its targets.

They know no modality and no objective. `ops` holds faster versions of single operators.
"""
