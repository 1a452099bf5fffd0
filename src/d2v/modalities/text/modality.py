"""What text supplies to the shared pipelines."""

from __future__ import annotations

from d2v.modalities.base import Modality
from d2v.modalities.text.config import TextRecipe
from d2v.modalities.text.data import TextData, baseline_features, describe, picture_grid, to_pictures
from d2v.modalities.text.encoder import build_encoder
from d2v.modalities.text.ingestion import ingest
from d2v.modalities.text.labelled import check_fits, labelled
from d2v.modalities.text.masking import draw_masks, grid, hidden_tokens, max_tokens
from d2v.modalities.text.preparation import prepare
from d2v.modalities.text.serving import REQUEST, to_inputs
from d2v.modalities.text.vocabulary import vocabulary

TEXT = Modality(
    name="text",
    recipe=TextRecipe,
    ingest=ingest,
    prepare=prepare,
    open=TextData,
    build_encoder=build_encoder,
    grid=grid,
    max_tokens=max_tokens,
    hidden_tokens=hidden_tokens,
    draw_masks=draw_masks,
    baseline_name="bag of words",
    baseline_features=baseline_features,
    describe=describe,
    request=REQUEST,
    to_inputs=to_inputs,
    to_pictures=to_pictures,
    picture_grid=picture_grid,
    pictures_per_row=2,
    packages=("tokenizers",),
    vocabulary=vocabulary,
    labelled=labelled,
    check_fits=check_fits,
)
