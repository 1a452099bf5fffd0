"""data2vec 1.0 for text against numbers that the reference computed from the same weights and masks.

The golden's second sequence ends in padding, which is compared nowhere: targets of text are normalised per token, so
no statistic is taken over it. The golden's teacher was fed the whole sequences, as the paper has it and as our
`teacher_view: whole`. The reference's training feeds it the masked language model's target tensor, in which all but
the hidden tokens are padding; `_teacher_layers` computes that too (our `teacher_view: hidden`).
"""

import pytest
import torch
import torch.nn.functional as F

from d2v.interchange.fairseq import load_reference, read
from d2v.interchange.fairseq_text import v1_name
from d2v.models.masking import Masks
from d2v.models.targets import make_targets
from tests.interchange.parity import (
    DOUBLE,
    Golden,
    assert_close,
    backward,
    check_gradients,
    check_teacher_is_student,
    check_teacher_step,
    load,
)

pytestmark = pytest.mark.goldens
GOLDEN = "v1_text"
PAD, HEADS = 1, 4


@pytest.fixture(scope="module")
def masks(golden):
    return Masks.ragged(golden["mask"].bool())


@pytest.fixture(scope="module")
def real(golden):
    """(B, T) True at tokens that are not padding."""
    return golden["target_tokens"] != PAD


@pytest.fixture(scope="module")
def batch(golden, real):
    return golden.batch("target_tokens", lengths=real.sum(dim=1))


@pytest.fixture(scope="module")
def local(objective, batch):
    return objective.student.stem(batch.inputs).detach()


def test_recipe_is_read_from_the_file(checkpoint):
    _, converted = load_reference(checkpoint)
    encoder, objective = converted.recipe.encoder, converted.recipe.objective
    assert (encoder.vocab_size, encoder.max_tokens, encoder.width, encoder.depth, encoder.heads) == (40, 32, 32, 4, 4)
    assert (encoder.mlp_ratio, objective.head, objective.teacher_view) == (2.0, "mlp", "whole")
    assert (objective.targets.top_k_layers, objective.targets.layer_norms) == (3, ("layer",))
    assert (objective.targets.average_norms, objective.loss.beta, objective.loss.scale) == ((), 4.0, 1.0)
    assert (objective.ema.copied, objective.ema.shared_local) == (("stem.",), False)


def test_features(golden, objective, local, batch, real):
    tolerance = golden.precision.tolerance
    encoded = objective.student.encode(local, batch.lengths, activation="end_of_block")
    assert_close(encoded.tokens[real], golden["feat_x_f64"][real], tolerance)
    placed, _ = objective.student.stem.add_positions(local, batch.lengths, None)
    for ours, reference in zip([placed, *encoded.activations], golden["feat_inner_states_f64"], strict=True):
        assert_close(ours[real], reference[real], tolerance)


def test_hidden_tokens_become_the_mask_token_before_positions_are_added(golden, objective, local, batch, masks, real):
    """The mask token is the reference's `<mask>`, of which the golden's student input has one for each hidden token."""
    mask_id = int(golden["src_tokens"].max())
    assert torch.equal(golden["src_tokens"] == mask_id, masks.is_masked)
    assert torch.equal(objective.mask_token[0, 0], objective.student.stem.local.words.weight[mask_id])
    masked = torch.where(masks.is_masked.unsqueeze(-1), objective.mask_token, local)
    tokens = objective.student.encode(masked, batch.lengths).tokens
    assert_close(tokens[real], golden["feat_x_masked_input_f64"][real], golden.precision.tolerance)
    golden.close(objective.head(tokens[masks.is_masked]), "pred_masked")


def test_teacher_layers_and_targets(golden, objective, batch, masks, real):
    teacher = objective.teacher.encoder
    layers = teacher.encode(teacher.stem(batch.inputs), batch.lengths, activation="ffn").activations
    tolerance = golden.precision.tolerance
    assert_close(torch.stack(layers[-3:])[:, real], golden["teacher_layers_f64"][:, real], tolerance)
    targets = objective.targets(objective.teacher_local(batch.inputs, batch.inputs), batch.lengths)
    assert_close(targets[real], golden["targets_f64"][real], tolerance)
    golden.close(targets[masks.is_masked], "target_masked")


def test_loss(golden, objective, batch, masks):
    output = objective(batch, masks)
    assert int(masks.count) == int(golden["sample_size"])
    golden.close(output.loss_sum, "loss_sum")
    golden.close(output.statistics["regression_loss"], "loss_total")


