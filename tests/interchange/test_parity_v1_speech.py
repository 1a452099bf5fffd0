"""data2vec 1.0 for speech against numbers that the reference computed from the same weights and masks."""

import pytest
import torch

from d2v.interchange.fairseq import load_reference
from d2v.interchange.fairseq_speech import v1_name
from d2v.models.masking import Masks
from d2v.models.targets import make_targets, regression_loss
from tests.interchange.parity import (
    assert_close,
    backward,
    check_gradients,
    check_statistics,
    check_teacher_is_student,
    check_teacher_step,
)

pytestmark = pytest.mark.goldens
GOLDEN = "v1_audio"


@pytest.fixture(scope="module")
def masks(golden):
    return Masks.ragged(golden["mask"].bool())


def _encoded(encoder, local, lengths=None):
    """(output, outputs of all blocks, their FFN outputs)."""
    ffn = encoder.encode(local, lengths, activation="ffn")
    blocks = encoder.encode(local, lengths, activation="end_of_block")
    return ffn.tokens, torch.stack(blocks.activations), torch.stack(ffn.activations)


def _masked(objective, local, is_masked):
    return torch.where(is_masked.unsqueeze(-1), objective.mask_token, local)


def test_recipe_is_read_from_the_file(checkpoint):
    _, converted = load_reference(checkpoint)
    encoder, objective, mask = converted.recipe.encoder, converted.recipe.objective, converted.recipe.mask
    assert encoder.convs == ((16, 10, 5), *((16, 3, 2),) * 4, *((16, 2, 2),) * 2)
    assert (encoder.width, encoder.depth, encoder.heads, encoder.mlp_ratio) == (32, 4, 4, 2.0)
    assert (encoder.position_layers, encoder.position_kernel, encoder.position_groups) == (5, 19, 4)
    assert (objective.targets.top_k_layers, objective.targets.layer_norms) == (3, ("instance",))
    assert (objective.loss.beta, objective.loss.scale, objective.head) == (0.0, "rsqrt_width", "linear")
    assert (mask.ratio, mask.span, encoder.padding) == (0.65, 10, "invariant")
    assert (objective.ema.copied, objective.ema.shared_local) == (("stem.positions.",), True)


def test_features(golden, objective, local):
    golden.close(local, "proj")
    tokens, blocks, ffn = _encoded(objective.student, local)
    golden.close(tokens, "feat_x")
    golden.close(blocks, "feat_layer_x")
    golden.close(ffn, "feat_layer_ffn")


def test_convolutions_make_the_references_frames(golden, objective):
    x_BSC = golden.inputs().unsqueeze(-1)
    for layer in objective.student.stem.local.layers:
        x_BSC = layer(x_BSC)
    golden.close(x_BSC.transpose(1, 2), "conv")


def test_hidden_frames_become_the_mask_vector_before_positions_are_added(golden, objective, local, masks):
    masked = _masked(objective, local, masks.is_masked)
    golden.close(masked, "student_in")
    tokens = objective.student.encode(masked).tokens
    golden.close(tokens, "student_out")
    golden.close(objective.head(tokens[masks.is_masked]), "pred_masked")


def test_teacher_continues_from_the_students_local_features(golden, objective, local, masks):
    assert not [name for name in objective.teacher.state_dict() if "stem.local" in name]
    shared = objective.teacher_local(golden.inputs(), local)
    golden.close(_encoded(objective.teacher.encoder, shared)[2][-3:], "teacher_layers")
    golden.close(objective.targets(shared, None), "targets")
    golden.close(objective.targets(shared, None)[masks.is_masked], "target_masked")


def test_loss_and_statistics(golden, objective, masks):
    output = objective(golden.batch(), masks)
    assert int(masks.count) == int(golden["sample_size"])
    golden.close(output.loss_sum, "loss_sum")
    golden.close(output.statistics["regression_loss"], "loss_total")
    check_statistics(golden, output)


