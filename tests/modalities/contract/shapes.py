"""Inputs, tokens, features and images have the shapes that they say.

Shape legend: B samples, T tokens, D width.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from d2v.models.masking import Selected
from d2v.objectives.data2vec2 import Data2Vec2
from d2v.objectives.self_distillation import SelfDistillation
from tests.modalities.contract.subject import Subject


def shapes_agree(subject: Subject) -> None:
    objective, batch = subject.build().eval(), subject.batch()
    encoder, samples = objective.student, len(batch.sample_ids)
    local_BTD = encoder.stem(batch.inputs)
    tokens = encoder.stem.num_tokens(batch.inputs)
    assert local_BTD.shape == (samples, tokens, encoder.width)
    assert 2 <= tokens <= subject.modality.max_tokens(subject.recipe)
    lengths = encoder.token_lengths(batch.lengths)
    assert lengths is None or int(lengths.max()) <= tokens
    encoded = encoder.encode(local_BTD, lengths, activation="ffn")
    assert [one.shape for one in encoded.activations] == [local_BTD.shape] * len(encoder.blocks)
    assert encoded.tokens.shape == encoder(batch.inputs, batch.lengths).shape == local_BTD.shape
    some = Selected(torch.tensor([0, samples * tokens - tokens]), samples, tokens)
    alone, activations = encoder.encode_some(local_BTD, some, lengths, activation="ffn")
    torch.testing.assert_close([alone, *activations], [some.of(one) for one in (encoded.tokens, *encoded.activations)])
    features_BD = encoder.features(batch.inputs, batch.lengths)
    assert features_BD.shape == (samples, encoder.width)
    assert torch.isfinite(features_BD).all()
    if isinstance(objective, SelfDistillation):
        assert objective.targets(objective.teacher_local(batch.inputs, local_BTD), lengths).shape == local_BTD.shape
    if isinstance(objective, Data2Vec2):
        assert objective.decoder(local_BTD).shape == local_BTD.shape
    flops = objective.flops_per_sample(tokens)
    assert flops.pop("total") == pytest.approx(sum(flops.values()))
    assert sum(flops.values()) > 0


def tokens_of_lengths_are_tokens_of_inputs(subject: Subject) -> None:
    """A sequence cut to a length has as many tokens as the stem says that a sequence of this length has."""
    inputs, stem = subject.items(), subject.build().student.stem
    if inputs.lengths is None:
        return
    assert len(inputs.lengths.unique()) > 1, "give the case's data items of different lengths"
    tokens = stem.token_lengths(inputs.lengths)
    alone = [inputs.select(torch.tensor([row])).values for row in range(len(inputs))]
    assert tokens.tolist() == [stem.num_tokens(one) for one in alone]
    grid = subject.modality.grid(subject.recipe)
    assert grid is None, "items that differ in length are a sequence"


def plain_features_and_images_can_be_made(subject: Subject) -> None:
    inputs, modality = subject.items(), subject.modality
    features = modality.baseline_features(inputs)
    assert features.shape == (len(inputs), features.shape[1])
    assert torch.isfinite(features).all()
    assert modality.baseline_name
    images = modality.to_images(inputs, subject.data)
    assert images.dtype == np.uint8
    assert images.shape == (len(inputs), *images.shape[1:3], 3)
    tokens = subject.build().student.stem.num_tokens(inputs.values)
    rows, columns = modality.image_grid(tokens)
    assert 0 <= rows * columns - tokens < columns, "all tokens have a cell, and only the last row has some left over"
    assert images.shape[1] >= rows
    assert images.shape[2] >= columns
    grid = modality.grid(subject.recipe)
    assert grid is None or grid == (rows, columns)
    assert modality.images_per_row >= 1


CHECKS = (
    shapes_agree,
    tokens_of_lengths_are_tokens_of_inputs,
    plain_features_and_images_can_be_made,
)
