"""MLflow: one run per Kedro run, and the model registry. Nothing else in the library imports MLflow."""
