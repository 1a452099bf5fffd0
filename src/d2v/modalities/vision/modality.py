"""What vision supplies to the shared pipelines."""

from __future__ import annotations

from d2v.modalities.base import Modality
from d2v.modalities.vision.config import VisionRecipe
from d2v.modalities.vision.data import VisionData, baseline_features, describe, to_pictures
from d2v.modalities.vision.encoder import build_decoder, build_encoder
from d2v.modalities.vision.ingestion import ingest
from d2v.modalities.vision.masking import draw_masks, mask_shape
from d2v.modalities.vision.preparation import prepare
from d2v.modalities.vision.serving import example_request, to_inputs

VISION = Modality(
    name="vision",
    recipe=VisionRecipe,
    ingest=ingest,
    prepare=prepare,
    open=VisionData,
    build_encoder=build_encoder,
    build_decoder=build_decoder,
    mask_shape=mask_shape,
    draw_masks=draw_masks,
    baseline_name="raw pixels",
    baseline_features=baseline_features,
    describe=describe,
    example_request=example_request,
    to_inputs=to_inputs,
    to_pictures=to_pictures,
)
