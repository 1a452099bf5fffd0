"""How much of the targets is position over the updates of some runs: the plot of docs/position.md.

python -m benchmarks.position docs/pictures/position.png "both 0.02=runs/old-0,runs/old-1" "words 1.0=runs/new-0"
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from d2v.training.history import History

METRICS = {
    "train/target_position_share": "share of target variance from position alone",
    "train/predicted_beyond_position": "share predicted beyond position",
}


def curves(run: Path, metric: str) -> tuple[list[float], list[float]]:
    """Updates and values of a metric in a run folder; rows without it are left out."""
    rows = [row for row in History.read(run / "history.csv").rows if metric in row]
    return [row["update"] for row in rows], [row[metric] for row in rows]


def draw(groups: dict[str, Sequence[Path]], path: Path) -> None:
    """One panel a metric, one colour a group, one line a run.

    Args:
        groups: label -> run folders, such as the seeds of a recipe.
        path: PNG file.
    """
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    for axes, (metric, title) in zip(figure.subplots(1, len(METRICS)), METRICS.items(), strict=True):
        for number, (label, runs) in enumerate(groups.items()):
            for run in runs:
                axes.plot(*curves(run, metric), color=f"C{number}", label=label if run == runs[0] else None)
        axes.set(title=title, xlabel="updates", ylim=(-0.05, 1.0))
        axes.grid(alpha=0.3)
    figure.axes[0].axhline(0.3, color="0.4", linestyle=":", linewidth=1)
    figure.axes[0].legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the runs that the command line names."""
    parser = argparse.ArgumentParser(description="Position in the targets over the updates of some runs.")
    parser.add_argument("out", type=Path, help="PNG file")
    parser.add_argument("groups", nargs="+", help="label=run folder,run folder,...")
    given = parser.parse_args(arguments)
    parted = (group.rpartition("=") for group in given.groups)
    draw({label: [Path(run) for run in runs.split(",")] for label, _, runs in parted}, given.out)


if __name__ == "__main__":
    main()
