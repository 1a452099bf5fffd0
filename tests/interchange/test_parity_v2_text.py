"""data2vec 2.0 for text against numbers that the reference computed from the same weights, masks and noise.

None of the golden's sequences is padded."""

import pytest
import torch

from d2v.interchange.fairseq import load_reference, read
from d2v.interchange.fairseq_text import v2_name
from tests.interchange.parity import (
    assert_close,
    backward,
    check_decoding,
    check_full_encoding,
    check_gradients,
    check_loss,
    check_teacher_is_student,
    check_teacher_step,
)

pytestmark = pytest.mark.goldens
GOLDEN = "v2_text"
CLONES = 2


@pytest.fixture(scope="module")
def masks(golden):
    assert not golden["padding_mask"].any()
    return golden.masks(CLONES)


def test_recipe_is_read_from_the_file(checkpoint):
    _, converted = load_reference(checkpoint)
    encoder, objective = converted.recipe.encoder, converted.recipe.objective
    assert (encoder.vocab_size, encoder.max_tokens, encoder.width, encoder.depth, encoder.heads) == (40, 32, 32, 3, 4)
    assert (encoder.dropout, encoder.embedding_dropout, encoder.norm_eps) == (0.0, 0.0, 1e-5)
    assert (objective.masks_per_sample, objective.targets.top_k_layers) == (CLONES, 3)
    assert (objective.targets.layer_norms, objective.targets.average_norms) == (("instance",), ())
    assert (objective.loss.beta, objective.loss.scale, converted.recipe.mask.ratio) == (0.0, 1.0, 0.48)
    decoder = objective.decoder
    assert (decoder.layers, decoder.width, decoder.kernel, decoder.groups, decoder.residual) == (3, 32, 9, 1, False)
    assert (decoder.projection_layers, decoder.projection_ratio, objective.ema.shared_local) == (2, 2.0, True)


def test_local_features_and_full_encoding(golden, objective, local):
    check_full_encoding(golden, objective, local)


def test_visible_tokens_go_through_the_student_and_the_decoder(golden, objective, local, masks):
    x, bias = objective.student.stem.add_positions(local, None, masks)
    assert bias is None
    assert_close(x, golden.ascending("student_prenet_out_f64"), golden.precision.tolerance)
    check_decoding(golden, objective, local, masks)


def test_teacher_is_blocks_on_the_students_local_features(golden, objective, local):
    assert all(name.startswith("encoder.blocks.") for name in objective.teacher.state_dict())
    shared = objective.teacher_local(golden.inputs(), local)
    activations = objective.teacher.encoder.encode(shared, activation="ffn").activations
    golden.close(torch.stack(activations), "teacher_layers")
    golden.close(objective.targets(shared, None), "targets")


def test_loss_and_statistics(golden, objective, masks):
    check_loss(golden, objective, masks, "loss_TEXT_regression_sum")


def test_lengths_of_full_sequences_change_nothing(golden, objective, masks):
    lengths = torch.full((3,), golden.inputs().shape[1])
    output = objective(golden.batch(lengths=lengths), masks, golden.noise())
    golden.close(output.loss_sum, "loss_TEXT_regression_sum")


def test_every_gradient(golden, objective, masks):
    check_gradients(golden, backward(objective, golden.batch(), masks, golden.noise()), v2_name)


def test_one_optimiser_step_and_ema_update(golden, objective):
    check_teacher_step(golden, objective, v2_name, lambda name: f"blocks.{name}")


def test_teacher_in_the_file_differs_from_the_student(checkpoint):
    reference = read(checkpoint)
    assert not torch.equal(reference.ema["0.attn.qkv.weight"], reference.model["blocks.0.attn.qkv.weight"])


def test_a_file_without_settings_and_teacher_is_read_by_its_tensors(checkpoint, tmp_path):
    """Sizes are in the tensors, the rest is the published recipe, and the teacher starts as the student."""
    content = torch.load(checkpoint, weights_only=True)
    del content["model"]["_ema"]
    content["cfg"] = {"model": {"num_heads": 4}}
    torch.save(content, tmp_path / "bare.pt")
    objective, converted = load_reference(tmp_path / "bare.pt")
    recipe = converted.recipe
    assert (recipe.encoder.depth, recipe.encoder.embedding_dropout, recipe.objective.targets.top_k_layers) == (
        3,
        0.1,
        3,
    )
    assert (recipe.objective.decoder.residual, recipe.objective.loss.scale) == (False, 1.0)
    check_teacher_is_student(objective)
