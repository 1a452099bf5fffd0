#!/usr/bin/env bash
# Adding a constant to all scores changes pytrec_eval's result: it ranks in float32, and what is alike then by name.
#
# Guess:    only the order of the scores counts. They are Python floats, so a difference of 0.001 at 30,000 is kept.
# Versions: pytrec-eval-terrier 0.5.11, numpy 2.3.5
# Instead:  scores are narrowed to float32, whose neighbours are 0.002 apart there and 6e-8 below 1. What falls together
#           is ordered by the document's name, last first, whatever the order in the dictionary.
# Means:    log-likelihoods of long texts, or cosines of near duplicates, are ranked by file name. A perfect run gets a
#           reciprocal rank below 1, or, if the names fall well, a bad one too much. Pass ranks: score = -position.
# Seen:     2026-12-01
#           log-likelihoods -1, -1.0001, ...: reciprocal rank 1.00
#           the same less 30,000: reciprocal rank 0.10
#           cosines 1, 1 - 1e-6, ...: reciprocal rank 1.00
#           cosines 1, 1 - 1e-8, ...: reciprocal rank 0.33
#           minus the position: reciprocal rank 1.00
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pytrec-eval-terrier==0.5.11 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import pytrec_eval

names = [f"doc{i}" for i in range(10)]
evaluator = pytrec_eval.RelevanceEvaluator({"query": {"doc0": 1}}, {"recip_rank"})


def reciprocal_rank(scores: list[float]) -> float:
    return evaluator.evaluate({"query": dict(zip(names, scores, strict=True))})["query"]["recip_rank"]


found = {
    "log-likelihoods -1, -1.0001, ...": reciprocal_rank([-1 - 1e-4 * i for i in range(10)]),
    "the same less 30,000": reciprocal_rank([-30_001 - 1e-4 * i for i in range(10)]),
    "cosines 1, 1 - 1e-6, ...": reciprocal_rank([1 - 1e-6 * i for i in range(10)]),
    "cosines 1, 1 - 1e-8, ...": reciprocal_rank([1 - 1e-8 * i for i in range(10)]),
    "minus the position": reciprocal_rank([-i for i in range(10)]),
}
for name, value in found.items():
    print(f"{name}: reciprocal rank {value:.2f}")
values = list(found.values())
raise SystemExit(0 if values[0] == values[2] == values[4] == 1 and max(values[1], values[3]) < 0.6 else 1)
PY
