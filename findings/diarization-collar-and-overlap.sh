#!/usr/bin/env bash
# Two diarisation scorers: the same collar of 0.25 s removes half as much in one, and one charges a speaker for overlapping himself.
#
# Guess:    collar=0.25 means 0.25 s on both sides of a boundary in every scorer, as in NIST's evaluations; two segments
#           of one speaker that overlap are that speaker speaking.
# Versions: pyannote.metrics 4.2.0, spy-der 0.4.1
# Instead:  pyannote removes 0.125 s on both sides. A boundary 0.2 s off costs 0.38 % there and nothing in spyder; only
#           collar=0.5 gives spyder's value. Segments 0-10 and 5-15 of speaker A against one segment 0-15: pyannote
#           misses 25 %, spyder 0.
# Means:    rates "with the usual collar" from the two tools are not comparable, and references joined from several
#           annotators or windows are scored against a ceiling. Double the collar in pyannote, and merge the turns of
#           each speaker (Annotation.support()) first.
# Seen:     2026-11-30
#           boundary 0.2 s late, collar 0.0: pyannote 1.00%, spyder 1.00%
#           boundary 0.2 s late, collar 0.1: pyannote 0.76%, spyder 0.51%
#           boundary 0.2 s late, collar 0.25: pyannote 0.38%, spyder 0.00%
#           boundary 0.2 s late, collar 0.5: pyannote 0.00%, spyder 0.00%
#           one speaker in two overlapping segments: pyannote 25.00%, spyder 0.00%
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pyannote.metrics==4.2.0 spy-der==0.4.1
cd "$work"
venv/bin/python - <<'PY'
import spyder
from pyannote.core import Annotation, Segment
from pyannote.metrics.diarization import DiarizationErrorRate


def both(reference, hypothesis, collar):
    made = []
    for turns in (reference, hypothesis):
        annotation = Annotation()
        for number, (speaker, start, end) in enumerate(turns):
            annotation[Segment(start, end), number] = speaker
        made.append(annotation)
    one = DiarizationErrorRate(collar=collar)(*made)
    return float(one), float(spyder.DER(reference, hypothesis, collar=collar, regions="all").der)


reference = [("A", 0.0, 10.0), ("B", 10.0, 20.0)]
late = [("x", 0.0, 10.2), ("y", 10.2, 20.0)]
seen = {collar: both(reference, late, collar) for collar in (0.0, 0.1, 0.25, 0.5)}
for collar, (one, other) in seen.items():
    print(f"boundary 0.2 s late, collar {collar}: pyannote {one:.2%}, spyder {other:.2%}")
overlapping = both([("A", 0.0, 10.0), ("A", 5.0, 15.0)], [("x", 0.0, 15.0)], 0.0)
print(f"one speaker in two overlapping segments: pyannote {overlapping[0]:.2%}, spyder {overlapping[1]:.2%}")
right = seen[0.25][0] > 0.003 and seen[0.25][1] == 0 and seen[0.5][0] == 0
raise SystemExit(0 if right and abs(overlapping[0] - 0.25) < 1e-6 and overlapping[1] == 0 else 1)
PY
