"""The registered model: a fine-tuned model behind MLflow's `predict`. MLflow runs this file when it loads the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.pyfunc import PythonModel, PythonModelContext


class TunedPredictor(PythonModel):
    """Raw items in, as the modality's `to_inputs` takes them; one answer an item out."""

    def load_context(self, context: PythonModelContext) -> None:
        """Rebuild encoder and head from config.json and safetensors."""
        from d2v.finetuning.model import load_tuned

        self.model = load_tuned(Path(context.artifacts["model"]))

    def predict(
        self, context: PythonModelContext | None, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> np.ndarray:
        """Class names, texts or numbers. Raises DataError for another shape or type."""
        from d2v.tracking.answers import answers

        return answers(self.model, model_input)


mlflow.models.set_model(TunedPredictor())
