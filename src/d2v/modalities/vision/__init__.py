"""Images: their sources, preparation and augmentation, the patch encoder, and its block and random masks.

Raw inputs are image files, arrays and PIL images.
"""
