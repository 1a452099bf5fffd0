"""The probe of recordings beside their labels."""

from __future__ import annotations

import torch

from d2v.data.batch import Inputs
from d2v.modalities.probes import Choice, Probe
from d2v.modalities.speech.config import SpeechTrainConfig
from d2v.modalities.speech.data import SpeechData

SHORTEST_SHARE = 0.25  # of recordings, which are too short for the common length and are left out
FRAME_SAMPLES = 320  # halves begin where a frame begins


def further_probes(data: SpeechData, recipe: SpeechTrainConfig, items: int) -> list[Probe]:
    """Which of two recordings is whole: as it is, or with its halves exchanged. All are cut to one length.

    Args:
        data: the prepared folder.
        recipe: of the encoder, for the length of recordings.
        items: recordings at most.
    """
    inputs = data.probe_set(recipe).test_inputs
    if not len(inputs):
        return []
    lengths = torch.full((len(inputs),), inputs.values.shape[1]) if inputs.lengths is None else inputs.lengths
    half = int(lengths.float().quantile(SHORTEST_SHARE)) // (2 * FRAME_SAMPLES) * FRAME_SAMPLES
    rows = (lengths >= 2 * half).nonzero().squeeze(1)[:items]
    if half == 0 or not len(rows):
        return []
    whole = inputs.select(rows).values[:, : 2 * half].contiguous()
    return [
        Choice("halves", "which of two is whole, halves exchanged", Inputs(whole), Inputs(whole.roll(half, dims=1)))
    ]
