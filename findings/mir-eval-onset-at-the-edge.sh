#!/usr/bin/env bash
# mir_eval calls the same onsets right in one function and partly wrong in another.
#
# Guess:    an onset exactly on the 50 ms tolerance is always a hit, or always a miss.
# Versions: mir_eval 0.8.2, numpy 2.3.5
# Instead:  mir_eval.onset compares float differences as they are, so of 1,000 onsets on a 10 ms grid that are 50 ms
#           late, 74 are misses by rounding (0.42 - 0.37 is not 0.05). mir_eval.transcription rounds the differences
#           first and finds all.
# Means:    estimates on a frame grid sit on that edge often. The F-measure moves by several points with the offset of
#           the clip, and differs between the onset and the note table of one paper. Pass window=0.0501 where the grid
#           is 10 ms.
# Seen:     2026-11-30
#           onset F 0.926; one second later 0.925; window 0.0501: 1.000; note onset F 1.000
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet mir_eval==0.8.2 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import mir_eval
import numpy as np

reference = np.round(0.37 * np.arange(1, 1001), 2)
late = np.round(reference + 0.05, 2)
onset = mir_eval.onset.f_measure(reference, late)[0]
wide = mir_eval.onset.f_measure(reference, late, window=0.0501)[0]
intervals = [np.stack([times, times + 0.2], 1) for times in (reference, late)]
note = mir_eval.transcription.onset_precision_recall_f1(*intervals)[2]
shifted = mir_eval.onset.f_measure(reference + 1.01, late + 1.01)[0]
print(f"onset F {onset:.3f}; one second later {shifted:.3f}; window 0.0501: {wide:.3f}; note onset F {note:.3f}")
raise SystemExit(0 if 0.5 < onset < 0.99 and note == 1 and wide == 1 else 1)
PY
