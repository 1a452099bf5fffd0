#!/usr/bin/env bash
# WordPiece trained twice on the same lines with the same settings gives the same words other ids.
#
# Guess:    training by counting has no chance in it: the same text gives the same vocabulary file, as with the library's BPE.
# Versions: tokenizers 0.23.3
# Instead:  the same 800 pieces come out each time, some 20 of them (single letters and ties in frequency) under exchanged ids, in
#           one process as in two. Nine lines of ten encode to other ids. BPE and WordLevel repeat exactly. There is no seed.
# Means:    a tokenizer that is trained anew "because it is reproducible" does not fit yesterday's checkpoint, and nothing shows it:
#           sizes, special tokens and pieces are equal. Store the tokenizer's file with the model, or set the ids by a sorted list
#           of pieces.
# Seen:     2026-11-30 (the numbers of the first line vary)
#           WordPiece: same pieces True, 9 of 800 with another id, 2769 of 3000 lines encode otherwise
#           BPE: same pieces True, 0 with another id; WordLevel: same pieces True, 0 with another id
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet tokenizers==0.23.3
cd "$work"
venv/bin/python - <<'PY'
import random

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

chance = random.Random(0)
words = ["".join(chance.choices("abcdef", k=chance.randint(2, 7))) for _ in range(24_000)]
lines = [" ".join(words[start : start + 8]) for start in range(0, len(words), 8)]


def trained(kind: str) -> Tokenizer:
    tokenizer = Tokenizer(getattr(models, kind)(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = getattr(trainers, kind.replace("BPE", "Bpe") + "Trainer")(vocab_size=800, special_tokens=["[UNK]"], show_progress=False)
    tokenizer.train_from_iterator(lines, trainer)
    return tokenizer


def compared(kind: str) -> tuple[bool, int, int]:
    one, other = trained(kind), trained(kind)
    ids, again = one.get_vocab(), other.get_vocab()
    moved = sum(number != again.get(piece) for piece, number in ids.items())
    return {*ids} == {*again}, moved, sum(one.encode(line).ids != other.encode(line).ids for line in lines)


pieces, moved, different = compared("WordPiece")
print(f"WordPiece: same pieces {pieces}, {moved} of 800 with another id, {different} of {len(lines)} lines encode otherwise")
others = {kind: compared(kind) for kind in ("BPE", "WordLevel")}
print("; ".join(f"{kind}: same pieces {same}, {moved} with another id" for kind, (same, moved, _) in others.items()))
raise SystemExit(0 if pieces and moved and different > 100 and set(others.values()) == {(True, 0, 0)} else 1)
PY
