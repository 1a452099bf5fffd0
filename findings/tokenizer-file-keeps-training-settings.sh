#!/usr/bin/env bash
# A tokenizer file keeps the dropout and the truncation of training, and its two readers obey different ones.
#
# Guess:    BPE dropout and enable_truncation are settings of the training program; the file holds vocabulary and rules.
# Versions: tokenizers 0.23.3, transformers 5.24.0
# Instead:  both are in the JSON. Tokenizer.from_file truncates to 16 and pads to 20 for ever; PreTrainedTokenizerFast on the same file
#           gives all ids. Dropout is applied by both on each encode: one sentence comes out in several forms in ten calls, and
#           there is no evaluation mode.
# Means:    a service cuts inputs at the training length that its tests with transformers never met, and embeddings and cached ids
#           change from call to call. Before saving: no_truncation(), no_padding(), model.dropout = None.
# Seen:     2026-11-30
#           ids of one text: tokenizers 20, transformers more than 20
#           ten calls give several forms: tokenizers True, transformers True
#           after no_truncation, no_padding, dropout None: 1 form
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet tokenizers==0.23.3 transformers==5.24.0
cd "$work"
venv/bin/python - <<'PY'
import os

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import keyword

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

sentence = "every good tokenizer cuts the same sentence into the same pieces, whoever asks for them, and however often he asks"
trained = Tokenizer(models.BPE(dropout=0.1))
trained.pre_tokenizer = pre_tokenizers.ByteLevel()
alphabet = pre_tokenizers.ByteLevel.alphabet()
trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=["<pad>"], show_progress=False)
trained.train_from_iterator([sentence] * 5 + keyword.kwlist, trainer)
trained.enable_truncation(16)
trained.enable_padding(pad_id=0, pad_token="<pad>", length=20)
trained.save("tokenizer.json")
one, other = Tokenizer.from_file("tokenizer.json"), PreTrainedTokenizerFast(tokenizer_file="tokenizer.json")
lengths = len(one.encode(sentence).ids), len(other(sentence)["input_ids"])
forms = len({tuple(one.encode(sentence).ids) for _ in range(10)}), len({tuple(other(sentence)["input_ids"]) for _ in range(10)})
print(f"ids of one text: tokenizers {lengths[0]}, transformers {'more than 20' if lengths[1] > 20 else lengths[1]}")
print(f"ten calls give several forms: tokenizers {forms[0] > 1}, transformers {forms[1] > 1}")
clean = Tokenizer.from_file("tokenizer.json")
clean.no_truncation()
clean.no_padding()
clean.model.dropout = None
settled = len({tuple(clean.encode(sentence).ids) for _ in range(10)})
print(f"after no_truncation, no_padding, dropout None: {settled} form")
raise SystemExit(0 if lengths[0] == 20 and lengths[1] > 20 and forms[0] > 1 and forms[1] > 1 and settled == 1 else 1)
PY
