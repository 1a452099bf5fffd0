"""One pretraining of a benchmark: done once, in a process of its own, and measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from d2v.comparison.comparison import Comparison, Pretraining
from d2v.data.disk import read_json
from d2v.distributed.supervisor import Supervisor
from d2v.errors import ConfigError, DataError
from d2v.evaluation.online import CHOICE, LINEAR, SIZES, sizes_of
from d2v.pretraining.pretrain import PROBED, digest_of, pretrain
from d2v.training import resume
from d2v.training.history import History
from d2v.training.performance import TRAINED_S
from d2v.training.resume import is_finished, restarting_others


@dataclass(frozen=True)
class Cost:
    """The cost of a pretraining, over all its sessions.

    Attributes:
        objective: its name.
        seed: from 0.
        updates: done.
        seconds: of updates, without probes and checkpoints.
        samples: seen.
        flops: floating point operations, counted from the model's products.
        peak_memory_mb: the most that rank 0's process held: of its GPU, or else in main memory.
    """

    objective: str
    seed: int
    updates: int
    seconds: float
    samples: int
    flops: float
    peak_memory_mb: float


@dataclass(frozen=True)
class Curve:
    """The online probe over a pretraining. Where there was none it is empty.

    Attributes:
        objective: its name.
        seed: from 0.
        seconds: of updates, at each probe.
        flops: done, at each probe.
        accuracy: of the probe, 0 to 1.
        samples: seen, at each probe; empty in files of before.
    """

    objective: str
    seed: int
    seconds: list[float]
    flops: list[float]
    accuracy: list[float]
    samples: list[float] = field(default_factory=list)


def is_pretrained(comparison: Comparison, one: Pretraining) -> bool:
    """Whether it is done: the same recipe on the same data, from the same weights."""
    return is_finished(one.recipe, fingerprint_of(comparison, one), one.folder)


def check_probed(comparison: Comparison, pretrainings: Sequence[Pretraining]) -> None:
    """Refuse kept pretrainings that were probed on other numbers of items: their curves stand beside no others.

    Raises:
        ConfigError: there is one.
    """
    all_sizes = sizes_of(comparison.evaluate)
    for one in pretrainings:
        file = one.folder / PROBED / SIZES
        if not file.is_file() or not is_pretrained(comparison, one):
            continue
        kept = read_json(file, DataError, f"remove {one.folder}")
        wanted = {name: size for name, size in all_sizes.items() if name in kept}  # one of before knew fewer
        if kept != wanted:
            raise ConfigError(
                f"{one.folder} was probed on other items ({kept}) than evaluate asks for ({wanted}): change these "
                "back, or remove that folder to train again"
            )


def run_pretraining(comparison: Comparison, one: Pretraining) -> None:
    """Pretrain, or go on pretraining.

    The memory of a training is measured in a fresh process, without the leftovers of earlier work. Where the recipe
    asks for several ranks, these are fresh.

    Raises:
        D2vError: see `d2v.pretraining.pretrain.pretrain`.
    """
    recipe = restarting_others(one.recipe, lambda: fingerprint_of(comparison, one), one.folder)
    arguments: dict[str, Any] = {
        "modality": comparison.modality,
        "recipe": recipe,
        "prepared": comparison.prepared,
        "out": one.folder,
        "evaluation": comparison.evaluate,
        "start": one.start,
    }
    distributed = recipe.distributed
    if distributed.ranks > 1 or distributed.hostfile is not None:
        pretrain(**arguments)
    else:
        Supervisor(distributed, one.folder).run(pretrain, arguments)


def fingerprint_of(comparison: Comparison, one: Pretraining) -> str:
    """Of all that its weights depend on beside the recipe."""
    data: str = comparison.modality.open(comparison.prepared).fingerprint
    return data if one.start is None else f"{data}+{digest_of(one.start, comparison.modality.name)}"


def read_cost(one: Pretraining) -> Cost:
    """The cost of a finished pretraining."""
    result = _result(one)
    names = ("updates", "seconds", "samples", "flops", "peak_memory_mb")
    return Cost(one.objective, one.seed, **{name: result[name] for name in names})


def probe_of(pretrainings: Sequence[Pretraining]) -> str:
    """The online probe that finished pretrainings are compared by: the choice of pairs where all made one, else the
    linear probe."""
    return CHOICE if all(_rows(one, CHOICE) for one in pretrainings) else LINEAR


def read_curve(one: Pretraining, probe: str = LINEAR) -> Curve:
    """The curve of a finished pretraining by one of its probes."""
    rows = _rows(one, probe)
    result = _result(one)
    flops, samples = (result[name] / result["updates"] for name in ("flops", "samples"))
    return Curve(
        one.objective,
        one.seed,
        seconds=[row[TRAINED_S] for row in rows],
        flops=[row["update"] * flops for row in rows],
        accuracy=[row[probe] for row in rows],
        samples=[row["update"] * samples for row in rows],
    )


def read_right(one: Pretraining, probe: str = LINEAR) -> np.ndarray | None:
    """(K, N) which items each probe of a finished pretraining was right about; None if it kept none, not always as
    many, or those of another probe."""
    rows = _rows(one, probe)
    if probe == LINEAR and any(CHOICE in row for row in rows):
        return None
    files = [one.folder / PROBED / f"{row['update']:.0f}.npy" for row in rows]
    if not files or not all(file.is_file() for file in files):
        return None
    right = [np.load(file) for file in files]
    return np.stack(right) if len({len(one) for one in right}) == 1 else None


def _rows(one: Pretraining, probe: str) -> list[dict[str, float]]:
    return [row for row in History.read(one.folder / "history.csv").rows if probe in row]


def _result(one: Pretraining) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((one.folder / resume.RESULT).read_text())
    return content
