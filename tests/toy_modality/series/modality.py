"""What series supply to the shared pipelines."""

from __future__ import annotations

from d2v.modalities.base import Modality
from d2v.modalities.series.config import SeriesRecipe
from d2v.modalities.series.data import SeriesData, baseline_features, describe, picture_grid, to_pictures
from d2v.modalities.series.encoder import build_encoder
from d2v.modalities.series.ingestion import ingest
from d2v.modalities.series.masking import draw_masks, grid, hidden_tokens, max_tokens
from d2v.modalities.series.preparation import prepare
from d2v.modalities.series.serving import REQUEST, to_inputs

SERIES = Modality(
    name="series",
    recipe=SeriesRecipe,
    ingest=ingest,
    prepare=prepare,
    open=SeriesData,
    build_encoder=build_encoder,
    grid=grid,
    max_tokens=max_tokens,
    hidden_tokens=hidden_tokens,
    draw_masks=draw_masks,
    baseline_name="summary statistics",
    baseline_features=baseline_features,
    describe=describe,
    request=REQUEST,
    to_inputs=to_inputs,
    to_pictures=to_pictures,
    picture_grid=picture_grid,
    pictures_per_row=4,
)
