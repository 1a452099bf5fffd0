"""One tiny benchmark of two objectives on 80 pictures, with its trainings in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from d2v.comparison import pretraining
from d2v.comparison.compare import benchmark
from d2v.comparison.comparison import Comparison
from d2v.comparison.outcome import Outcome
from d2v.config import BenchmarkConfig, EvaluateConfig, parse
from d2v.modalities import registry
from d2v.modalities.vision.config import VisionFinetuneConfig
from d2v.tracker import NullTracker
from tests.distributed.trainings import Training
from tests.modalities.contract.case import find_case, make_prepared

BENCHMARK: dict[str, Any] = {
    "objectives": {
        "data2vec2": {},
        "mae": {
            "objective": {"name": "mae", "decoder": {"layers": 1, "width": 16, "heads": 2}},
            "mask": {"ratio": 0.75, "adjust": 0.0, "block": 1},
        },
    },
    "pretraining": {"max_updates": 4, "probe_every_updates": 2},
    "pretraining_seeds": 2,
    "finetuning": {"max_updates": 2},
    "efficiency": {"shares": [0.1, 1.0], "seeds": 2, "inits": ["pretrained", "scratch"]},
}
FINETUNE: dict[str, Any] = {
    "task": {"name": "classification"},
    "optimizer": {"lr": 3e-3, "clip_norm": None},
    "batch_size": 8,
    "max_updates": 500,
    "precision": "fp32",
    "bootstrap_resamples": 200,
}


class InThisProcess:
    """Stands in for the supervisor: a fresh process takes seconds to start."""

    def __init__(self, config: Any, folder: Path) -> None:
        pass

    def run(self, target: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        return target(**arguments)


class Tree(NullTracker):
    """A tracker that keeps what it and its children are given."""

    def __init__(self) -> None:
        self.tags: dict[str, str] = {}
        self.metrics: dict[str, float] = {}
        self.params: dict[str, Any] = {}
        self.files: list[str] = []
        self.children: dict[str, Tree] = {}

    def log_metrics(self, metrics: dict[str, float], update: int) -> None:
        self.metrics |= metrics

    def log_params(self, values: Any) -> None:
        self.params |= values

    def set_tags(self, tags: dict[str, str]) -> None:
        self.tags |= tags

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        self.files.append(f"{folder}/{path.name}")

    def child(self, name: str, tags: dict[str, str]) -> Any:
        child = self.children.setdefault(name, Tree())
        child.set_tags(tags)
        return NullTracker.child(child, name, tags)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", autouse=True)
def _trainings_in_this_process() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining, "Supervisor", InThisProcess)
        yield


@pytest.fixture(scope="session")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Not run yet."""
    vision, case, folder = registry.get("vision"), find_case("vision"), tmp_path_factory.mktemp("benchmark")
    assert case is not None
    prepared = make_prepared(vision, case, folder).path
    return Comparison(
        modality=vision,
        config=parse(BenchmarkConfig, BENCHMARK),
        train=Training(prepared, folder, "vision").recipe(),
        finetune=parse(VisionFinetuneConfig, FINETUNE),
        evaluate=EvaluateConfig(bootstrap_resamples=200),
        prepared=prepared,
        out=folder / "out",
    )


@pytest.fixture(scope="session")
def whole(comparison: Comparison) -> tuple[Outcome, Tree]:
    """Run once from nothing."""
    tracker = Tree()
    return benchmark(comparison, tracker), tracker
