"""The registered model: a frozen encoder behind MLflow's `predict`. MLflow runs this file when it loads the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.pyfunc import PythonModel, PythonModelContext

BATCH_ITEMS = 64


class EncoderModel(PythonModel):
    """Raw items in, as the modality's `to_inputs` takes them; (n, width) float32 embeddings out."""

    def load_context(self, context: PythonModelContext) -> None:
        """Rebuild the encoder from its config.json and safetensors."""
        from d2v.interchange.folder import load_encoder
        from d2v.modalities import registry

        self.encoder, self.config = load_encoder(Path(context.artifacts["encoder"]))
        self.modality = registry.get(self.config["modality"])

    def predict(
        self, context: PythonModelContext | None, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> np.ndarray:
        """Mean-pooled embeddings of a batch. Raises DataError for another shape or type."""
        import torch

        inputs = self.modality.to_inputs(model_input, self.config)
        with torch.inference_mode():
            parts = [self.encoder.features(part.values, part.lengths) for part in inputs.split(BATCH_ITEMS)]
        embeddings: np.ndarray = torch.cat(parts).float().numpy()
        return embeddings


mlflow.models.set_model(EncoderModel())
