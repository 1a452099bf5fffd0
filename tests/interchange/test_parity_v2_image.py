"""data2vec 2.0 for images against numbers that the reference computed from the same weights, masks and noise."""

import numpy as np
import pytest
import torch

from d2v.interchange.fairseq import load_reference, read
from d2v.interchange.fairseq_vision import V2_RENAMES, _v2_name
from d2v.models.masking import Masks
from d2v.models.targets import make_targets
from tests.interchange.parity import RELATIVE, Golden, assert_close, gradients

pytestmark = pytest.mark.goldens
CLS_LOSS, ROWS = 0.01, 6  # the reference's cls_loss, and B*M of the golden: spec of the CLS term


@pytest.fixture(scope="module")
def golden(shared_goldens):
    return Golden(shared_goldens, "v2_image")


@pytest.fixture(scope="module")
def objective(shared_goldens):
    objective, _ = load_reference(shared_goldens / "v2_image.fairseq.pt")
    objective.config = objective.config.model_copy(update={"cls_loss": CLS_LOSS * ROWS})
    return objective.train()


@pytest.fixture(scope="module")
def masks(golden):
    is_masked = golden["mask"].bool()
    return Masks.with_equal_counts(is_masked, samples=2, hidden=int(is_masked[0].sum()))


@pytest.fixture(scope="module")
def noise(golden):
    """Full-length noise (R, T, D): the golden's, put where its unstable sort put it."""
    kept = golden["ids_keep"].shape[1]
    drawn = golden["mask_token_noise"]
    full = torch.cat((torch.zeros(len(drawn), kept, drawn.shape[-1]), drawn), dim=1)
    return torch.gather(full, 1, golden["ids_restore"].unsqueeze(-1).expand_as(full))


def test_recipe_is_read_from_the_file(shared_goldens):
    _, converted = load_reference(shared_goldens / "v2_image.fairseq.pt")
    encoder, objective = converted.recipe.encoder, converted.recipe.objective
    assert (encoder.image_px, encoder.patch_px, encoder.width, encoder.depth) == (32, 4, 32, 3)
    assert (encoder.prenet_depth, encoder.heads, objective.masks_per_sample) == (1, 4, 3)
    assert (objective.decoder.layers, objective.decoder.groups, objective.targets.top_k_layers) == (2, 4, 3)
    assert (objective.targets.layer_norms, objective.targets.average_norms) == (("instance",), ("layer",))


def test_local_features_and_full_encoding(golden, objective):
    student = objective.student.eval()
    encoded = student.encode(student.stem(golden["source"]), activation="ffn")
    assert_close(student.stem(golden["source"]), golden["local_features_f64"])
    assert_close(encoded.tokens, golden["feat_x_f64"])
    assert_close(torch.cat((encoded.extra, encoded.tokens), 1), golden["feat_x_with_extra_f64"])
    without_extra = golden["feat_layer_results_f64"][:, :, 1:]
    assert_close(torch.stack(encoded.activations), without_extra)
    objective.student.train()


def test_sincos_positions_equal_the_stored_ones(golden, objective, shared_goldens):
    from d2v.modalities.vision.encoder import sincos_positions

    positions = Golden(shared_goldens, "alibi")
    assert_close(sincos_positions(32, 8)[0], positions["sincos2d_d32_n8"], 1e-6)
    assert_close(sincos_positions(768, 14)[0], positions["sincos2d_d768_n14"], 1e-6)


def test_visible_tokens_go_through_the_student(golden, objective, masks):
    encoded = objective.student.encode(objective.student.stem(golden["source"]), masks.visible_idx)
    order = golden["ids_keep"].argsort(dim=1)  # the reference's visible order is not stable; ours ascends
    expected = golden["student_encoder_out_f64"]
    assert_close(encoded.extra, expected[:, :1])
    assert_close(encoded.tokens, torch.gather(expected[:, 1:], 1, order.unsqueeze(-1).expand_as(expected[:, 1:])))


def test_decoder_fills_in(golden, objective, masks, noise):
    encoded = objective.student.encode(objective.student.stem(golden["source"]), masks.visible_idx)
    filled = objective.decoder_input(encoded.tokens, masks.visible_idx, noise)
    assert_close(filled, golden["decoder_in_f64"])
    assert_close(objective.decoder(filled), golden["decoder_out_f64"])


