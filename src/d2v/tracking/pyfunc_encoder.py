"""The registered model: a frozen encoder behind MLflow's `predict`. MLflow runs this file when it loads the model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext

if TYPE_CHECKING:
    from torch import Tensor

    from d2v.data.batch import Inputs


class EncoderModel(PythonModel):
    """A table in, with the columns of the modality's `request`; (n, width) float32 embeddings out."""

    def load_context(self, context: PythonModelContext) -> None:
        """Rebuild the encoder from its config.json and safetensors."""
        from d2v.model_folder import load_encoder
        from d2v.tracking.requests import Requests

        self.encoder, config = load_encoder(Path(context.artifacts["encoder"]))
        self.requests = Requests.from_environment(config, os.environ)

    def predict(
        self, context: PythonModelContext | None, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> np.ndarray:
        """Mean-pooled embeddings of a table's items. Raises RequestRefused for a table that cannot be read."""
        import torch

        with torch.inference_mode():
            parts = [part.merged(self._features(part)) for part in self.requests.batches(model_input)]
        embeddings: np.ndarray = torch.cat(parts).float().numpy()
        return embeddings

    def _features(self, inputs: Inputs) -> Tensor:
        """(rows, width), a few rows at a time where items are several windows."""
        import torch

        from d2v.tracking.requests import BATCH_ITEMS

        return torch.cat([self.encoder.features(part.values, part.lengths) for part in inputs.split(BATCH_ITEMS)])


mlflow.models.set_model(EncoderModel())
