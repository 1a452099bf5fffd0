"""data2vec 1.0 for images against numbers that the reference computed from the same weights and masks."""

import re

import pytest
import torch

from d2v.interchange.fairseq import load_reference
from d2v.interchange.fairseq_vision import v1_name
from d2v.models.masking import Masks
from tests.interchange.parity import backward, check_gradients

pytestmark = pytest.mark.goldens
GOLDEN = "v1_image"


@pytest.fixture(scope="module")
def masks(golden):
    return Masks.ragged(golden["mask"].flatten(1).bool())


def test_recipe_is_read_from_the_file(checkpoint):
    _, converted = load_reference(checkpoint)
    encoder, objective = converted.recipe.encoder, converted.recipe.objective
    assert (encoder.image_px, encoder.patch_px, encoder.width, encoder.depth, encoder.heads) == (32, 4, 32, 4, 4)
    assert (objective.targets.activation, objective.targets.top_k_layers) == ("end_of_block", 3)
    assert (objective.loss.beta, objective.head) == (2.0, "none")


def test_features(golden, objective):
    student = objective.student
    local = student.stem(golden.inputs())
    golden.close(local, "patch_embed")
    golden.close(student.stem.add_positions(local, None, None)[1], "rel_pos_bias")
    encoded = student.encode(local, activation="end_of_block")
    golden.close(encoded.tokens, "feat_x")
    golden.close(torch.stack(encoded.activations), "feat_layer_results")


def test_teacher_targets(golden, objective):
    teacher = objective.teacher.encoder
    local = teacher.stem(golden.inputs())
    golden.close(torch.stack(teacher.encode(local, activation="end_of_block").activations[-3:]), "teacher_layers")
    golden.close(objective.targets(local, None), "targets")


def test_loss_and_statistics(golden, objective, masks):
    output = objective(golden.batch(), masks)
    assert int(masks.count) == int(golden["sample_size"])
    golden.close(output.loss_sum, "loss_sum")
    golden.close(output.statistics["regression_loss"], "loss_total")


def test_every_gradient(golden, objective, masks):
    check_gradients(golden, backward(objective, golden.batch(), masks), lambda name: v1_name(name, ported=True))


def test_beit_layout_loads_to_the_same_weights(objective, checkpoint, tmp_path):
    """The same weights under the BEiT repository's names, with its top-level teacher, are the same model."""
    reference = torch.load(checkpoint, weights_only=True)["model"]
    model = {_beit_name(name): v for name, v in reference.items() if isinstance(v, torch.Tensor)}
    model = {name: value for name, value in model.items() if not name.startswith("final_proj")}
    width = model["norm.weight"].numel()
    model |= {"lm_head.weight": torch.eye(width), "lm_head.bias": torch.zeros(width)}
    torch.save({"model": model, "model_ema": dict(model), "epoch": 3}, tmp_path / "checkpoint.pth")
    loaded, converted = load_reference(tmp_path / "checkpoint.pth")
    assert converted.recipe.objective.head == "linear"
    ours = {name: value for name, value in objective.state_dict().items() if name.startswith("student.")}
    for name, value in ours.items():
        assert torch.equal(loaded.state_dict()[name], value)
        assert torch.equal(loaded.state_dict()[name.replace("student.", "teacher.encoder.", 1)], value)


def _beit_name(name):
    name = re.sub(r"^encoder\.", "", name).replace("mlp.0", "mlp.fc1").replace("mlp.2", "mlp.fc2")
    return name.replace("cls_emb", "cls_token").replace("mask_emb", "mask_token").replace("embed.conv", "embed.proj")
