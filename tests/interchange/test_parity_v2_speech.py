"""data2vec 2.0 for speech against numbers that the reference computed from the same weights, masks and noise."""

from dataclasses import replace

import pytest
import torch

from d2v.errors import CheckpointError
from d2v.interchange.fairseq import load_reference, read
from d2v.interchange.fairseq_names import rename
from d2v.interchange.fairseq_speech import V2_RENAMES, v2_name
from d2v.models.masking import Masks, is_padding
from d2v.models.targets import make_targets, regression_loss
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
GOLDEN = "v2_audio"
CLONES = 2


@pytest.fixture(scope="module")
def masks(golden):
    return golden.masks(CLONES)


def test_recipe_is_read_from_the_file(checkpoint):
    _, converted = load_reference(checkpoint)
    encoder, objective, mask = converted.recipe.encoder, converted.recipe.objective, converted.recipe.mask
    assert encoder.convs == ((16, 10, 5), *((16, 3, 2),) * 4, *((16, 2, 2),) * 2)
    assert (encoder.width, encoder.depth, encoder.prenet_depth, encoder.heads) == (32, 3, 1, 4)
    assert (encoder.position_layers, encoder.position_kernel, encoder.position_groups) == (5, 19, 4)
    assert (encoder.padding, encoder.dropout, encoder.norm_eps) == ("invariant", 0.0, 1e-5)
    assert (objective.masks_per_sample, objective.targets.top_k_layers) == (CLONES, 2)
    assert (objective.targets.layer_norms, objective.targets.average_norms) == (("instance",), ())
    assert (objective.decoder.layers, objective.decoder.width, objective.decoder.groups) == (4, 24, 4)
    assert (mask.ratio, mask.adjust, mask.block, mask.inverse) == (0.5, 0.05, 5, False)
    assert (objective.ema.decay_end, objective.ema.anneal_updates, objective.ema.shared_local) == (
        0.99999,
        75_000,
        True,
    )


def test_local_features_and_full_encoding(golden, objective, local):
    check_full_encoding(golden, objective, local)


def test_what_the_student_sees(golden, objective, local, masks):
    """Visible frames with their positions, through the prenet, and ALiBi over the distances in the whole."""
    student, tolerance = objective.student, golden.precision.tolerance
    x, bias = student.stem.add_positions(local, None, masks)
    x, _ = student.prenet[0](student.context_norm(x), bias)
    assert_close(x, golden.ascending("student_prenet_out_f64"), tolerance)
    order = golden["ids_keep"].argsort(dim=1)
    rows_RHVV = golden["student_alibi_f64"].movedim(1, 3)[
        torch.arange(4)[:, None, None], order[:, :, None], order[:, None]
    ]
    assert_close(bias, rows_RHVV.movedim(3, 1), tolerance)


def test_visible_frames_go_through_the_student_and_the_decoder(golden, objective, local, masks):
    check_decoding(golden, objective, local, masks)


def test_teacher_continues_from_the_students_local_features(golden, objective, local):
    assert not [name for name in objective.teacher.state_dict() if "stem.local" in name]
    shared = objective.teacher_local(golden.inputs(), local)
    golden.close(torch.stack(_teacher_layers(objective, shared)), "teacher_layers")
    golden.close(objective.targets(shared, None), "targets")


def _teacher_layers(objective, local, lengths=None):
    return objective.teacher.encoder.encode(local, lengths, activation="ffn").activations


def test_loss_and_statistics(golden, objective, masks):
    check_loss(golden, objective, masks, "loss_AUDIO_regression_sum")


def test_every_gradient(golden, objective, masks):
    check_gradients(golden, backward(objective, golden.batch(), masks, golden.noise()), v2_name)


def test_one_optimiser_step_and_ema_update(golden, objective):
    check_teacher_step(golden, objective, v2_name, lambda name: rename(name, V2_RENAMES))


# ------------------------------------------------------------------------------------------ padding


def test_padded_features(golden, padded):
    objective, local, frames = padded
    encoded = objective.student.encode(local, frames, activation="ffn")
    golden.close(local, "pad_local_features")
    golden.close(encoded.tokens, "pad_feat_x")
    golden.close(torch.stack(encoded.activations), "pad_feat_layer_results")


def test_padded_targets(golden, padded):
    """The teacher is the reference's at every frame, and its targets are too if statistics are taken over padding, as
    the reference does. Ours leave padding out, so only those of the recording without padding are the reference's."""
    objective, local, frames = padded
    layers = _teacher_layers(objective, local, frames)
    golden.close(torch.stack(layers), "pad_teacher_layers")
    golden.close(make_targets(layers, objective.config.targets), "pad_targets")
    ours, reference = objective.targets(local, frames), golden["pad_targets_f64"]
    assert_close(ours[0], reference[0], golden.precision.tolerance)
    real = slice(0, int(frames[1]))
    assert float((ours[1, real] - reference[1, real]).abs().max()) > 0.1
    assert float(ours[1, real].mean(dim=0).abs().max()) < 1e-5


