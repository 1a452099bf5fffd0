"""The registered pipelines: one chain per modality, each step on its own, and everything."""

from kedro.pipeline import Pipeline

from d2v.distributed.environment import read_dist_env
from d2v.modalities import registry
from pipelines.steps import align, benchmark, evaluate, finetune, ingest, prepare, promote, retrain, train

STEPS = {
    "ingest": ingest,
    "prepare": prepare,
    "train": train,
    "evaluate": evaluate,
    "finetune": finetune,
    "promote": promote,
    "retrain": retrain,
    "benchmark": benchmark,
}
CHAINS = {
    "pretrain": ("ingest", "prepare", "train", "evaluate"),
    "tune": ("ingest", "prepare", "finetune"),
    "retrain": ("ingest", "retrain"),
    "benchmark": ("ingest", "prepare", "benchmark"),
    "whole": ("ingest", "prepare", "train", "evaluate", "finetune"),
}
"""Steps one after the other, for people. A chain of a step's name replaces it."""
ON_ALL_RANKS = ("train", "finetune")
"""Steps that all ranks run together, where torchrun or srun starts the command once per rank."""


def register_pipelines() -> dict[str, Pipeline]:
    """`<step>_<modality>`, `<chain>_<modality>`, `benchmark` (of all modalities, with one report), `align`,
    `promote_align` and `retrain_align` (both) of encoders that are there, and `__default__` (pretraining of all
    modalities).

    A rank other than 0 has the same names, but only the steps that all ranks run together."""
    registered: dict[str, Pipeline] = {}
    is_main = read_dist_env().is_main
    for modality in registry.MODALITIES:
        steps = {
            name: Pipeline(module.create_pipeline(modality), namespace=modality, tags=[modality, name])
            for name, module in STEPS.items()
        }
        if not is_main:
            steps = {name: _on_other_ranks(modality, name, step) for name, step in steps.items()}
        registered |= {f"{name}_{modality}": step for name, step in steps.items()}
        for chain, names in CHAINS.items():
            registered[f"{chain}_{modality}"] = sum((steps[name] for name in names), Pipeline([]))
        registered[f"whole_{modality}"] = _tuned_after_training(modality, registered[f"whole_{modality}"], is_main)
    report = benchmark.create_report_pipeline() if is_main else Pipeline([])
    aligning = align.create_pipeline() if is_main else Pipeline([])
    promoting = [align.create_promotion_pipeline(after) if is_main else Pipeline([]) for after in (False, True)]
    registered |= {"align": aligning, "promote_align": promoting[0], "retrain_align": aligning + promoting[1]}
    return registered | {
        "__default__": _of_all("pretrain", registered),
        "benchmark": _of_all("benchmark", registered) + report,
    }


def _tuned_after_training(modality: str, whole: Pipeline, is_main: bool) -> Pipeline:
    """The chain with the run folder that training leaves as fine-tuning's input. By itself fine-tuning takes the
    folder's path, as it may start from elsewhere, and Kedro would not know which comes first."""
    name = f"{modality}.finetune"
    tuning = whole.only_nodes(name)
    folder = f"{modality}.run_folder" if is_main else f"{modality}.run_folder_unchecked"
    return whole - tuning + Pipeline(tuning, inputs={f"{modality}.run_dir": folder})


def _of_all(chain: str, registered: dict[str, Pipeline]) -> Pipeline:
    return sum((registered[f"{chain}_{modality}"] for modality in registry.MODALITIES), Pipeline([]))


def _on_other_ranks(modality: str, name: str, step: Pipeline) -> Pipeline:
    """A step as a rank other than 0 runs it. Its inputs are paths of folders that rank 0 may still have to fill, and
    it does not check what rank 0 leaves."""
    if name not in ON_ALL_RANKS:
        return Pipeline([])
    step = step.only_nodes(f"{modality}.{name}")
    folders = [data for data in step.inputs() if not data.startswith("params:") and not data.endswith("_dir")]
    paths = {data: f"{data.removesuffix('_folder')}_dir" for data in folders}
    return Pipeline(step, inputs=paths, outputs={data: f"{data}_unchecked" for data in step.outputs()})
