#!/usr/bin/env bash
# transformers' CTC tokenizer does not read its own ids: "hello all" comes back as "helo al".
#
# Guess:    decode(tokenizer(text).input_ids) is the text, as with other tokenizers of transformers.
# Versions: transformers 5.24.0
# Instead:  decode takes any ids for a model's output by frames and joins equal neighbours, also those of a transcript, which has no
#           blanks between them. A capital letter that is not in the vocabulary is not lowered by default but becomes <unk>.
# Means:    word error rates of a fine-tuning come out wrong in the reference: a model that is right on "hello" is charged an error,
#           one that writes "helo" is praised. decode(ids, group_tokens=False) for labels, grouping for predictions only.
# Seen:     2026-11-30
#           decode: 'helo al', batch_decode: ['helo al'], group_tokens=False: 'hello all'
#           Hello: '<unk>elo'
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet transformers==5.24.0
cd "$work"
venv/bin/python - 2> /dev/null <<'PY'
import json

from transformers import Wav2Vec2CTCTokenizer

tokens = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefghijklmnopqrstuvwxyz"]
with open("vocab.json", "w") as file:
    json.dump({token: number for number, token in enumerate(tokens)}, file)
tokenizer = Wav2Vec2CTCTokenizer("vocab.json")
ids = tokenizer("hello all").input_ids
assert [tokens[number] for number in ids] == list("hello|all")
one, many, labels = tokenizer.decode(ids), tokenizer.batch_decode([ids]), tokenizer.decode(ids, group_tokens=False)
print(f"decode: {one!r}, batch_decode: {many}, group_tokens=False: {labels!r}")
capital = tokenizer.decode(tokenizer("Hello").input_ids)
print(f"Hello: {capital!r}")
raise SystemExit(0 if (one, many, labels, capital) == ("helo al", ["helo al"], "hello all", "<unk>elo") else 1)
PY
