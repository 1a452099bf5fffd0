"""The registered pipelines: one chain per modality, each step on its own, and everything."""

from kedro.pipeline import Pipeline

from d2v.modalities import registry
from d2v.training.environment import find_seat
from pipelines import evaluate, finetune, ingest, prepare, train

STEPS = {"ingest": ingest, "prepare": prepare, "train": train, "evaluate": evaluate, "finetune": finetune}
CHAINS = {"pretrain": ("ingest", "prepare", "train", "evaluate"), "tune": ("ingest", "prepare", "finetune")}
"""Steps one after the other, for people."""
FOLLOWED = ("train", "finetune")
"""Steps that all ranks do together, where torchrun or srun starts the command once per rank."""


def register_pipelines() -> dict[str, Pipeline]:
    """`<step>_<modality>`, `pretrain_<modality>` and `tune_<modality>` (chains of steps), and `__default__`
    (pretraining of all modalities).

    A rank other than 0 has the same names, but only the steps that ranks do together."""
    registered: dict[str, Pipeline] = {}
    follows = find_seat().follows
    for modality in registry.MODALITIES:
        steps = {
            name: Pipeline(module.create_pipeline(modality), namespace=modality, tags=[modality, name])
            for name, module in STEPS.items()
        }
        if follows:
            steps = {name: _following(modality, name, step) for name, step in steps.items()}
        registered |= {f"{name}_{modality}": step for name, step in steps.items()}
        for chain, names in CHAINS.items():
            registered[f"{chain}_{modality}"] = sum((steps[name] for name in names), Pipeline([]))
    everything = (registered[f"pretrain_{modality}"] for modality in registry.MODALITIES)
    return registered | {"__default__": sum(everything, Pipeline([]))}


def _following(modality: str, name: str, step: Pipeline) -> Pipeline:
    """A step as a rank other than 0 does it. It gets the places of folders that rank 0 may still have to fill, and what
    rank 0 leaves is not for it to check."""
    if name not in FOLLOWED:
        return Pipeline([])
    step = step.only_nodes(f"{modality}.{name}")
    folders = [data for data in step.inputs() if not data.startswith("params:") and not data.endswith("_place")]
    places = {data: f"{data.removesuffix('_folder')}_place" for data in folders}
    return Pipeline(step, inputs=places, outputs={data: f"{data}_followed" for data in step.outputs()})
