"""MLflow: metrics of runs (`mlflow_tracker`), the model registry (`registry`, `versions`), and registered models that
answer requests (`pyfunc_encoder`, `pyfunc_finetuned`).

Nothing else in the library imports MLflow.
"""
