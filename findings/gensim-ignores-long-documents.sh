#!/usr/bin/env bash
# gensim's Word2Vec trains on the first 10,000 words of a document and counts the rest as seen.
#
# Guess:    a document may be as long as it likes, since the window is five words.
# Versions: gensim 4.4.0, numpy 2.3.5
# Instead:  of a document of 50,000 words the last 40,000 are in the vocabulary and in the counts, but never trained:
#           their vectors stay at the random start, bit for bit. The return value (50,000 trained, 250,000 raw, in 5
#           epochs) shows it to who divides; the same words in ten lists are all trained. No warning.
# Means:    books, transcripts of meetings and code files given as one list of words lose most of their text, and words
#           of their later parts have random neighbours. Cut documents into sentences or blocks first.
# Seen:     2026-11-30
#           one document: 50000 of 250000 words trained; vectors that moved: early 100%, late 0%
#           ten blocks: 250000 of 250000 words trained; vectors that moved: early 100%, late 100%
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet gensim==4.4.0 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
from gensim.models import Word2Vec

document = [f"early{number % 50}" for number in range(10_000)] + [f"late{number % 50}" for number in range(40_000)]
blocks = [document[start : start + 5000] for start in range(0, 50_000, 5000)]
moved = {}
for name, texts in (("one document", [document]), ("ten blocks", blocks)):
    model = Word2Vec(vector_size=16, min_count=1, seed=1, workers=1, sample=0)
    model.build_vocab(texts)
    before = model.wv.vectors.copy()
    trained, raw = model.train(texts, total_examples=len(texts), epochs=5)
    change = np.abs(model.wv.vectors - before).max(1)
    for part in ("early", "late"):
        moved[name, part] = np.mean([change[model.wv.key_to_index[f"{part}{number}"]] > 0 for number in range(50)])
    print(
        f"{name}: {trained} of {raw} words trained; vectors that moved: early {moved[name, 'early']:.0%}, late "
        f"{moved[name, 'late']:.0%}"
    )
raise SystemExit(0 if list(moved.values()) == [1, 0, 1, 1] else 1)
PY
