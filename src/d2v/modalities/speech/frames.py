"""What a contrastive objective compares in a recording: its local features, before and after their projection.

Shape legend: B recordings, C channels, T frames, D width.
"""

from __future__ import annotations

from torch import Tensor

from d2v.modalities.base import Frames, LocalFrames
from d2v.modalities.speech.config import SpeechTrainConfig
from d2v.modalities.speech.encoder import ConvFeatures
from d2v.models.encoder import Encoder


def frames(recipe: SpeechTrainConfig) -> Frames:
    """Features of the convolutions."""
    return Frames(recipe.encoder.convs[-1][0], local_frames)


def local_frames(encoder: Encoder, waves_BS: Tensor, gradient: float) -> LocalFrames:
    """The way of `ConvFeatures`, step by step."""
    local = encoder.stem.local
    if not isinstance(local, ConvFeatures):
        raise TypeError(f"frames are made by ConvFeatures, not by {type(local).__name__}")
    raw_BTC = waves_BS.unsqueeze(-1)
    for layer in local.layers:
        raw_BTC = layer(raw_BTC)
    raw_BTC = raw_BTC.detach() + gradient * (raw_BTC - raw_BTC.detach())
    normal_BTC = local.norm(raw_BTC)
    return LocalFrames(raw_BTC, normal_BTC, local.projection(normal_BTC))
