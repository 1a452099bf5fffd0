"""A tiny project of each modality, and the steps that `kedro run` calls, as plain functions."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
from mlflow.tracking import MlflowClient

from d2v.config import Block, parse
from d2v.modalities import registry
from pipelines.steps import evaluate, finetune, ingest, prepare, promote, train
from tests.lifecycle.retrainings import add_pictures
from tests.modalities.contract.case import RUN, find_case

SHORT: dict[str, Any] = {
    "max_updates": 6,
    "checkpoint": {"every_updates": 2, "keep": 2},
}
EVALUATE = {"bootstrap_resamples": 50, "linear_l2": [0.01], "neighbour_queries": 2, "picture_items": 2, "knn_k": 3}
FINETUNE = {
    "task": {"name": "classification"},
    "optimizer": {"lr": 1e-3},
    "schedule": {"warmup_updates": 2},
    "precision": "fp32",
    "batch_size": 8,
    "log_every_updates": 1,
    "bootstrap_resamples": 50,
}
PROMOTE = {
    "min_gain_over_random": None,
    "min_rank": 1.0,
    "max_class_drop": 1.0,
    "tolerance": 1.0,
    "max_latency_factor": 1e6,
    "latency_calls": 1,
    "bootstrap_resamples": 50,
}


def write_source(modality: str, folder: Path) -> None:
    """The files that are ingested: images, recordings or documents, some of them damaged."""
    folder.mkdir(parents=True)
    case = find_case(modality)
    assert case is not None
    if case.write_source:
        case.write_source(folder)
    else:
        add_pictures(folder, "train", 60, 0)
        add_pictures(folder, "test", 40, 0)
    if modality != "text":
        file = next(path for path in sorted(folder.rglob("*")) if path.is_file())
        file.with_name(f"cut{file.suffix}").write_bytes(file.read_bytes()[:-20])
        file.with_name(f"twin{file.suffix}").write_bytes(file.read_bytes())


def recipe(modality: str, root: Path, ranks: int = 1) -> Any:
    """A whole recipe that takes seconds."""
    case = find_case(modality)
    assert case is not None
    distributed = {"distributed": {"ranks": ranks, "timeout_s": 60}} if ranks > 1 else {}
    ingest_block = {key: value for key, value in case.ingest.items() if key not in ("source", "options")}
    blocks = {
        "ingest": ingest_block | {"source": str(root / "source"), "shard_bytes": 20_000},
        "prepare": case.prepare,
        "train": RUN | case.recipes["data2vec2"] | SHORT | distributed,
        "finetune": FINETUNE | SHORT,
        "evaluate": EVALUATE,
        "promote": PROMOTE,
    }
    return parse(registry.recipe_type(modality), blocks, at=modality)


class Project:
    """One modality's folders and its tracking store below a root.

    Args:
        modality: registry name.
        root: holds everything that the steps read and write.
        ranks: of pretraining.
    """

    def __init__(self, modality: str, root: Path, ranks: int = 1) -> None:
        self.modality, self.root = modality, root
        self.recipe: Any = recipe(modality, root, ranks)

    def folder(self, name: str) -> Path:
        """A folder of the project."""
        return self.root / "data" / name

    def track(self) -> None:
        """Make the project's store the one of this process."""
        uri = f"sqlite:///{self.root / 'mlflow.db'}"
        os.environ["MLFLOW_TRACKING_URI"] = uri
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)

    def run(self, step: str) -> None:
        """A step, in an MLflow run of its own."""
        self.track()
        with mlflow.start_run(experiment_id="1", run_name=step):
            STEPS[step](self)


def make_store(root: Path) -> None:
    """An empty tracking store with the experiment that registering logs to."""
    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    client.create_experiment("d2v", (root / "artifacts").as_uri())


def _ingest(one: Project) -> None:
    ingest.ingest(one.modality, one.recipe.ingest, one.folder("corpus"), one.folder("corpus_report"))


def _prepare(one: Project) -> None:
    prepare.prepare(one.modality, one.recipe.prepare, one.folder("corpus"), one.folder("prepared"))


def _pretrain(one: Project) -> None:
    train.pretrain(
        one.modality, one.recipe.train, one.recipe.evaluate, one.folder("prepared"), one.folder("run_folder")
    )


def _evaluate(one: Project) -> None:
    evaluate.evaluate(
        one.modality,
        one.recipe.train,
        one.recipe.evaluate,
        one.folder("prepared"),
        one.folder("run_folder"),
        one.folder("report"),
    )
    finetune.evaluate_tuned(
        one.modality, one.recipe.finetune, one.folder("prepared"), one.folder("tuned"), one.folder("tuned_report")
    )


def _finetune(one: Project) -> None:
    finetune.finetune(
        one.modality,
        one.recipe.finetune,
        one.recipe.train,
        one.folder("prepared"),
        one.folder("run_folder"),
        one.folder("tuned"),
    )


def _register(one: Project) -> None:
    evaluate.register(
        one.modality, one.folder("run_folder"), one.folder("prepared"), one.folder("corpus"), one.folder("report")
    )
    finetune.register_tuned(
        one.modality,
        one.recipe.finetune,
        one.folder("prepared"),
        one.folder("corpus"),
        one.folder("tuned"),
        one.folder("tuned_report"),
    )


def _promote(one: Project) -> None:
    recipes: dict[str, Block] = {one.modality: one.recipe}
    promote.promote(one.modality, recipes, one.folder("corpus"), one.folder("prepared"), one.folder("promotion"))


STEPS: dict[str, Callable[[Project], None]] = {
    "ingest": _ingest,
    "prepare": _prepare,
    "pretrain": _pretrain,
    "finetune": _finetune,
    "evaluate": _evaluate,
    "register": _register,
    "promote": _promote,
}