def test_every_gradient(golden, objective, batch, masks):
    """The gradient of the reference's token table is ours plus that of the mask token in the row of `<mask>`."""
    ours = backward(objective, batch, masks)
    table = ours["student.stem.local.words.weight"] = ours["student.stem.local.words.weight"].clone()
    table[-1] += ours.pop("mask_token")[0, 0]
    check_gradients(golden, ours, v1_name)


def test_one_optimiser_step_and_ema_update(golden, objective):
    """With it: the teacher's embeddings are the student's, not an average."""
    skipped = {
        "embed_tokens.weight",
        "embed_positions.weight",
        "layernorm_embedding.weight",
        "layernorm_embedding.bias",
    }
    assert set(golden.arrays["after_ema_skip_keys"]) == skipped
    prefix = "encoder.sentence_encoder."
    check_teacher_step(golden, objective, v1_name, lambda name: v1_name(prefix + name).removeprefix("student."))


# ------------------------------------------------------------------------------------ what the teacher sees


def _teacher_layers(state, ids):
    """The reference's teacher on token ids, as its code does it: positions count what is no padding, padding is zeroed
    and no key. (L, B, T, D) FFN outputs in float64."""
    w = {name: value.double() for name, value in state.items()}
    norm = lambda x, name: F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])  # noqa: E731
    linear = lambda x, name: F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])  # noqa: E731
    padding = ids == PAD
    positions = (~padding).long().cumsum(dim=1) * ~padding + PAD
    x = norm(w["embed_tokens.weight"][ids] + w["embed_positions.weight"][positions], "layernorm_embedding")
    x, outputs = x.masked_fill(padding.unsqueeze(-1), 0.0), []
    for layer in (f"layers.{number}" for number in range(4)):
        q, k, v = (linear(x, f"{layer}.self_attn.{n}_proj").unflatten(-1, (HEADS, -1)).transpose(1, 2) for n in "qkv")
        logits = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).masked_fill(padding[:, None, None], -torch.inf)
        attended = (logits.softmax(dim=-1) @ v).transpose(1, 2).flatten(2)
        x = norm(x + linear(attended, f"{layer}.self_attn.out_proj"), f"{layer}.self_attn_layer_norm")
        outputs.append(linear(F.gelu(linear(x, f"{layer}.fc1")), f"{layer}.fc2"))
        x = norm(x + outputs[-1], f"{layer}.final_layer_norm")
    return torch.stack(outputs)


def test_the_references_teacher_sees_only_what_is_hidden(shared_goldens, checkpoint):
    """`teacher_view: hidden` is what the reference's training does, checked by a recomputation that gives the golden's
    own numbers when it is fed whole sequences; `whole` gives other targets."""
    golden, objective = Golden(shared_goldens, GOLDEN, DOUBLE), load(shared_goldens, GOLDEN, DOUBLE)
    state, ids, is_masked = (
        read(checkpoint).ema,
        golden["target_tokens"],
        golden["mask"].bool(),
    )
    real = ids != PAD
    assert_close(_teacher_layers(state, ids)[-3:, real], golden["teacher_layers_f64"][:, real], 1e-9)

    layers = _teacher_layers(state, ids.masked_fill(~is_masked, PAD))
    expected = make_targets(list(layers), objective.config.targets)[is_masked]
    local = objective.teacher.encoder.stem(ids)
    masked = objective._targets_of_masked(local, is_masked)[is_masked]
    assert_close(masked, expected, 1e-9)
    assert float((masked - objective.targets(local, real.sum(dim=1))[is_masked]).abs().max()) > 0.1

    batch, masks = golden.batch("target_tokens", lengths=real.sum(dim=1)), Masks.ragged(is_masked)
    objective.config = objective.config.model_copy(update={"teacher_view": "hidden"})
    error = F.smooth_l1_loss(golden["pred_masked_f64"], expected, reduction="sum", beta=4.0)
    assert_close(objective(batch, masks).loss_sum, error, 1e-9)


def test_without_a_teacher_it_starts_as_the_student(checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    del content["model"]["encoder._ema"]
    torch.save(content, tmp_path / "bare.pt")
    objective, _ = load_reference(tmp_path / "bare.pt")
    assert objective.teacher.encoder.state_dict().keys() == objective.student.state_dict().keys()
    check_teacher_is_student(objective)
