#!/usr/bin/env bash
# Four libraries agree on the word error rate to the last digit, and give three different error breakdowns.
#
# Guess:    the same rate from the same pairs means the same numbers of substitutions, deletions and insertions.
# Versions: jiwer 4.0.0, kaldialign 0.12.0, meeteval 0.4.3, werpy 3.5.0
# Instead:  several alignments have the least cost ("a b" against "b c": two substitutions, or one deletion and one
#           insertion), and each library takes another. Over 2,000 pairs jiwer counts 6 % more substitutions than
#           kaldialign and meeteval and 6 % fewer insertions; werpy 12 % more and 14 % fewer.
# Means:    "fewer deletions than the baseline" can be a change of library. Confusion tables and deletion-tuned word
#           penalties do not carry over. Compare breakdowns only between runs of one library, or report the total alone.
# Seen:     2026-11-30
#           jiwer      rate 0.2591: 3388 substituted, 1765 deleted, 1315 inserted
#           kaldialign rate 0.2591: 3142 substituted, 1888 deleted, 1438 inserted
#           meeteval   rate 0.2591: 3142 substituted, 1888 deleted, 1438 inserted
#           werpy      rate 0.2591: 3558 substituted, 1680 deleted, 1230 inserted
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet jiwer==4.0.0 kaldialign==0.12.0 werpy==3.5.0 meeteval==0.4.3
cd "$work"
venv/bin/python - <<'PY'
import random

import jiwer
import kaldialign
import meeteval
import werpy

draw = random.Random(0)
words = [f"w{number}" for number in range(200)]
references, hypotheses = [], []
for _ in range(2000):
    reference = draw.choices(words, k=draw.randint(5, 20))
    hypothesis = []
    for word in reference:
        chance = draw.random()
        if chance < 0.08:
            continue
        hypothesis.append(draw.choice(words) if chance < 0.2 else word)
        if chance >= 0.2 and draw.random() < 0.08:
            hypothesis.append(draw.choice(words))
    references.append(" ".join(reference))
    hypotheses.append(" ".join(hypothesis))

total = sum(len(reference.split()) for reference in references)
one = jiwer.process_words(references, hypotheses)
counts = {"jiwer": (one.substitutions, one.deletions, one.insertions)}
pairs = list(zip(references, hypotheses))
parts = [kaldialign.edit_distance(reference.split(), hypothesis.split()) for reference, hypothesis in pairs]
counts["kaldialign"] = tuple(sum(part[name] for part in parts) for name in ("sub", "del", "ins"))
parts = [meeteval.wer.wer.siso.siso_word_error_rate(reference, hypothesis) for reference, hypothesis in pairs]
counts["meeteval"] = tuple(
    sum(getattr(part, name) for part in parts) for name in ("substitutions", "deletions", "insertions")
)
table = werpy.summary(references, hypotheses)
counts["werpy"] = tuple(int(table[name].sum()) for name in ("substitutions", "deletions", "insertions"))
for name, (substitutions, deletions, insertions) in counts.items():
    rate = (substitutions + deletions + insertions) / total
    print(f"{name:10} rate {rate:.4f}: {substitutions} substituted, {deletions} deleted, {insertions} inserted")
same_rate = len({sum(count) for count in counts.values()}) == 1
raise SystemExit(0 if same_rate and len(set(counts.values())) == 3 else 1)
PY
