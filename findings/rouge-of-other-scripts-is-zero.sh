#!/usr/bin/env bash
# rouge-score gives a perfect answer 0 if it is written in Hindi, Russian, Greek or Japanese.
#
# Guess:    a text has ROUGE 1 against itself; words are what stands between blanks, in any script.
# Versions: rouge-score 0.1.2, jiwer 4.0.0
# Instead:  everything but a to z and 0 to 9 is taken for a blank. A text without those has no words and scores 0, right or wrong;
#           in mixed text only numbers and Latin words count, so two sentences that share a year are equal. German and French words
#           fall to pieces at their accents: "schön" and "schüssel" share the word "sch". No warning.
# Means:    the mean over a multilingual test set has zeros for whole languages, and ones for sentences that share no more than a
#           number. Pass a tokenizer of your own to RougeScorer.
# Seen:     2026-11-30
#           the same twice, Russian: 0.00, Hindi: 0.00, Greek: 0.00, Japanese: 0.00, German: 1.00
#           "родился в Москве в 1999" against "умер в Риме в 1999": 1.00, word error rate 0.40
#           schön against schüssel: 0.50
#           a tokenizer at blanks: 1.00, 1.00, 1.00, 1.00, 1.00
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet rouge-score==0.1.2 jiwer==4.0.0
cd "$work"
venv/bin/python - <<'PY'
import jiwer
from rouge_score.rouge_scorer import RougeScorer


class Blanks:
    def tokenize(self, text: str) -> list[str]:
        return text.split()


texts = {
    "Russian": "привет мир как дела",
    "Hindi": "मेरा नाम राम है",
    "Greek": "καλημέρα κόσμε",
    "Japanese": "今日は いい 天気 です",
    "German": "schöne Grüße aus Köln",
}
plain, own = RougeScorer(["rouge1"]), RougeScorer(["rouge1"], tokenizer=Blanks())


def score(one: str, other: str, scorer: RougeScorer = plain) -> float:
    return round(scorer.score(one, other)["rouge1"].fmeasure, 2)


same = {name: score(text, text) for name, text in texts.items()}
print("the same twice,", ", ".join(f"{name}: {value:.2f}" for name, value in same.items()))
born, died = "родился в Москве в 1999", "умер в Риме в 1999"
years, errors = score(born, died), jiwer.wer(born, died)
print(f'"{born}" against "{died}": {years:.2f}, word error rate {errors:.2f}')
parts = score("schön", "schüssel")
print(f"schön against schüssel: {parts:.2f}")
blanks = [score(text, text, own) for text in texts.values()]
print("a tokenizer at blanks:", ", ".join(f"{value:.2f}" for value in blanks))
raise SystemExit(0 if [*same.values()] == [0, 0, 0, 0, 1] and (years, parts) == (1, 0.5) and blanks == [1] * 5 else 1)
PY