def test_every_gradient(golden, objective, masks):
    check_gradients(golden, backward(objective, golden.batch(), masks), v1_name)


def test_one_optimiser_step_and_ema_update(golden, objective):
    """With it: the teacher's positions are the student's, not an average."""
    assert set(golden.arrays["after_ema_skip_keys"]) == {
        f"pos_conv.{layer}.0.{kind}" for layer in range(5) for kind in ("weight", "bias")
    }
    check_teacher_step(golden, objective, v1_name, lambda name: v1_name(f"encoder.{name}").removeprefix("student."))


# ------------------------------------------------------------------------------------------ padding


def test_padded_features(golden, padded):
    """At padding the reference's are without meaning and not compared."""
    objective, local, frames = padded
    tokens, blocks, ffn = _encoded(objective.student, local, frames)
    for row, real in enumerate(frames.tolist()):
        assert_close(tokens[row, :real], golden["pad_feat_x_f64"][row, :real], golden.precision.tolerance)
        for ours, name in ((blocks, "pad_feat_layer_x_f64"), (ffn, "pad_feat_layer_ffn_f64")):
            assert_close(ours[:, row, :real], golden[name][:, row, :real], golden.precision.tolerance)


def test_padded_targets(golden, padded):
    """The teacher is the reference's, and so are its targets if statistics are taken over padding as the reference
    does. Ours leave padding out, so only those of the recording without padding are the reference's."""
    objective, local, frames = padded
    layers = _encoded(objective.teacher.encoder, local, frames)[2]
    ours, reference = objective.targets(local, frames), golden["pad_targets_f64"]
    over_padding = make_targets(list(layers), objective.config.targets)
    for row, real in enumerate(frames.tolist()):
        expected = golden["pad_teacher_layers_f64"][:, row, :real]
        assert_close(layers[-3:, row, :real], expected, golden.precision.tolerance)
        assert_close(over_padding[row, :real], reference[row, :real], golden.precision.tolerance)
    assert_close(ours[0], reference[0], golden.precision.tolerance)
    assert float((ours[1, : frames[1]] - reference[1, : frames[1]]).abs().max()) > 0.1


def test_padded_student(golden, padded):
    """The reference's masks of 1.0 keep off padding, so all its predictions are ours. Its loss is compared for the
    recording without padding, whose targets are the same (see `test_padded_targets`)."""
    objective, local, frames = padded
    is_masked, tolerance = golden["pad_mask"].bool(), golden.precision.tolerance
    tokens = objective.student.encode(_masked(objective, local, is_masked), frames).tokens
    for row, real in enumerate(frames.tolist()):
        assert_close(tokens[row, :real], golden["pad_student_out_f64"][row, :real], tolerance)
    predictions = objective.head(tokens[is_masked])
    golden.close(predictions, "pad_pred_masked")
    first = int(is_masked[0].sum())
    target = objective.targets(local, frames)[0, is_masked[0]]
    reference = regression_loss(
        golden["pad_pred_masked_f64"][:first], golden["pad_target_masked_f64"][:first], objective.config.loss
    )
    assert_close(regression_loss(predictions[:first], target, objective.config.loss), reference, tolerance)


# ------------------------------------------------------------------------------------------ files


def test_old_name_of_the_head_is_understood(checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    for kind in ("weight", "bias"):
        content["model"][f"final_proj.0.{kind}"] = content["model"].pop(f"final_proj.{kind}")
    torch.save(content, tmp_path / "old.pt")
    ours = load_reference(tmp_path / "old.pt")[0].state_dict()
    reference = load_reference(checkpoint)[0].state_dict()
    assert all(torch.equal(value, ours[name]) for name, value in reference.items())


def test_without_a_teacher_it_starts_as_the_student(checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    del content["model"]["_ema"]
    torch.save(content, tmp_path / "bare.pt")
    objective, _ = load_reference(tmp_path / "bare.pt")
    check_teacher_is_student(objective)
