"""The probe of images beside their labels."""

from __future__ import annotations

import torch

from d2v.modalities.probes import Choice, Probe
from d2v.modalities.vision.config import VisionTrainConfig
from d2v.modalities.vision.data import VisionData


def further_probes(data: VisionData, recipe: VisionTrainConfig, items: int) -> list[Probe]:
    """Which of two images is whole: as it is, or with its left and right halves exchanged.

    Args:
        data: the prepared folder.
        recipe: of the encoder, for the size of images.
        items: images at most.
    """
    whole = data.probe_set(recipe).test_inputs
    whole = whole.select(torch.arange(min(len(whole), items)))
    if not len(whole):
        return []
    spoiled = type(whole)(whole.values.roll(whole.values.shape[-1] // 2, dims=-1))
    return [Choice("halves", "which of two is whole, halves exchanged", whole, spoiled)]
