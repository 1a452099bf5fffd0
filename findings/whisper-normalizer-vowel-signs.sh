#!/usr/bin/env bash
# Whisper's basic text normaliser erases vowel signs: different Hindi words become equal, and one word becomes two.
#
# Guess:    with remove_diacritics=False (the default) letters and their marks stay; punctuation and case go.
# Versions: whisper-normalizer 0.1.15, jiwer 4.0.0
# Instead:  every combining mark becomes a space. In Hindi, Tamil or Thai the marks are vowels and tones: the genitive
#           for a feminine and a masculine noun are one, "day" and "donation" are one. A sentence with 6 of 8 words
#           wrong scores WER 0, and the same 8 words count as 14.
# Means:    published rates for Indic, Thai and Arabic-with-vowels under this normaliser are far too good and not
#           comparable with others, and a system that drops vowels is not punished. Normalise with NFC and a list of
#           punctuation for these scripts.
# Seen:     2026-11-30
#           reference  दिन की बात और काम का फल कुल
#           hypothesis दान का बीत और कीम की फल कुल
#           normalised: 'द न क ब त और क म क फल क ल', the other equal: True
#           words 8, after 12; WER 0.625, after 0.000
#           two Thai words that differ by tone alone are equal: True
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet whisper-normalizer==0.1.15 jiwer==4.0.0
cd "$work"
venv/bin/python - <<'PY'
import jiwer
from whisper_normalizer.basic import BasicTextNormalizer

normal = BasicTextNormalizer()
reference = "दिन की बात और काम का फल कुल"
hypothesis = "दान का बीत और कीम की फल कुल"
plain = jiwer.wer(reference, hypothesis)
made = [normal(text).strip() for text in (reference, hypothesis)]
after = jiwer.wer(*made)
print(f"reference  {reference}\nhypothesis {hypothesis}")
print(f"normalised: {made[0]!r}, the other equal: {made[0] == made[1]}")
print(f"words {len(reference.split())}, after {len(made[0].split())}; WER {plain:.3f}, after {after:.3f}")
tone = normal("ฝ่าย") == normal("ฝ้าย")
print(f"two Thai words that differ by tone alone are equal: {tone}")
raise SystemExit(0 if plain > 0.5 and after == 0 and tone else 1)
PY
