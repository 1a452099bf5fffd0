"""The pretrainings and the study of a benchmark, and their folders."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from d2v.comparison.label_efficiency import Study, contenders
from d2v.config import BenchmarkConfig, EvaluateConfig, FinetuneConfig, TrainConfig, TrialsConfig, changed
from d2v.modalities.base import Modality
from d2v.objectives.build import build_objective


@dataclass(frozen=True)
class Pretraining:
    """One pretraining.

    Attributes:
        objective: its name in the benchmark block.
        seed: from 0, added to the recipe's.
        recipe: its train block.
        folder: its run folder.
    """

    objective: str
    seed: int
    recipe: TrainConfig
    folder: Path

    @property
    def key(self) -> str:
        """Its name among all."""
        return self.folder.name

    @property
    def encoder(self) -> Path:
        """Model folder of the finished encoder."""
        return self.folder / "encoder"

    @property
    def start(self) -> Path | None:
        """Model folder that it starts from; None for random weights."""
        return None if self.recipe.start is None else Path(self.recipe.start)


@dataclass(frozen=True)
class Comparison:
    """A benchmark of one modality.

    Attributes:
        modality: from `d2v.modalities.registry`.
        config: its benchmark block.
        train: its train block.
        finetune: its finetune block.
        evaluate: its evaluate block.
        prepared: folder that prepare left; its name is that of the data.
        out: folder of the benchmark.
    """

    modality: Modality
    config: BenchmarkConfig
    train: TrainConfig
    finetune: FinetuneConfig
    evaluate: EvaluateConfig
    prepared: Path
    out: Path

    def check(self) -> None:
        """Refuse what would fail after hours.

        Raises:
            ConfigError: changes do not fit the blocks that they change, or an objective does not fit the modality.
        """
        import torch

        for one in [*self.trials, *self.pretrainings]:
            with torch.device("meta"):
                build_objective(self.modality, one.recipe)
        self.study.check()

    @cached_property
    def pretrainings(self) -> list[Pretraining]:
        """Seed by seed, so that a benchmark that is stopped has something of everything. All start from random
        weights, whatever the recipe starts from, unless a block of the benchmark names a model folder."""
        return [
            Pretraining(name, seed, self._recipe(name, seed), self.out / "pretrainings" / f"{name}-seed-{seed}")
            for seed in range(self.config.pretraining_seeds)
            for name in self.config.objectives
        ]

    @cached_property
    def trials(self) -> list[Pretraining]:
        """Short ones that choose the settings of the others, objective by objective."""
        config = self.config.trials
        return [] if config is None else [one for name in config.changes for one in self._trials(name, config)]

    def _trials(self, objective: str, config: TrialsConfig) -> list[Pretraining]:
        whole, at = self._recipe(objective, config.seed), f"{self.modality.name}.benchmark.trials.changes.{objective}"
        recipes = [changed(whole, change, at=at) for change in config.changes[objective]]
        shorter = [{"max_updates": max(1, round(config.share * recipe.max_updates))} for recipe in recipes]
        return [
            Pretraining(
                objective, config.seed, changed(recipe, short, at=at), self.out / "trials" / f"{objective}-{number}"
            )
            for number, (recipe, short) in enumerate(zip(recipes, shorter, strict=True))
        ]

    def _recipe(self, objective: str, seed: int) -> Any:
        at = f"{self.modality.name}.benchmark"
        begins = {"start": None, "seed": self.train.seed + seed}
        common = changed(self.train, begins, self.config.pretraining, at=f"{at}.pretraining")
        return changed(common, self.config.objectives[objective], at=f"{at}.objectives.{objective}")

    @cached_property
    def study(self) -> Study:
        """The task with few and with many labels."""
        encoders = {
            name: [one.encoder for one in self.pretrainings if one.objective == name] for name in self.config.objectives
        }
        return Study(
            modality=self.modality,
            config=changed(self.finetune, self.config.finetuning, at=f"{self.modality.name}.benchmark.finetuning"),
            efficiency=self.config.efficiency,
            pretraining=self.pretrainings[0].recipe,
            prepared=self.prepared,
            contenders=contenders(self.config.efficiency.inits, encoders),
            out=self.out,
        )
