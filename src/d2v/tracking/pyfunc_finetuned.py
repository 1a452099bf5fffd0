"""The registered model: a fine-tuned model behind MLflow's `predict`. MLflow runs this file when it loads the model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext


class FinetunedPredictor(PythonModel):
    """A table in, with the columns of the modality's `request`; one answer an item out."""

    def load_context(self, context: PythonModelContext) -> None:
        """Rebuild encoder and head from config.json and safetensors."""
        from d2v.tracking.served import served_finetuned

        self.model = served_finetuned(Path(context.artifacts["model"]), os.environ)

    def predict(
        self, context: PythonModelContext | None, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[Any]:
        """Class names, texts, numbers or {class: probability}. Raises RequestRefused for a table that cannot be
        read."""
        return [one for part in self.model.answers_of(self.model.requests.batches(model_input)) for one in part]


mlflow.models.set_model(FinetunedPredictor())
