"""The README's figures and pictures, from runs of the commit at hand.

`run_embedded` does what the README tells a newcomer to do, with several seeds, and keeps each report;
`renew_readme` writes their figures between the README's two marks and copies the pictures.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.document import commit
from d2v.data.disk import write_json
from d2v.errors import DataError
from d2v.evaluation.metrics_file import BELONGS_TO, METRICS
from d2v.modalities import registry
from d2v.progress import log
from d2v.reporting.tables import Table
from d2v.training.resume import RESULT

BEGIN, END = "<!-- figures: make readme-figures writes what follows -->", "<!-- end of figures -->"
PICTURES = {
    "vision": {"masks": "masks.png", "pca": "pca.png", "curves": "curves.png", "neighbours": "neighbours.png"},
    "speech": {"masks": "masks_speech.png", "pca": "pca_speech.png"},
    "text": {"masks": "masks_text.png"},
}
"""Figure of a report -> its name in docs/pictures, of the first seed."""

KEPT = "figures.json"


@dataclass(frozen=True)
class Run:
    """One pretraining with its evaluation.

    Attributes:
        modality, corpus, seed: which one.
        metrics: what evaluate wrote.
        result: what training wrote.
        commit: of the code.
        pictures: the folder of the report.
    """

    modality: str
    corpus: str
    seed: int
    metrics: Mapping[str, float]
    result: Mapping[str, Any]
    commit: str
    pictures: Path


def run_embedded(folder: Path, modalities: Sequence[str], seeds: int) -> list[Run]:
    """Pretrain and evaluate on embedded data with seeds from 0, the first one last: its folders stay.

    Runs of the same commit that are already in the folder are taken as they are, so an interrupted call goes on.

    Args:
        folder: for data, tracking and the kept reports.
        modalities: names of the registry.
        seeds: how many.

    Raises:
        DataError: a run failed.
    """
    code = commit(Path(__file__).parent)
    return [_run(folder, modality, seed, code) for modality in modalities for seed in reversed(range(seeds))]


def _run(folder: Path, modality: str, seed: int, code: str) -> Run:
    kept = folder / f"{modality}-{seed}"
    if (kept / KEPT).is_file():
        run = Run(**json.loads((kept / KEPT).read_text()), pictures=kept)
        if run.commit == code and not code.endswith("+"):
            log(f"readme: {kept} is of this commit and stays")
            return run
    environment = os.environ | {
        "D2V_DATA": str(folder / "data"),
        "D2V_ARTIFACTS": str(folder / "artifacts"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
    }
    command = ["kedro", "run", f"--pipeline=pretrain_{modality}", "--params", f"{modality}.train.seed={seed}"]
    log(f"readme: {' '.join(command)}")
    folder.mkdir(parents=True, exist_ok=True)
    if subprocess.run([sys.executable, "-m", *command], env=environment, check=False).returncode:
        raise DataError(f"`{' '.join(command)}` failed: see above, then run this again; what is finished stays")
    (report,) = (folder / "data" / "08_reporting" / modality).iterdir()
    result = json.loads((folder / "data" / "06_models" / modality / report.name / RESULT).read_text())
    content = json.loads((report / METRICS).read_text())
    metrics = {name: value for name, value in content.items() if name != BELONGS_TO}
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(report, kept)
    of_it = {"modality": modality, "corpus": report.name, "seed": seed, "metrics": metrics, "result": result}
    write_json(kept / KEPT, of_it | {"commit": code})
    return Run(**of_it, commit=code, pictures=kept)


def renew_readme(readme: Path, pictures: Path, runs: Sequence[Run]) -> None:
    """Write the runs' figures between the marks of the README, and copy the first seeds' pictures.

    Raises:
        DataError: the README lacks a mark.
    """
    text = readme.read_text()
    if not 0 <= text.find(BEGIN) < text.find(END):
        raise DataError(f"{readme} needs the lines {BEGIN!r} and {END!r} around its figures: put them in")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    readme.write_text(f"{before}{BEGIN}\n\n{figures(runs)}\n\n{END}{after}")
    for run in runs:
        for name, picture in PICTURES.get(run.modality, {}).items() if run.seed == 0 else ():
            shutil.copyfile(run.pictures / f"{name}.png", pictures / picture)


def figures(runs: Sequence[Run]) -> str:
    """Markdown: the table of the first seeds, the other seeds, and what computed them."""
    first = [run for run in runs if run.seed == 0]
    probes = Table("", ("data", "features", "linear probe %", "kNN %", "cost"), tuple(_rows(first)))
    choice = [run for run in runs if "probe/forced_choice" in run.metrics]
    parts = [probes.to_markdown(), _seeds(runs)]
    if choice:
        columns = ("data", "pretrained", "random weights", "best counts", "bag of words")
        rows = [(f"`{run.corpus}`, seed {run.seed}", *_forced_choice(run), "50") for run in _by_seed(choice)]
        parts.append(Table("", ("forced choice, %", *columns[1:]), tuple(rows)).to_markdown())
    parts.append(f"{_conditions(first)} `make readme-figures` makes them anew.")
    return "\n\n".join(parts)


def _rows(first: Iterable[Run]) -> Iterable[tuple[str, ...]]:
    for run in first:
        cost = f"{run.result['samples']:,} samples, {run.result['seconds'] / 60:.1f} minutes"
        for number, (suffix, name) in enumerate((("", "**pretrained**"), ("_random", "random weights"), *_plain(run))):
            linear, knn = (_shown(run.metrics, f"probe/{probe}{suffix}") for probe in ("linear", "knn"))
            bold = f"**{linear.split(' ')[0]}** {linear.partition(' ')[2]}" if not number else linear
            yield (f"`{run.corpus}`" if not number else "", name, bold, knn, "" if number else cost)


def _plain(run: Run) -> tuple[tuple[str, str]]:
    return (("_baseline", registry.get(run.modality).baseline_name),)


def _shown(metrics: Mapping[str, float], name: str) -> str:
    low, high = metrics[f"{name}_low"], metrics[f"{name}_high"]
    return f"{100 * metrics[name]:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def _forced_choice(run: Run) -> list[str]:
    return [_shown(run.metrics, f"probe/forced_choice{suffix}") for suffix in ("", "_random", "_baseline")]


def _by_seed(runs: Iterable[Run]) -> list[Run]:
    return sorted(runs, key=lambda run: (run.modality, run.seed))


def _seeds(runs: Sequence[Run]) -> str:
    """One sentence a corpus: the linear probe of every seed."""
    sentences = []
    for corpus in dict.fromkeys(run.corpus for run in runs):
        values = [100 * run.metrics["probe/linear"] for run in _by_seed(runs) if run.corpus == corpus]
        listed = ", ".join(f"{value:.1f}" for value in values)
        spread = f"{max(values) - min(values):.1f} points apart, mean {mean(values):.1f}"
        sentences.append(f"`{corpus}` {listed} ({spread})" if len(values) > 1 else f"`{corpus}` {listed}")
    return f"Linear probe by seed, from 0: {'; '.join(sentences)}."


def _conditions(first: Iterable[Run]) -> str:
    """What the figures depend on beside the seed: another of these rounds otherwise, and ends elsewhere."""
    told = dict.fromkeys(
        f"{run.result['device']}, {run.result['precision']}, torch {run.result['torch']}" for run in first
    )
    return f"Figures of {'; '.join(told)}."
