"""benchmark: model-ready store -> encoders, costs and task metrics of every objective -> report."""

import warnings
from pathlib import Path

from kedro.pipeline import Node, Pipeline

from d2v.config import BenchmarkConfig, Block, EvaluateConfig, FinetuneConfig, TrainConfig, changed
from d2v.modalities import registry
from pipelines.recipes import of_modality


def create_pipeline(modality: str) -> Pipeline:
    """The benchmark step of one modality, without its namespace."""
    blocks = [f"params:{block}" for block in ("benchmark", "prepare", "train", "finetune", "evaluate")]
    inputs = [*blocks, "corpus", "prepared", "benchmark_dir"]
    return Pipeline([Node(of_modality(benchmark, modality), inputs, "benchmark_folder", name="benchmark")])


def create_report_pipeline() -> Pipeline:
    """One report of all modalities."""
    folders = [f"{modality}.benchmark_folder" for modality in registry.MODALITIES]
    with warnings.catch_warnings():  # Kedro warns of a node that takes from several namespaces, as this one is to
        warnings.simplefilter("ignore", UserWarning)
        node = Node(report, ["benchmark_dir", *folders], "benchmark_report", name="benchmark_report")
    return Pipeline([node])


def benchmark(
    modality: str,
    config: BenchmarkConfig,
    prepare: Block,
    train: TrainConfig,
    finetune: FinetuneConfig,
    evaluate: EvaluateConfig,
    corpus: Path,
    prepared: Path,
    out: Path,
) -> Path:
    """Pretrain, probe and fine-tune with every objective under `out`: what is done there is not done again."""
    from d2v.comparison.compare import benchmark as run_benchmark
    from d2v.comparison.comparison import Comparison
    from pipelines.tracking import active_tracker

    if config.prepare:
        own = changed(prepare, config.prepare, at=f"{modality}.benchmark.prepare")
        prepared = out / "prepared" / prepared.name
        registry.get(modality).prepare(own, corpus, prepared)
    comparison = Comparison(registry.get(modality), config, train, finetune, evaluate, prepared, out)
    run_benchmark(comparison, active_tracker())
    return out


def report(out: Path, *folders: Path) -> Path:
    """One report of all modalities under `out`."""
    from d2v.comparison.compare import combine
    from pipelines.tracking import active_tracker

    combine(folders, out, active_tracker())
    return out
