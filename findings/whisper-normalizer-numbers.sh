#!/usr/bin/env bash
# Whisper's English normaliser makes some opposite statements equal, and some equal ones different.
#
# Guess:    "minus five", "-5" and "-5.0" meet in one form, and no number changes its value; units stay.
# Versions: whisper-normalizer 0.1.15
# Instead:  a written minus is dropped ("-5 degrees" = "5 degrees") while a spoken one is kept, so "minus five" against
#           "-5" is an error. "1,5" becomes 15, "mm" counts as a filler and is dropped, "double o seven" and "007"
#           differ ("007" is 7), and "one half" against "1/2" is two words of error, as "1/2" becomes "one 2".
# Means:    on speech with measurements, scores or temperatures the rate is wrong in both directions. Look at the
#           normalised text of the numbers before trusting a difference of a tenth of a point.
# Seen:     2026-11-30
#           '-5 degrees' -> '5 degrees', '5 degrees' -> '5 degrees': equal
#           'a screw of 5 mm' -> 'a screw of 5', 'a screw of 5' -> 'a screw of 5': equal
#           '1,5 litres' -> '15 liters', '15 litres' -> '15 liters': equal
#           'C++ and C#' -> 'c and c', 'C and C' -> 'c and c': equal
#           'minus five degrees' -> '-5 degrees', '-5 degrees' -> '5 degrees': different
#           'one half' -> 'one half', '1/2' -> 'one 2': different
#           'double o seven' -> '007', '007' -> '7': different
#           'point five' -> '.5', '0.5' -> '0.5': different
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet whisper-normalizer==0.1.15
cd "$work"
venv/bin/python - <<'PY'
from whisper_normalizer.english import EnglishTextNormalizer

normal = EnglishTextNormalizer()
equal = [
    ("-5 degrees", "5 degrees"),
    ("a screw of 5 mm", "a screw of 5"),
    ("1,5 litres", "15 litres"),
    ("C++ and C#", "C and C"),
]
apart = [("minus five degrees", "-5 degrees"), ("one half", "1/2"), ("double o seven", "007"), ("point five", "0.5")]
ends = []
for wanted, pairs in ((True, equal), (False, apart)):
    for one, other in pairs:
        ends.append((normal(one) == normal(other)) == wanted)
        print(
            f"{one!r} -> {normal(one)!r}, {other!r} -> {normal(other)!r}: "
            f"{'equal' if normal(one) == normal(other) else 'different'}"
        )
raise SystemExit(0 if all(ends) else 1)
PY
