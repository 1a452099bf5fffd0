"""The model card: a model's data, quality, limits, cost and recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from d2v.config import FinetuneConfig, RunConfig, TrainConfig
from d2v.reporting.probe_tables import FURTHER, accuracy_table, difference_table, further_table, has_accuracies, verdict
from d2v.reporting.report import Heading, Part, to_markdown
from d2v.reporting.tables import Table

UNKNOWN_LICENCE = "unknown: whoever passes the encoder on has to settle it"
LIMITS = (
    "- The probes use items of the same source as the training; on other data the features may be worth less.\n"
    "- Intervals speak of the choice of test items. Another training seed adds spread that they do not show.\n"
    "- Pretraining takes up whatever is in its data, unwanted regularities too. Nothing here tests for bias, "
    "robustness or what could be read back out of the weights.\n"
    "- Inputs must be normalised and sized as the encoder's `config.json` says."
)

FINETUNED_LIMITS = (
    "- The held-out items are of the same source as the training; on other data the model may be wrong more often.\n"
    "- It answers with a label of its training data, whatever it is given, and repeats the mistakes of these labels.\n"
    "- Intervals speak of the choice of test items. Another training seed adds spread that they do not show.\n"
    "- Nothing here tests for bias, robustness or what could be read back out of the weights."
)


def write_model_card(
    path: Path,
    modality: str,
    recipe: TrainConfig,
    prepared: Mapping[str, Any],
    metrics: Mapping[str, float],
    result: Mapping[str, Any],
    baseline: str,
) -> Path:
    """Write the card of an evaluated encoder as markdown.

    Args:
        path: the file; returned.
        modality: registry name.
        recipe: its train block.
        prepared: plain facts about the data, such as `source`, `fingerprint` and `licence`; nested ones are left out.
        metrics: what `d2v.evaluation.evaluate.evaluate` measured.
        result: what training wrote into `result.json`.
        baseline: name of the plain features that the encoder was compared with.
    """
    parts: list[Part] = [verdict(metrics, baseline), Heading("Data"), _data_table(prepared)]
    parts += [Heading("Quality"), accuracy_table(metrics, baseline)]
    if has_accuracies(metrics):
        parts.append(difference_table(metrics, baseline))
    if (table := further_table(metrics)) is not None:
        parts += [table, FURTHER]
    parts += [Heading("Limits"), LIMITS]
    parts += [Heading("Cost"), _cost_table(recipe, result)]
    parts += [Heading("Recipe"), _recipe_table(recipe, "train")]
    path.parent.mkdir(parents=True, exist_ok=True)
    title = f"d2v-{modality}: {recipe.objective.name} encoder, {result.get('updates', recipe.max_updates)} updates"
    path.write_text(to_markdown(title, parts), encoding="utf-8")
    return path


def write_finetuned_card(
    path: Path,
    modality: str,
    config: FinetuneConfig,
    prepared: Mapping[str, Any],
    metrics: Mapping[str, float],
    result: Mapping[str, Any],
    flags: Sequence[str] = (),
) -> Path:
    """Write the card of an evaluated fine-tuned model as markdown.

    Args:
        path: the file; returned.
        modality: registry name.
        config: its finetune block.
        prepared: plain facts about the data, as of an encoder.
        metrics: what `d2v.finetuning.evaluation.evaluate_finetuned` measured.
        result: what fine-tuning wrote into `result.json`.
        flags: what its report says before all numbers, a sentence each.
    """
    parts: list[Part] = [*flags, Heading("Data"), _data_table(prepared, "Labelled data")]
    parts += [Heading("Quality"), _metrics_table(metrics), Heading("Limits"), FINETUNED_LIMITS]
    parts += [Heading("Cost"), _cost_table(config, result), Heading("Recipe"), _recipe_table(config, "finetune")]
    path.parent.mkdir(parents=True, exist_ok=True)
    title = f"d2v-{modality}-tuned: {config.task.name}, {result.get('updates', config.max_updates)} updates"
    path.write_text(to_markdown(title, parts), encoding="utf-8")
    return path


def _metrics_table(metrics: Mapping[str, float]) -> Table:
    rows = tuple(
        (name.removeprefix("eval/"), f"{value:.4f}", f"{metrics[f'{name}_low']:.4f} to {metrics[f'{name}_high']:.4f}")
        for name, value in metrics.items()
        if f"{name}_low" in metrics
    )
    return Table(f"On {metrics['eval/items']:,.0f} held-out items", ("metric", "value", "95% interval"), rows)


def _data_table(prepared: Mapping[str, Any], title: str = "Pretraining data") -> Table:
    facts = {"source": prepared.get("source", "unknown"), "fingerprint": prepared.get("fingerprint", "unknown")}
    facts["licence"] = prepared.get("licence") or prepared.get("license") or UNKNOWN_LICENCE
    skipped = {*facts, "license", "finished"}
    facts |= {name: fact for name, fact in prepared.items() if name not in skipped and _is_short(fact)}
    rows = tuple((name.replace("_", " "), str(fact)) for name, fact in facts.items())
    return Table(title, ("", "value"), rows)


def _is_short(fact: Any) -> bool:
    return isinstance(fact, str | int | float) and len(str(fact)) <= 200


def _cost_table(recipe: RunConfig, result: Mapping[str, Any]) -> Table:
    updates = int(result.get("updates", recipe.max_updates))
    rows = [("updates", f"{updates:,}")]
    if "samples" in result:
        rows.append(("samples", f"{result['samples']:,}"))
    if "flops" in result:
        rows.append(("FLOPs by count of the model's products", f"{result['flops']:.3g}"))
    if "seconds" in result:
        rows.append(("seconds of updates, all sessions", f"{result['seconds']:,.0f}"))
    if "peak_memory_mb" in result:
        rows.append(("peak memory, MB", f"{result['peak_memory_mb']:,.0f}"))
    speed = result.get("metrics", {}).get("perf/samples_per_s")
    if speed is not None:
        rows.append(("samples per second at the end", f"{speed:,.0f}"))
    if "precision" in result:
        rows.append(("precision", str(result["precision"])))
    if "device" in result:
        rows.append(("computed by", f"{result['device']}, torch {result['torch']}"))
    return Table("Training cost", ("", "value"), tuple(rows))


def _recipe_table(recipe: RunConfig, block: str) -> Table:
    rows = tuple((name, str(value)) for name, value in _flat(recipe.model_dump(mode="json")))
    return Table(f"All keys of the {block} block", ("key", "value"), rows)


def _flat(values: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{at}{name}.")
        else:
            yield at + name, value
