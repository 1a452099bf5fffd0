"""What speech supplies to the shared pipelines."""

from __future__ import annotations

from d2v.modalities.base import Modality
from d2v.modalities.speech.config import SpeechRecipe
from d2v.modalities.speech.data import SpeechData, baseline_features, describe, picture_grid, to_pictures
from d2v.modalities.speech.encoder import build_encoder
from d2v.modalities.speech.frames import frames
from d2v.modalities.speech.ingestion import ingest
from d2v.modalities.speech.labelled import labelled
from d2v.modalities.speech.masking import draw_masks, grid, hidden_tokens, max_tokens
from d2v.modalities.speech.preparation import prepare
from d2v.modalities.speech.serving import REQUEST, to_inputs

SPEECH = Modality(
    name="speech",
    recipe=SpeechRecipe,
    ingest=ingest,
    prepare=prepare,
    open=SpeechData,
    build_encoder=build_encoder,
    grid=grid,
    max_tokens=max_tokens,
    hidden_tokens=hidden_tokens,
    draw_masks=draw_masks,
    baseline_name="log-mel statistics",
    baseline_features=baseline_features,
    describe=describe,
    request=REQUEST,
    to_inputs=to_inputs,
    to_pictures=to_pictures,
    picture_grid=picture_grid,
    pictures_per_row=4,
    packages=("soundfile", "torchaudio"),
    frames=frames,
    labelled=labelled,
)
