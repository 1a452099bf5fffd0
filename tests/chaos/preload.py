"""Everything that steps import, imported once, so that their forks begin at once."""

import importlib

MODULES = (
    "deepspeed",
    "matplotlib.pyplot",
    "mlflow.pyfunc",
    "sklearn.linear_model",
    "d2v.evaluation.evaluate",
    "d2v.finetuning.evaluation",
    "d2v.finetuning.finetune",
    "d2v.lifecycle.lineage",
    "d2v.lifecycle.promotion",
    "d2v.lifecycle.retraining",
    "d2v.modalities.corpus_page",
    "d2v.modalities.speech.data",
    "d2v.modalities.text.data",
    "d2v.modalities.vision.data",
    "d2v.pretraining",
    "d2v.reporting.report",
    "pipelines.tracking",
)


def preload() -> None:
    """Import them."""
    for name in MODULES:
        importlib.import_module(name)
