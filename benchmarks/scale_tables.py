"""`python -m benchmarks scale`: the measured and the calculated table of docs/scale.md."""

from __future__ import annotations

import os
import re
import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.papers import GPU_BYTES, Costs, calculate, read_models
from benchmarks.scale import MODEL, Measured, measure_stages
from d2v.errors import ConfigError
from d2v.progress import log
from d2v.reporting.tables import Table
from d2v.training.scale import Choice, memory_bytes, state_parts, traffic_bytes

RANKS = (1, 2)
STAGES = range(4)
LINE = 130
BEGIN, END = "<!-- bench-scale: begin -->", "<!-- bench-scale: end -->"


def bench_scale(
    updates: int,
    conf: Path,
    write: Path | None = None,
    model: dict[str, Any] = MODEL,
    stages: Sequence[int] = STAGES,
) -> str:
    """Measure and calculate, and give both tables as Markdown.

    Args:
        updates: to be timed on each number of ranks and each stage.
        conf: folder of the recipes, for the calculated table.
        write: a document whose part between BEGIN and END becomes the tables.
        model: what is measured, a vision recipe's train block.
        stages: of ZeRO, those to measure; 0 comes first, as times are compared with it.

    Raises:
        ConfigError: a recipe is missing, or `write` has no such part.
        LaunchError: a rank died.
    """
    if write is not None:
        _check_place(write)
    calculated = [costs for one in read_models(conf) for costs in calculate(one)]
    measured = []
    with tempfile.TemporaryDirectory(prefix="d2v-bench-") as scratch:
        for ranks in RANKS:
            for stage in stages:
                log(f"bench-scale: {ranks} rank(s), stage {stage}")
                measured += measure_stages(ranks, [stage], updates, Path(scratch), model)
    text = "\n\n".join(
        [
            _conditions(measured[0], updates),
            memory_table(measured).to_markdown(),
            step_table(measured).to_markdown(),
            _wrapped(_CALCULATED),
            calculated_table(calculated).to_markdown(),
        ]
    )
    if write is not None:
        write.write_text(_replaced(write.read_text(), text))
    return text


def _conditions(one: Measured, updates: int) -> str:
    recipe: Any = one.recipe
    encoder, version = recipe.encoder, torch.__version__.partition("+")[0]
    return _wrapped(
        f"Measured on the CPU, {os.cpu_count()} cores, torch {version}, fp32, one thread a rank whatever the number of "
        f"ranks: a vision transformer of {encoder.depth} blocks of width {encoder.width}, P = {one.trained / 1e6:.1f} "
        f"and F = {one.frozen / 1e6:.1f} million parameters, data2vec 2.0 on {one.recipe.batch_unit} images of noise "
        f"an update. MB are 10^6 bytes. Held is what the rank with most holds; gradients alone are by the formula. The "
        f"peak is of the process's resident memory beyond that before the model was built: activations, whole weights "
        f"under stage 3, and what the allocator keeps come on top of the sum. Times are of {updates} updates, median "
        f"and shortest to longest; the ratio is to one rank at stage 0, which does the same batch alone."
    )


_CALCULATED = (
    "Calculated for the recipes of the papers on GPUs, with products in bf16. GB are 10^9 bytes. A GPU's samples are "
    "the recipe's batch over the GPUs, at least one, of the longest kind, in one accumulation step. Memory is with "
    "stored activations. The last columns say which stage to take so that a tenth of the memory stays free."
)


def memory_table(measured: Sequence[Measured]) -> Table:
    """Memory of ranks, in MB."""
    rows = []
    for one in measured:
        most = max(one.held, key=lambda held: held.weights + held.teacher + held.masters + held.moments)
        gradients = state_parts(one.trained, one.frozen, one.stage, one.ranks)["gradients"]
        kept = (most.weights, most.teacher, most.masters, most.moments, gradients)
        cells = [_mega(size) for size in (*kept, sum(kept), max(one.peak_bytes))]
        rows.append((_way(one), *cells))
    columns = ("MB a rank", "weights", "teacher", "masters", "moments", "gradients", "sum", "peak")
    return Table("memory", columns, tuple(rows))


def step_table(measured: Sequence[Measured]) -> Table:
    """Traffic and time of an update."""
    base = measured[0].median_ms
    rows = []
    for one in measured:
        formula = traffic_bytes(one.trained, one.frozen, one.stage, one.ranks)
        rows.append(
            (
                _way(one),
                _mega(one.sent_bytes.total()),
                _mega(formula),
                f"{one.ema_calls}",
                f"{one.median_ms:.0f} ({min(one.step_ms):.0f} to {max(one.step_ms):.0f})",
                f"{one.median_ms / base:.2f}",
            )
        )
    columns = ("an update", "sent, MB a rank", "by the formula", "messages of the teacher's step", "ms", "ratio")
    return Table("step", columns, tuple(rows))


def calculated_table(calculated: Sequence[Costs]) -> Table:
    """Memory that GPUs would need, in GB."""
    rows = []
    for costs in calculated:
        model, ranks = costs.model, costs.ranks
        stored, recomputed = (costs.samples * size for size in model.activations)
        needs = (memory_bytes(model.trained, model.frozen, stage, ranks, stored) for stage in STAGES)
        rows.append(
            (
                model.name,
                f"{model.trained / 1e6:.0f} + {model.frozen / 1e6:.0f}",
                f"{ranks}",
                f"{costs.samples}",
                f"{_giga(stored)} ({_giga(recomputed)})",
                " / ".join(map(_giga, needs)),
                " / ".join(_giga(costs.sent_bytes(stage)) for stage in (0, 1, 3)),
                *map(_choice, costs.choices),
            )
        )
    columns = (
        "model",
        "P + F, million",
        "GPUs",
        "samples a GPU",
        "activations, GB (recomputed)",
        "memory at stages 0 / 1 / 2 / 3, GB",
        "sent at stages 0 / 1 and 2 / 3, GB",
        *(f"stage on {size / 1e9:.0f} GB" for size in GPU_BYTES),
    )
    return Table("calculated", columns, tuple(rows))


def _way(one: Measured) -> str:
    return f"{one.ranks} rank{'s' if one.ranks > 1 else ''}, stage {one.stage}"


def _mega(size: float) -> str:
    return f"{size / 1e6:.1f}"


def _giga(size: float) -> str:
    return f"{size / 1e9:.1f}"


def _choice(choice: Choice | None) -> str:
    if choice is None:
        return "does not fit"
    return f"{choice.stage}{', recomputed' if choice.recomputed else ''}"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, LINE)


def _check_place(document: Path) -> None:
    text = document.read_text() if document.is_file() else ""
    if BEGIN not in text or END not in text.partition(BEGIN)[2]:
        raise ConfigError(
            f"{document} has no place for the tables: write {BEGIN} and {END} into it on lines of their own, or leave "
            "--write out to see the tables here"
        )


def _replaced(text: str, tables: str) -> str:
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    return pattern.sub(lambda _: f"{BEGIN}\n\n{tables}\n\n{END}", text)
