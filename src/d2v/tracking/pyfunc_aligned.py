"""The registered model: an aligned space behind MLflow's `predict`. MLflow runs this file when it loads the model."""

from __future__ import annotations

import os
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext


class AlignedModel(PythonModel):
    """A table in, with the columns of one modality's `request`; (n, width) float32 vectors of the shared space out."""

    def load_context(self, context: PythonModelContext) -> None:
        """Rebuild encoders and heads."""
        import d2v
        from d2v.tracking.requests import Requests

        self.models = d2v.load_aligned(context.artifacts["aligned"], device="cpu")
        self.requests = {
            name: Requests.from_environment(model.about, os.environ) for name, model in self.models.items()
        }

    def predict(
        self, context: PythonModelContext | None, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> np.ndarray:
        """Vectors of a table's items. Raises RequestRefused for a table that cannot be read."""
        given = set(model_input.columns)
        names = [name for name, one in self.requests.items() if one.modality.request.columns[0] in given]
        name = (names or list(self.requests))[0]
        batches = self.requests[name].batches(model_input)
        return np.concatenate([np.stack(self.models[name].features(one, space="aligned")) for one in batches])


mlflow.models.set_model(AlignedModel())
