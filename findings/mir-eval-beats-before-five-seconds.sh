#!/usr/bin/env bash
# mir_eval.beat.evaluate gives a perfect answer 0 when the clip is shorter than five seconds.
#
# Guess:    beats compared with themselves score 1 in every metric; evaluate() only calls the metrics one after another.
# Versions: mir_eval 0.8.2, numpy 2.3.5
# Instead:  evaluate() first drops all beats before 5.0 s, of the reference and of the estimate; the metrics called
#           alone do not. A clip of 4.9 s scores 0 everywhere (with a warning), a clip of 6 s is judged by its last
#           second alone.
# Means:    data cut into short clips for training gets meaningless beat scores, whose mean over a corpus mixes zeros
#           with scores of a clip's tail; the same metric called by its own name gives other numbers. Give clips their
#           time in the whole piece, or call the metrics one by one.
# Seen:     2026-11-30
#           4.9 s, all right: evaluate 0.0, f_measure 1.0
#           6 s, wrong for five of them: evaluate 1.0, f_measure 0.17
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet mir_eval==0.8.2 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import warnings

import mir_eval
import numpy as np

warnings.simplefilter("ignore")
short = np.arange(0, 4.9, 0.5)
evaluated, alone = mir_eval.beat.evaluate(short, short)["F-measure"], mir_eval.beat.f_measure(short, short)
print(f"4.9 s, all right: evaluate {evaluated}, f_measure {alone}")
reference = np.arange(0, 6, 0.5)
wrong = np.where(reference < 5, reference + 0.25, reference)
tail, whole = mir_eval.beat.evaluate(reference, wrong)["F-measure"], mir_eval.beat.f_measure(reference, wrong)
print(f"6 s, wrong for five of them: evaluate {tail}, f_measure {whole:.2f}")
raise SystemExit(0 if evaluated == 0 and alone == 1 and tail == 1 and whole < 0.5 else 1)
PY
