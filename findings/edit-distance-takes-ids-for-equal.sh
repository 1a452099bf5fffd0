#!/usr/bin/env bash
# The edit distance between the ids -1 and -2 is 0 in editdistance, and between -1.0 and -2.0 in rapidfuzz.
#
# Guess:    sequences of anything hashable are compared by ==, so [-1] and [-2] are one substitution apart.
# Versions: editdistance 0.8.1, rapidfuzz 3.14.6
# Instead:  both compare hashes alone, and Python's hash of -1 is that of -2. rapidfuzz takes whole numbers as they are,
#           but not floats, nor tuples, nor anything else, where -1 and -2 are still equal.
# Means:    error rates over label ids with negative special values (-1 padding, -2 unknown), over scores, or over
#           (speaker, class) pairs come out too low. Map labels to 0, 1, 2, ... first, as jiwer does for words.
# Seen:     2026-12-01
#           whole numbers: editdistance 0, rapidfuzz 1
#           floats: editdistance 0, rapidfuzz 0
#           pairs: editdistance 0, rapidfuzz 0
#           other numbers: editdistance 1, rapidfuzz 1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet editdistance==0.8.1 rapidfuzz==3.14.6
cd "$work"
venv/bin/python - <<'PY'
import editdistance
from rapidfuzz.distance import Levenshtein

cases = {
    "whole numbers": ([-1, 5, 7], [-2, 5, 7]),
    "floats": ([-1.0, 5.0, 7.0], [-2.0, 5.0, 7.0]),
    "pairs": ([(3, -1), (3, 5)], [(3, -2), (3, 5)]),
    "other numbers": ([1, 5, 7], [2, 5, 7]),
}
seen = {}
for name, (left, right) in cases.items():
    seen[name] = editdistance.eval(left, right), Levenshtein.distance(left, right)
    print(f"{name}: editdistance {seen[name][0]}, rapidfuzz {seen[name][1]}")
expected = {"whole numbers": (0, 1), "floats": (0, 0), "pairs": (0, 0), "other numbers": (1, 1)}
raise SystemExit(0 if seen == expected else 1)
PY