def test_padded_student(golden, padded):
    """Our masks never hide padding and the reference's do, so the student is shown the reference's masks as they are.

    Visible frames come out as the reference's. Its decoder is fed outputs of visible padding, for which ours takes
    noise, so predictions and loss are compared for the two rows of the recording without padding."""
    objective, local, frames = padded
    is_masked, tolerance = golden["pad_mask"].bool(), golden.precision.tolerance
    real = ~is_padding(frames.repeat_interleave(CLONES), is_masked.shape[1])
    hidden = int(is_masked[0].sum())
    masks = replace(Masks.with_padding(is_masked, frames, hidden), visible_lengths=(real & ~is_masked).sum(dim=1))
    tokens = objective.student.encode(local, frames, masks).tokens
    reference = torch.zeros(*is_masked.shape, tokens.shape[-1], dtype=torch.float64)
    place = golden["pad_ids_keep"].unsqueeze(-1).expand_as(tokens)
    reference.scatter_(1, place, golden["pad_student_encoder_out_f64"])
    for row, visible in enumerate(masks.visible_lengths.tolist()):
        seen = masks.visible_idx.flatten(0, 1)[row, :visible]
        assert_close(tokens[row, :visible], reference[row, seen], tolerance)

    predictions = objective.decoder(objective.decoder_input(tokens, masks, golden.noise("pad_")))[:CLONES]
    assert_close(predictions, golden["pad_decoder_out_f64"][:CLONES], tolerance)
    hidden_N = is_masked[:CLONES]
    target = objective.targets(local, frames)[:1].expand_as(predictions)[hidden_N]
    loss = regression_loss(predictions[hidden_N], target, objective.config.loss)
    assert_close(loss, golden["pad_loss_AUDIO_regression_elem_f64"][: int(hidden_N.sum())].sum(), tolerance)


# ------------------------------------------------------------------------------------------ files


def test_teacher_in_the_file_differs_from_the_student(checkpoint):
    reference = read(checkpoint)
    name = "blocks.0.attn.qkv.weight"
    assert not torch.equal(reference.ema[name], reference.model[name])


def test_old_key_names_are_understood(checkpoint, tmp_path):
    """`alibi_scale` without the dimension of layers, and a stray `encoder_mask`, as in early files."""
    content = torch.load(checkpoint, weights_only=True)
    prefix = "modality_encoders.AUDIO."
    for state in (content["model"], content["model"]["_ema"]):
        state[prefix + "alibi_scale"] = state[prefix + "alibi_scale"][0]
        assert state[prefix + "alibi_scale"].ndim == 4
        state[prefix + "encoder_mask"] = torch.zeros(32)
    torch.save(content, tmp_path / "old.pt")
    _assert_same_model(tmp_path / "old.pt", checkpoint)


def test_one_alibi_scale_for_all_heads_is_repeated(checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    for state in (content["model"], content["model"]["_ema"]):
        state["modality_encoders.AUDIO.alibi_scale"] = torch.full((1, 1, 1, 1, 1), 0.7)
    torch.save(content, tmp_path / "one.pt")
    objective, _ = load_reference(tmp_path / "one.pt")
    for encoder in (objective.student, objective.teacher.encoder):
        assert torch.equal(encoder.stem.alibi_scale, torch.full((4,), 0.7))


def test_a_file_without_settings_and_teacher_is_read_by_its_tensors(checkpoint, tmp_path):
    """Sizes are in the tensors, the rest is the published recipe, and the teacher starts as the student."""
    content = torch.load(checkpoint, weights_only=True)
    del content["model"]["_ema"], content["cfg"]
    objective, converted = load_reference(_saved(content, tmp_path / "bare.pt"))
    encoder = converted.recipe.encoder
    assert (encoder.heads, encoder.depth, encoder.layer_drop, encoder.prenet_dropout) == (4, 3, 0.05, 0.1)
    check_teacher_is_student(objective)


def test_what_is_not_supported_is_said_so(checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    content["cfg"]["model"]["layer_norm_first"] = True
    with pytest.raises(CheckpointError, match="layer_norm_first=True, and its weights lack the norm"):
        load_reference(_saved(content, tmp_path / "pre.pt"))
    content["cfg"]["model"] |= {"layer_norm_first": False}
    content["cfg"]["model"]["modalities"]["audio"]["feature_encoder_spec"] = "[(16, 10, 5)] + [(16, 3, 2)] * 4"
    with pytest.raises(CheckpointError, match="7 convolutions and strides of 5"):
        load_reference(_saved(content, tmp_path / "strides.pt"))


def _saved(content, path):
    torch.save(content, path)
    return path


def _assert_same_model(path, other):
    ours, reference = load_reference(path)[0].state_dict(), load_reference(other)[0].state_dict()
    assert ours.keys() == reference.keys()
    assert all(torch.equal(value, ours[name]) for name, value in reference.items())
