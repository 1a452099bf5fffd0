#!/usr/bin/env bash
# A BPE tokenizer of tokenizers without an unknown token leaves unknown letters out, and a text may become nothing at all.
#
# Guess:    without a token for what it does not know it raises, as the library's WordLevel does.
# Versions: tokenizers 0.23.3
# Instead:  the letters are skipped without a word: "kat" becomes "at", another text's tokens with another text's meaning, "12"
#           becomes no token. unk_token is None by default, and so is the trainer's special token. With byte_fallback or ByteLevel
#           nothing is lost; with unk_token="[UNK]" there is a token to count.
# Means:    a tokenizer trained on one corpus reads others with holes; lengths, perplexities and rates of unknown tokens look better
#           the more is missing. Compare decode(encode(text)) with the text once per corpus.
# Seen:     2026-11-30
#           BPE without unk_token: "the kat" -> ['the', 'at'], "12" -> []
#           BPE with unk_token: "the kat" -> ['the', '[UNK]', 'at'], "12" -> ['[UNK]', '[UNK]']
#           WordLevel without unk_token: "the kat" -> Exception, "12" -> Exception
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet tokenizers==0.23.3
cd "$work"
venv/bin/python - <<'PY'
from tokenizers import Tokenizer, models, pre_tokenizers, trainers


def trained(model, trainer) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(["the cat sat on the mat"] * 10, trainer)
    return tokenizer


def tokens(tokenizer: Tokenizer, text: str) -> str:
    try:
        return str(tokenizer.encode(text).tokens)
    except Exception as error:
        return type(error).__name__


unknown = {"special_tokens": ["[UNK]"], "show_progress": False}
seen = []
for name, tokenizer in (
    ("BPE without unk_token", trained(models.BPE(), trainers.BpeTrainer(show_progress=False))),
    ("BPE with unk_token", trained(models.BPE(unk_token="[UNK]"), trainers.BpeTrainer(**unknown))),
    ("WordLevel without unk_token", trained(models.WordLevel(), trainers.WordLevelTrainer(show_progress=False))),
):
    seen.append([tokens(tokenizer, "the kat"), tokens(tokenizer, "12")])
    print(f'{name}: "the kat" -> {seen[-1][0]}, "12" -> {seen[-1][1]}')
raise SystemExit(
    0
    if seen[0] == ["['the', 'at']", "[]"]
    and seen[1] == ["['the', '[UNK]', 'at']", "['[UNK]', '[UNK]']"]
    and seen[2] == ["Exception", "Exception"]
    else 1
)
PY
