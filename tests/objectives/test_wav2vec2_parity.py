"""wav2vec 2.0's loss and gradients against those of transformers: the same features, weights, masks and distractors."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2ForPreTraining

from d2v.objectives.wav2vec2 import Wav2Vec2, masked_frames
from tests.objectives.test_wav2vec2 import batch, build


class Given(nn.Module):
    """Stands for the encoder of transformers: context and local features that are already there."""

    def __init__(self, context_BTD: Tensor, normal_BTC: Tensor) -> None:
        super().__init__()
        self.context, self.normal = context_BTD, normal_BTC

    def forward(self, *inputs: object, **more: object) -> SimpleNamespace:
        return SimpleNamespace(
            last_hidden_state=self.context, extract_features=self.normal, hidden_states=None, attentions=None
        )


def theirs_like(objective: Wav2Vec2, context_BTD: Tensor, normal_BTC: Tensor) -> Wav2Vec2ForPreTraining:
    """Quantiser, projections and loss of transformers with our weights."""
    c, quantizer = objective.config, objective.quantizer
    config = Wav2Vec2Config(
        hidden_size=context_BTD.shape[2],
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        conv_dim=(normal_BTC.shape[2],),
        conv_kernel=(10,),
        conv_stride=(5,),
        num_conv_pos_embeddings=2,
        num_conv_pos_embedding_groups=1,
        num_codevector_groups=c.quantizer.groups,
        num_codevectors_per_group=c.quantizer.entries,
        codevector_dim=c.quantizer.width,
        proj_codevector_dim=c.projection_width,
        contrastive_logits_temperature=c.temperature,
        diversity_loss_weight=c.diversity_weight,
        feat_quantizer_dropout=0.0,
    )
    model = Wav2Vec2ForPreTraining(config).double().train()
    model.wav2vec2 = Given(context_BTD, normal_BTC)
    with torch.no_grad():
        model.quantizer.weight_proj.load_state_dict(quantizer.scores.state_dict())
        model.quantizer.codevectors.copy_(torch.cat([book.weight.T for book in quantizer.codebooks])[None])
    model.project_q.load_state_dict(objective.target_projection.state_dict())
    model.project_hid.load_state_dict(objective.context_projection.state_dict())
    return model


def without_noise(logits: Tensor, tau: float, hard: bool) -> Tensor:
    """torch's `gumbel_softmax(hard=True)` without its noise, which cannot be given."""
    assert hard
    soft = (logits / tau).softmax(dim=-1)
    return F.one_hot(logits.argmax(dim=-1), logits.shape[-1]) - soft.detach() + soft


def test_loss_and_gradients_are_those_of_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(F, "gumbel_softmax", without_noise)
    objective, whole = build(penalty_weight=0.0).double().eval(), batch()
    whole.inputs = whole.inputs.double()
    masks = objective.draw_masks(whole, 0, "cpu")
    with torch.no_grad():
        local = objective.frames.make(objective.student, whole.inputs, 1.0)
        every_BT = torch.arange(masks.is_masked.shape[1]).expand_as(masks.is_masked)
        context_BTD = objective.context(local.projected_BTD, masks, None, every_BT)
    theirs = theirs_like(objective, context_BTD, local.normal_BTC)
    frame_BN, is_hidden_BN = masked_frames(masks.is_masked)
    drawn_BNK = objective.distractors(whole, frame_BN, is_hidden_BN)
    places_BNK = frame_BN.gather(1, drawn_BNK.flatten(1)).view_as(drawn_BNK)
    samples, frames = masks.is_masked.shape
    places_BNK = places_BNK + frames * torch.arange(samples)[:, None, None]
    negatives_BTK = torch.zeros(samples, frames, drawn_BNK.shape[2], dtype=torch.long)
    rows, columns = is_hidden_BN.nonzero(as_tuple=True)
    negatives_BTK[rows, frame_BN[rows, columns]] = places_BNK[rows, columns]

    expected = theirs(whole.inputs, mask_time_indices=masks.is_masked, sampled_negative_indices=negatives_BTK)
    expected.loss.backward()
    output = objective(whole, masks)
    output.loss_sum.backward()

    near = functools.partial(torch.testing.assert_close, rtol=1e-4, atol=1e-6, check_dtype=False)  # theirs is float32
    near(output.loss_sum, expected.loss)
    near(output.statistics["contrastive_loss"] * masks.count, expected.contrastive_loss.detach())
    near(output.statistics["diversity_loss"] * masks.count, expected.diversity_loss.detach())
    near(objective.quantizer.scores.weight.grad, theirs.quantizer.weight_proj.weight.grad)
    books = torch.cat([book.weight.grad.T for book in objective.quantizer.codebooks])
    near(books, theirs.quantizer.codevectors.grad[0])
    near(objective.target_projection.weight.grad, theirs.project_q.weight.grad)
    near(objective.context_projection.weight.grad, theirs.project_hid.weight.grad)
