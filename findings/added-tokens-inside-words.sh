#!/usr/bin/env bash
# A word that is added to a tokenizer is cut out of the middle of other words: "art" makes "party" into p, art, y.
#
# Guess:    add_tokens(["art"]) adds a word; texts without it are tokenised as before, whatever the pre-tokenizer cuts at.
# Versions: tokenizers 0.23.3
# Instead:  added tokens are looked for in the raw text before anything else, at any place. "party" was one token and is three,
#           "start" is two; the decoder then puts a blank between them. AddedToken("art", single_word=True) is what was meant.
# Means:    adding the words of a domain changes the tokens of ordinary words, and sends a trained model sequences that it has not
#           seen; the worse, the shorter the word (units, abbreviations, names of notes).
# Seen:     2026-11-30
#           before: ['party', 'start'], decoded 'party start'
#           art: ['p', 'art', 'y', 'st', 'art'], decoded 'p art y st art'
#           art, single_word: ['party', 'start'], decoded 'party start'
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet tokenizers==0.23.3
cd "$work"
venv/bin/python - <<'PY'
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers


def trained() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    lines = ["party start smart the part"] * 20
    tokenizer.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=80, show_progress=False))
    return tokenizer


text, seen = "party start", []
for name, token in (("before", None), ("art", "art"), ("art, single_word", AddedToken("art", single_word=True))):
    tokenizer = trained()
    if token is not None:
        tokenizer.add_tokens([token])
    encoded = tokenizer.encode(text)
    seen.append(encoded.tokens)
    print(f"{name}: {encoded.tokens}, decoded {tokenizer.decode(encoded.ids)!r}")
words = ["party", "start"]
raise SystemExit(0 if seen == [words, ["p", "art", "y", "st", "art"], words] else 1)
PY