def test_teacher_layers_and_targets(golden, objective):
    teacher = objective.teacher.encoder
    activations = teacher.encode(teacher.stem(golden["source"]), activation="ffn").activations
    assert_close(torch.stack(activations), golden["teacher_layers_f64"])
    assert_close(objective.targets(golden["source"]), golden["targets_f64"])


def test_losses_and_statistics(golden, objective, masks, noise):
    output = objective(golden.batch(), masks, noise)
    count = int(golden["sample_size"])
    assert int(masks.count) == count
    assert_close(output.loss_sum / count, golden["loss_total_f64"])
    regression = output.statistics["regression_loss"] * count
    assert_close(regression, golden["loss_IMAGE_regression_sum_f64"])
    assert_close(output.statistics["cls_loss"] * CLS_LOSS * ROWS * count, golden["loss_cls_sum_f64"])
    assert float(output.statistics["target_std"]) == pytest.approx(float(golden["target_var"]), rel=RELATIVE)
    assert float(output.statistics["pred_std"]) == pytest.approx(float(golden["pred_var"]), rel=RELATIVE)


def test_every_gradient(golden, objective, masks, noise):
    objective.zero_grad()
    (objective(golden.batch(), masks, noise).loss_sum / int(golden["sample_size"])).backward()
    ours = gradients(objective)
    names = [str(name) for name in golden.arrays["grad_names"]]
    assert {_v2_name(name) for name in names} == set(ours)
    norms = torch.stack([ours[_v2_name(name)].double().norm() for name in names])
    floor = 1e-7 * float(golden["grad_global_norm"])  # gradients that are rounding alone (a K bias) have no digits
    np.testing.assert_allclose(norms, golden["grad_norms_f64"], rtol=RELATIVE, atol=floor)
    for name in golden.names("grad:"):
        assert_close_gradient(ours[_v2_name(name.removeprefix("grad:"))], golden[name], floor)


def assert_close_gradient(ours, reference, floor):
    assert float((ours - reference).abs().max()) <= RELATIVE * float(reference.abs().max()) + floor


def test_one_optimiser_step_and_ema_update(golden, objective, shared_goldens):
    """The reference's student after one Adam step, absorbed by our teacher, gives the reference's teacher."""
    import copy

    objective = copy.deepcopy(objective)
    stepped = {_v2_name(n.removeprefix("after:")): golden[n] for n in golden.names("after:")}
    state = dict(objective.named_parameters())
    with torch.no_grad():
        for name, value in stepped.items():
            state[name].copy_(value)
    objective.update_teacher(float(golden["after_ema_decay"]))
    teacher = dict(objective.teacher.encoder.named_parameters())
    expected = golden.names("after_ema:")
    assert expected
    for name in expected:
        ours = teacher[_rename_teacher(name.removeprefix("after_ema:"))]
        assert_close(ours, golden[name], 1e-6)


def _rename_teacher(name):
    import re

    for pattern, replacement in V2_RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def test_teacher_in_the_file_differs_from_the_student(shared_goldens):
    reference = read(shared_goldens / "v2_image.fairseq.pt")
    name = "blocks.0.attn.qkv.weight"
    assert not torch.equal(reference.ema[name], reference.model[name])


def test_old_key_names_are_understood(shared_goldens, tmp_path):
    """`positional_encoder.pos_embed`, and a stray `encoder_mask`, as in early files."""
    content = torch.load(shared_goldens / "v2_image.fairseq.pt", weights_only=True)
    new = "fixed_positional_encoder.positions"
    for state in (content["model"], content["model"]["_ema"]):
        for name in [n for n in state if n.endswith(new)]:
            state[name.replace(new, "positional_encoder.pos_embed")] = state.pop(name)
        state["modality_encoders.IMAGE.encoder_mask"] = torch.zeros(32)
    torch.save(content, tmp_path / "old.pt")
    old, _ = load_reference(tmp_path / "old.pt")
    today, _ = load_reference(shared_goldens / "v2_image.fairseq.pt")
    assert all(torch.equal(value, old.state_dict()[name]) for name, value in today.state_dict().items())


def test_targets_for_every_combination_of_norms(shared_goldens):
    from d2v.config import TargetConfig

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
    from d2v.config import LossConfig
    from d2v.models.targets import regression_loss

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
