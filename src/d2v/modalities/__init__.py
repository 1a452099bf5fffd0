"""Modalities: one folder each for images, speech and text, behind the interface of `base`.

A folder holds the sources, preparation, encoder, masks and raw inputs of its modality. `registry` lists the modalities,
and everything above asks it instead of a name.
"""
