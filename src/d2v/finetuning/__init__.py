"""Fine-tuning: an encoder and labelled items become a model with a head for one task.

`finetune` trains it, `evaluation` measures it on held-out items, `model` saves and loads it. Tasks (a class, several
classes, a number, a transcript) are in `tasks`, and the search for a transcript is in `decoding`.
"""
