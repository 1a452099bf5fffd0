"""What vision supplies to the shared pipelines."""

from __future__ import annotations

from d2v.modalities.base import Modality
from d2v.modalities.vision.config import VisionRecipe
from d2v.modalities.vision.data import VisionData, baseline_features, describe, picture_grid, to_pictures
from d2v.modalities.vision.encoder import build_encoder
from d2v.modalities.vision.ingestion import ingest
from d2v.modalities.vision.labelled import labelled
from d2v.modalities.vision.masking import draw_masks, grid, hidden_tokens, max_tokens
from d2v.modalities.vision.patches import patches
from d2v.modalities.vision.preparation import prepare
from d2v.modalities.vision.serving import REQUEST, to_inputs

VISION = Modality(
    name="vision",
    recipe=VisionRecipe,
    ingest=ingest,
    prepare=prepare,
    open=VisionData,
    build_encoder=build_encoder,
    grid=grid,
    max_tokens=max_tokens,
    hidden_tokens=hidden_tokens,
    draw_masks=draw_masks,
    baseline_name="raw pixels",
    baseline_features=baseline_features,
    describe=describe,
    request=REQUEST,
    to_inputs=to_inputs,
    to_pictures=to_pictures,
    picture_grid=picture_grid,
    packages=("torchvision",),
    patches=patches,
    labelled=labelled,
)
