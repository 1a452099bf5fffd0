#!/usr/bin/env bash
# SentencePiece trains on none of the documents that are longer than 4,192 bytes.
#
# Guess:    a training text is counted whole; long lines cost memory at most.
# Versions: sentencepiece 0.2.3
# Instead:  a line (or an item of sentence_iterator) of more than 4,192 bytes is skipped. The log has a line for it,
#           which minloglevel=2 hides. With half of the corpus in Russian documents of 12,300 bytes, the model knows no
#           Cyrillic letter although character_coverage is 1.0: half of a Russian text's tokens are unknown. Cut into
#           pieces of 1,000 characters, none is.
# Means:    one document a line, the usual form of corpora, trains a tokenizer on its short documents alone; bytes
#           count, so other scripts than Latin are hit at half or a third of the length. Pass max_sentence_length, or
#           cut, and count the skipped lines.
# Seen:     2026-11-30
#           whole: documents of 12300 bytes, 16 pieces, 50% of their tokens unknown
#           cut: documents of 12300 bytes, 32 pieces, 0% of their tokens unknown
#           whole, longer limit: documents of 12300 bytes, 30 pieces, 0% of their tokens unknown
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet sentencepiece==0.2.3
cd "$work"
venv/bin/python - <<'PY'
import io

import sentencepiece

short = ["alpha beta gamma delta " * 5] * 200
long = ["кириллица слова здесь " * 300] * 200
cut = [text[start : start + 1000] for text in long for start in (0, 1000, 2000)]
unknown = {}
for name, texts, options in (
    ("whole", short + long, {}),
    ("cut", short + cut, {}),
    ("whole, longer limit", short + long, {"max_sentence_length": 20000}),
):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
        character_coverage=1.0,
        **options,
    )
    tokenizer = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    ids = tokenizer.encode(long[0])
    unknown[name] = ids.count(tokenizer.unk_id()) / len(ids)
    print(
        f"{name}: documents of {len(long[0].encode())} bytes, {tokenizer.vocab_size()} pieces, "
        f"{unknown[name]:.0%} of their tokens unknown"
    )
raise SystemExit(0 if unknown["whole"] > 0.4 and unknown["cut"] == unknown["whole, longer limit"] == 0 else 1)
PY
