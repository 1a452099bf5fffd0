"""data2vec 2.0 for images against numbers that the reference computed from the same weights, masks and noise."""

import pytest
import torch

from d2v.config import LossConfig, TargetConfig
from d2v.interchange.fairseq import load_reference, read
from d2v.interchange.fairseq_names import rename
from d2v.interchange.fairseq_vision import V2_RENAMES, v2_name
from d2v.modalities.vision.encoder import sincos_positions
from d2v.models.targets import make_targets, regression_loss
from tests.interchange.parity import (
    Golden,
    assert_close,
    backward,
    check_gradients,
    check_statistics,
    check_teacher_step,
    load,
)

pytestmark = pytest.mark.goldens
GOLDEN = "v2_image"
CLS_LOSS, CLONES, ROWS = 0.01, 3, 6  # the reference's cls_loss, M, and the golden's B*M: spec of the CLS term


@pytest.fixture(scope="module")
def objective(shared_goldens, precision):
    objective = load(shared_goldens, GOLDEN, precision)
    objective.config = objective.config.model_copy(update={"cls_loss": CLS_LOSS * ROWS})
    return objective


@pytest.fixture(scope="module")
def masks(golden):
    return golden.masks(CLONES)


def test_recipe_is_read_from_the_file(checkpoint):
    _, converted = load_reference(checkpoint)
    encoder, objective = converted.recipe.encoder, converted.recipe.objective
    assert (encoder.image_px, encoder.patch_px, encoder.width, encoder.depth) == (32, 4, 32, 3)
    assert (encoder.prenet_depth, encoder.heads, objective.masks_per_sample) == (1, 4, 3)
    assert (objective.decoder.layers, objective.decoder.groups, objective.targets.top_k_layers) == (2, 4, 3)
    assert (objective.targets.layer_norms, objective.targets.average_norms) == (("instance",), ("layer",))


def test_local_features_and_full_encoding(golden, objective, local):
    encoded = objective.student.encode(local, activation="ffn")
    golden.close(local, "local_features")
    golden.close(encoded.tokens, "feat_x")
    golden.close(torch.cat((encoded.extra, encoded.tokens), 1), "feat_x_with_extra")
    without_extra = golden["feat_layer_results_f64"][:, :, 1:]
    assert_close(torch.stack(encoded.activations), without_extra, golden.precision.tolerance)


def test_sincos_positions_equal_the_stored_ones(shared_goldens):
    positions = Golden(shared_goldens, "alibi")
    assert_close(sincos_positions(32, 8)[0], positions["sincos2d_d32_n8"], 1e-6)
    assert_close(sincos_positions(768, 14)[0], positions["sincos2d_d768_n14"], 1e-6)


def test_visible_tokens_go_through_the_student(golden, objective, local, masks):
    encoded = objective.student.encode(local, None, masks)
    expected, tolerance = golden["student_encoder_out_f64"], golden.precision.tolerance
    order = golden["ids_keep"].argsort(dim=1)  # the reference's visible order is not stable; ours ascends
    assert_close(encoded.extra, expected[:, :1], tolerance)
    assert_close(encoded.tokens, expected[:, 1:][torch.arange(ROWS)[:, None], order], tolerance)


def test_decoder_fills_in(golden, objective, local, masks):
    encoded = objective.student.encode(local, None, masks)
    filled = objective.decoder_input(encoded.tokens, masks, golden.noise())
    golden.close(filled, "decoder_in")
    golden.close(objective.decoder(filled), "decoder_out")


def test_teacher_layers_and_targets(golden, objective, local):
    own = objective.teacher_local(golden.inputs(), local)
    activations = objective.teacher.encoder.encode(own, activation="ffn").activations
    golden.close(torch.stack(activations), "teacher_layers")
    golden.close(objective.targets(own, None), "targets")


def test_losses_and_statistics(golden, objective, masks):
    output = objective(golden.batch(), masks, golden.noise())
    count = int(golden["sample_size"])
    assert int(masks.count) == count
    golden.close(output.loss_sum / count, "loss_total")
    golden.close(output.statistics["regression_loss"] * count, "loss_IMAGE_regression_sum")
    weight = torch.tensor(CLS_LOSS * count)  # in float32, as the reference makes it
    assert_close(output.statistics["cls_loss"] * ROWS * weight, golden["loss_cls_sum_f64"], golden.precision.tolerance)
    check_statistics(golden, output)


def test_every_gradient(golden, objective, masks):
    check_gradients(golden, backward(objective, golden.batch(), masks, golden.noise()), v2_name)


def test_one_optimiser_step_and_ema_update(golden, objective):
    check_teacher_step(golden, objective, v2_name, lambda name: rename(name, V2_RENAMES))


def test_teacher_in_the_file_differs_from_the_student(checkpoint):
    reference = read(checkpoint)
    name = "blocks.0.attn.qkv.weight"
    assert not torch.equal(reference.ema[name], reference.model[name])


def test_old_key_names_are_understood(checkpoint, tmp_path):
    """`positional_encoder.pos_embed`, and a stray `encoder_mask`, as in early files."""
    content = torch.load(checkpoint, weights_only=True)
    new = "fixed_positional_encoder.positions"
    for state in (content["model"], content["model"]["_ema"]):
        for name in [n for n in state if n.endswith(new)]:
            state[name.replace(new, "positional_encoder.pos_embed")] = state.pop(name)
        state["modality_encoders.IMAGE.encoder_mask"] = torch.zeros(32)
    torch.save(content, tmp_path / "old.pt")
    old, _ = load_reference(tmp_path / "old.pt")
    today, _ = load_reference(checkpoint)
    assert all(torch.equal(value, old.state_dict()[name]) for name, value in today.state_dict().items())


def test_targets_for_every_combination_of_norms(shared_goldens):
    golden = Golden(shared_goldens, "targets")
    layers = list(golden["layers"])
    combinations = [name for name in golden.arrays.files if name.startswith("k") and ":" in name]
    assert len(combinations) > 20
    for name in combinations:
        k, norms = name.removeprefix("k").split(":")
        flags = norms.split("+")
        config = TargetConfig(
            top_k_layers=int(k),
            layer_norms=tuple(n for n in ("batch", "instance", "layer") if f"{n}_norm_target_layer" in flags),
            average_norms=tuple(n for n in ("layer", "instance") if f"{n}_norm_targets" in flags),
        )
        assert_close(make_targets(layers, config), golden[name], 1e-10)


def test_regression_loss_for_every_beta_and_scale(shared_goldens):
    golden = Golden(shared_goldens, "targets")
    cases = {name.rsplit(":", 1)[0] for name in golden.names("loss:")}
    assert len(cases) == 4
    for case in cases:
        _, beta, scale = case.split(":")
        value = scale.removeprefix("scale")
        config = LossConfig(
            beta=float(beta.removeprefix("beta")), scale="rsqrt_width" if value == "None" else float(value)
        )
        ours = regression_loss(golden[f"{case}:x"], golden[f"{case}:y"], config)
        assert_close(ours, golden[f"{case}:out"].sum(), 1e-10)
