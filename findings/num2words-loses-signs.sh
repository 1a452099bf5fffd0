#!/usr/bin/env bash
# num2words says -0.5 like 0.5, in seven languages of eleven; Persian says 1.5, 1.05 and 1.005 alike.
#
# Guess:    different numbers are different words: the sign is said, and so are the zeros after the point.
# Versions: num2words 0.5.14
# Instead:  the sign is taken from the whole part, and int(-0.5) is 0, so it is lost between -1 and 0. Four languages
#           with a way of their own round to two places, or read hundredths as tenths.
# Means:    transcripts made for speech synthesis, and references made for word error rates, say the opposite of the
#           text or another number, without an error. Say the sign yourself and pass the absolute value.
# Seen:     2026-12-01
#           -0.5 is 0.5 in: en de fr es pt nl pl; in English: zero point five
#           -1.5 in English: minus one point five
#           fa: 1.5, 1.05, 1.005, 1: یک و نیم, یک و نیم, یک و نیم, یک
#           vi: 1.5, 1.05, 1.005, 1: một phẩy năm mươi, một phẩy năm, một, một
#           tr: 1.5, 1.05, 1.005, 1: birvirgülelli, birvirgülbeş, birvirgül, bir
#           ar: 1.5, 1.05, 1.005, 1: واحد  , خمسون, واحد  , خمس, واحد, واحد
#           en: 1.5, 1.05, 1.005, 1: one point five, one point zero five, one point zero zero five, one
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet num2words==0.5.14
cd "$work"
venv/bin/python - <<'PY'
from num2words import num2words

LANGUAGES = ("en", "de", "fr", "es", "pt", "nl", "pl", "it", "hu", "th", "id")
unsigned = [language for language in LANGUAGES if num2words(-0.5, lang=language) == num2words(0.5, lang=language)]
print(f"-0.5 is 0.5 in: {' '.join(unsigned)}; in English: {num2words(-0.5)}")
print(f"-1.5 in English: {num2words(-1.5)}")
for language in ("fa", "vi", "tr", "ar", "en"):
    words = [num2words(number, lang=language) for number in (1.5, 1.05, 1.005, 1)]
    print(f"{language}: 1.5, 1.05, 1.005, 1: {', '.join(words)}")
persian = {num2words(number, lang="fa") for number in (1.5, 1.05, 1.005)}
rounded = [language for language in ("vi", "ar") if num2words(1.005, lang=language) == num2words(1, lang=language)]
lost = len(unsigned) == 7 and {"en", "de", "fr", "es"} <= set(unsigned) and num2words(-1.5).startswith("minus")
raise SystemExit(0 if lost and len(persian) == 1 and len(rounded) == 2 else 1)
PY
