"""`python -m tests.chaos`: all trials, one line each, and a page with the table of what came of them."""

from __future__ import annotations

import argparse
import os
import pickle
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: a fork of threads that wait would wait for ever


def main() -> int:
    """Exit code 0 if every trial held."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--modalities", nargs="+", default=["vision", "speech", "text"])
    parser.add_argument("--steps", nargs="+", default=None, help="the first steps of the way, such as: ingest prepare")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=1, help="only every so many-th trial")
    parser.add_argument("--ranks", type=int, default=8, help="trials of pretraining on two ranks")
    parser.add_argument("--write", type=Path, help="the page to write")
    options = parser.parse_args()

    import torch

    torch.set_num_threads(1)
    from tests.chaos.steps import STEPS
    from tests.chaos.trials import Bench, Outcome, plan, plan_of_ranks

    steps, began_s = options.steps or list(STEPS), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="d2v-chaos-") as scratch:

        def one(modality: str, place: Path) -> list[Outcome]:
            trials = [one for one in plan(options.modalities, steps, options.seed) if one.modality == modality]
            return _tried(Bench(modality, place, steps), trials[:: options.every])

        def two_ranks(place: Path) -> list[Outcome]:
            bench = Bench(options.modalities[0], place, ["ingest", "prepare", "pretrain"], ranks=2)
            return _tried(bench, plan_of_ranks(options.modalities[0], options.ranks, options.seed))

        jobs = [partial(one, modality) for modality in options.modalities] + [two_ranks] * bool(options.ranks)
        outcomes = _side_by_side(jobs, Path(scratch))
    page = report(outcomes, time.monotonic() - began_s, options.seed, options.modalities)
    print(page)
    if options.write:
        options.write.write_text(page)
    return int(any(one.problems for one in outcomes))


def _tried(bench: Any, trials: Sequence[Any]) -> list[Any]:
    outcomes = []
    for trial in trials:
        outcomes.append(bench.try_out(trial))
        print(_line(outcomes[-1]), flush=True)
    return outcomes


def _side_by_side(jobs: Sequence[Callable[[Path], list[Any]]], scratch: Path) -> list[Any]:
    """What some jobs return, each in a fork of this process with a folder of its own."""
    started = []
    for number, job in enumerate(jobs):
        place = scratch / str(number)
        place.mkdir()
        pid = os.fork()
        if not pid:
            code = 1
            try:
                (scratch / f"{number}.outcomes").write_bytes(pickle.dumps(job(place)))
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        started.append((pid, scratch / f"{number}.outcomes"))
    ends = [os.waitpid(pid, 0)[1] for pid, _ in started]
    if any(ends):
        raise SystemExit("some trials could not be made; see above")
    return [outcome for _, file in started for outcome in pickle.loads(file.read_bytes())]


def _line(outcome: Any) -> str:
    trial = outcome.trial
    state = "held" if not outcome.problems else "BROKE " + "; ".join(outcome.problems[:4])
    return f"{trial.modality:7} {trial.step:9} {trial.disturbance:28} {trial.seed:6} {outcome.first:32} {state}"


TRIAL = (Path(__file__).parent / "page.md").read_text()


def report(outcomes: Sequence[Any], seconds: float, seed: int, modalities: Sequence[str]) -> str:
    """The page of all `trials.Outcome`: one row a disturbance, one column a step, `held / tried`."""
    from tests.chaos.steps import STEPS

    held, tried, ends = Counter[tuple[str, str]](), Counter[tuple[str, str]](), dict[str, Counter[str]]()
    for one in outcomes:
        cell = (one.trial.disturbance, one.trial.step)
        tried[cell] += 1
        held[cell] += not one.problems
        ends.setdefault(one.trial.disturbance, Counter())[one.first] += 1
    lines = [
        "# Trials of disturbed steps",
        "",
        f"Written by `make chaos` (seed {seed}): **{sum(held.values())} of {sum(tried.values())} trials held**, in "
        f"{seconds / 60:.0f} minutes beside other work. Modalities: {', '.join(modalities)}.",
        "",
        TRIAL,
        "| disturbance | " + " | ".join(STEPS) + " | how the disturbed step ended |",
        "|---|" + "---|" * (len(STEPS) + 1),
    ]
    for disturbance, ended in ends.items():
        cells = [(disturbance, step) for step in STEPS]
        counts = [f"{held[cell]} / {tried[cell]}" if tried[cell] else "" for cell in cells]
        words = ", ".join(f"{word} {number}" for word, number in ended.most_common())
        lines.append(f"| {disturbance} | " + " | ".join(counts) + f" | {words} |")
    broken = [one for one in outcomes if one.problems]
    if broken:
        lines += ["", "What broke:", "", *(f"- {_line(one)}" for one in broken)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
