"""The registered pipelines: one chain per modality, each step on its own, and everything."""

from kedro.pipeline import Pipeline

from d2v.modalities import registry
from pipelines import evaluate, ingest, prepare, train

STEPS = {"ingest": ingest, "prepare": prepare, "train": train, "evaluate": evaluate}


def register_pipelines() -> dict[str, Pipeline]:
    """`<step>_<modality>`, `pretrain_<modality>` (all its steps) and `__default__` (all modalities)."""
    registered: dict[str, Pipeline] = {}
    for modality in registry.MODALITIES:
        steps = {
            f"{name}_{modality}": Pipeline(module.create_pipeline(modality), namespace=modality, tags=[modality, name])
            for name, module in STEPS.items()
        }
        registered |= steps | {f"pretrain_{modality}": sum(steps.values(), Pipeline([]))}
    everything = (registered[f"pretrain_{modality}"] for modality in registry.MODALITIES)
    return registered | {"__default__": sum(everything, Pipeline([]))}
