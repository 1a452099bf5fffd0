"""The registered model: a frozen encoder behind MLflow's `predict`. MLflow runs this file when it loads the model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext


class EncoderModel(PythonModel):
    """A table in, with the columns of the modality's `request`; (n, width) float32 embeddings out."""

    def load_context(self, context: PythonModelContext) -> None:
        """Rebuild the encoder from its config.json and safetensors."""
        from d2v.tracking.served import served_encoder

        self.model = served_encoder(Path(context.artifacts["encoder"]), os.environ)

    def predict(
        self, context: PythonModelContext | None, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> np.ndarray:
        """Mean-pooled embeddings of a table's items, or by params={"space": "search"} vectors of the space to search
        in. Raises RequestRefused for a table that cannot be read."""
        space = str((params or {}).get("space", "plain"))
        return np.concatenate(list(self.model.answers_of(self.model.requests.batches(model_input), space)))


mlflow.models.set_model(EncoderModel())
