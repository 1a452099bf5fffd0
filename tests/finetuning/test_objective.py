"""The module that fine-tuning trains, and the heads: rates, what is frozen, what is hidden, outputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from d2v.config import ClassificationTask, HeadConfig, parse
from d2v.data.batch import Batch
from d2v.distributed.environment import DistEnv
from d2v.distributed.process_group import init_process_group
from d2v.errors import ConfigError
from d2v.finetuning.heads import PooledHead, mean_over_tokens
from d2v.finetuning.objective import FineTuning
from d2v.finetuning.tasks.classification import Classification
from d2v.modalities import registry
from d2v.modalities.vision.config import VisionFinetuneConfig, VisionTrainConfig
from d2v.models.encoder import Encoded
from d2v.training.engine import open_engine, parameter_groups
from tests.objectives.helpers import SMALL, SMALL_V1

CPU = DistEnv(0, 1, device_type="cpu")
CLASSES = ("a", "b", "c")
RECIPE = SMALL | {"encoder": SMALL["encoder"] | {"depth": 2, "prenet_depth": 1}}


def config_of(**changes: Any) -> VisionFinetuneConfig:
    values = {
        "task": {"name": "classification"},
        "optimizer": {"lr": 0.1, "clip_norm": None},
        "batch_size": 4,
        "max_updates": 10,
        "precision": "fp32",
    }
    return parse(VisionFinetuneConfig, values | changes)


def build(recipe: dict[str, Any] = RECIPE, **changes: Any) -> FineTuning:
    config = config_of(**changes)
    torch.manual_seed(0)
    encoder = registry.get("vision").build_encoder(parse(VisionTrainConfig, recipe))
    assert isinstance(config.task, ClassificationTask)
    task = Classification(config.task, CLASSES)
    return FineTuning(config, encoder, task.make_head(encoder), task, longest=17)


def batch(update: int = 0) -> Batch:
    ids = torch.arange(4)
    targets = F.one_hot(torch.tensor([0, 1, 2, 0]), 3).float()
    return Batch(
        torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)), ids, ids, update, targets=targets
    )


# -------------------------------------------------------------------------------------------- learning rates


def test_each_block_has_its_own_rate() -> None:
    """Block i of N has decay^(N - i); what is no block and the head have the full rate, as in data2vec 2.0."""
    objective = build(layer_decay=0.5)
    rates = {name: objective.rate_of(objective.part_of(name), 0) for name, _ in objective.named_parameters()}
    assert {rate for name, rate in rates.items() if name.startswith("student.prenet.0.")} == {0.125}
    assert {rate for name, rate in rates.items() if name.startswith("student.blocks.0.")} == {0.25}
    assert {rate for name, rate in rates.items() if name.startswith("student.blocks.1.")} == {0.5}
    others = {name for name, rate in rates.items() if rate == 1.0}
    assert {name.split(".")[0] for name in others} == {"head", "student"}
    assert {"student.extra_tokens", "student.stem.local.proj.weight", "student.context_norm.weight"} <= others
    assert not any(".blocks." in name or ".prenet." in name for name in others)


def test_beits_tokens_are_the_layer_below_the_first_block() -> None:
    """BEiT counts patches and the CLS token as layer 0 of N + 2; its shared table and norms go with the head."""
    objective = build(SMALL_V1, layer_decay=0.5)
    rates = {name: objective.rate_of(objective.part_of(name), 0) for name, _ in objective.named_parameters()}
    lowest = {name for name, rate in rates.items() if rate == 0.125}
    assert lowest == {"student.stem.local.proj.weight", "student.stem.local.proj.bias", "student.extra_tokens"}
    assert {rate for name, rate in rates.items() if name.startswith("student.blocks.0.")} == {0.25}
    assert {rate for name, rate in rates.items() if name.startswith("student.blocks.1.")} == {0.5}
    full = {name for name, rate in rates.items() if rate == 1.0 and name.startswith("student.")}
    assert full == {"student.stem.relative_bias", "student.final_norm.weight", "student.final_norm.bias"}


def test_no_layer_decay_is_plain() -> None:
    objective = build(layer_decay=1.0)
    assert {objective.rate_of(objective.part_of(name), 0) for name, _ in objective.named_parameters()} == {1.0}


def test_rates_reach_the_optimiser_and_the_weights() -> None:
    """AdamW's first step is lr times the sign of the gradient, whatever its size."""
    objective = build(layer_decay=0.5, frozen_updates=1, optimizer={"lr": 0.1, "clip_norm": None, "weight_decay": 0.0})
    watched = {
        "head.classify.weight": 1.0,
        "student.blocks.0.mlp.fc1.weight": 0.25,
        "student.prenet.0.mlp.fc1.weight": 0.125,
    }
    with init_process_group(CPU, 60) as group, open_engine(objective, objective.config, group, "fp32") as engine:
        before = {name: objective.get_parameter(name).detach().clone() for name in watched}
        moved: list[dict[str, float]] = []
        for update in range(2):
            given = batch(update)
            loss = engine.module(given, objective.draw_masks(given, 0, "cpu"))[0] / 4
            engine.backward(loss)
            engine.step(update, 0.1, loss.detach())
            after = {name: objective.get_parameter(name).detach().clone() for name in watched}
            moved.append({name: float((after[name] - before[name]).abs().max()) for name in watched})
            groups = {group["part"]: group["lr"] for group in engine.optimizer.param_groups}
            before = after
    assert moved[0]["student.blocks.0.mlp.fc1.weight"] == moved[0]["student.prenet.0.mlp.fc1.weight"] == 0.0
    assert moved[0]["head.classify.weight"] == pytest.approx(0.1, rel=1e-3)
    assert groups == pytest.approx(
        {"head": 0.1, "local": 0.1, "rest": 0.1, "block-000": 0.0125, "block-001": 0.025, "block-002": 0.05}
    )
    for name, rate in watched.items():
        assert 0.3 * 0.1 * rate < moved[1][name] < 1.5 * 0.1 * rate, name


def test_every_trained_parameter_is_in_one_group() -> None:
    objective = build(layer_decay=0.5)
    groups = parameter_groups(objective, objective.config.optimizer)
    inside = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(inside) == sorted(id(parameter) for parameter in objective.parameters() if parameter.requires_grad)
    decays = {(group["part"], group["weight_decay"]) for group in groups}
    assert {("head", 0.05), ("head", 0.0), ("block-001", 0.05), ("block-001", 0.0)} <= decays


# ------------------------------------------------------------------------------------------- what is frozen


def test_a_frozen_encoder_is_in_no_group_and_draws_no_dropout() -> None:
    objective = build(trained="head").train()
    parts = {group["part"] for group in parameter_groups(objective, objective.config.optimizer)}
    assert parts == {"head"}
    assert objective.head.training
    assert not any(module.training for module in objective.student.modules())


def test_a_frozen_local_encoder_alone_gets_no_gradient() -> None:
    objective = build(frozen_local=True)
    given = batch()
    objective(given, objective.draw_masks(given, 0, "cpu")).loss_sum.backward()
    without = {name for name, parameter in objective.named_parameters() if parameter.grad is None}
    fixed = {"student.stem.positions", "student.stem.local.proj.weight", "student.stem.local.proj.bias"}
    assert without == fixed


# -------------------------------------------------------------------------------------------- what is hidden


def test_nothing_is_hidden_unless_asked() -> None:
    hidden = build().draw_masks(batch(), 0, "cpu")
    assert hidden.tokens_BT is None
    assert hidden.channels_BD is None
    assert int(hidden.count) == 4


def test_what_is_hidden_follows_seed_update_and_item() -> None:
    objective = build(mask={"time_ratio": 0.5, "time_span": 2, "channel_ratio": 0.3, "channel_span": 4})
    first = objective.draw_masks(batch(), 0, "cpu")
    assert first.tokens_BT.shape == (4, 16)
    assert first.channels_BD.shape == (4, 32)
    again = objective.draw_masks(batch(), 0, "cpu")
    assert torch.equal(first.tokens_BT, again.tokens_BT)
    assert torch.equal(first.channels_BD, again.channels_BD)
    for other in (objective.draw_masks(batch(), 1, "cpu"), objective.draw_masks(batch(1), 0, "cpu")):
        assert not torch.equal(first.tokens_BT, other.tokens_BT)
        assert not torch.equal(first.keys, other.keys)


@pytest.mark.parametrize("replacement", ["zero", "noise"])
def test_the_encoder_does_not_see_what_is_hidden(replacement: str) -> None:
    objective = build(mask={"time_ratio": 0.5, "time_span": 2, "replacement": replacement}).eval()
    given, other = batch(), batch()
    hidden = objective.draw_masks(given, 0, "cpu")
    is_hidden_B44 = hidden.tokens_BT.unflatten(1, (4, 4))
    pixels = is_hidden_B44.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None]
    other.inputs = torch.where(pixels, 9.0, other.inputs)
    assert torch.equal(objective(given, hidden).loss_sum, objective(other, hidden).loss_sum)
    assert not torch.equal(
        objective(given, hidden).loss_sum, build().eval()(given, build().draw_masks(given, 0, "cpu")).loss_sum
    )


# ---------------------------------------------------------------------------------------- targets and heads


def test_smoothed_targets_give_torchs_loss() -> None:
    task = Classification(parse(ClassificationTask, {"name": "classification", "label_smoothing": 0.1}), CLASSES)

    class Part:
        labels = torch.tensor([2, 0, 1, 1]).numpy()

    outputs = torch.randn(4, 3)
    ours = task.loss(outputs, task.targets(Part(), torch.arange(4).numpy()), None)  # type: ignore[arg-type]
    theirs = F.cross_entropy(outputs, torch.from_numpy(Part.labels), label_smoothing=0.1, reduction="sum")
    torch.testing.assert_close(ours, theirs)


def encoded(items: int = 3, tokens: int = 10, width: int = 16) -> Encoded:
    torch.manual_seed(1)
    return Encoded(torch.randn(items, tokens, width), torch.randn(items, 1, width), [])


def test_the_default_head_is_mean_norm_and_linear_layer() -> None:
    torch.manual_seed(0)
    head, given = PooledHead(HeadConfig(), 16, 400), encoded()
    pooled = F.layer_norm(given.tokens.mean(dim=1), (16,), eps=1e-6)
    torch.testing.assert_close(head(given, None), F.linear(pooled, head.classify.weight, head.classify.bias))
    assert float(head.classify.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert not head.classify.bias.detach().any()
    assert head.norm.eps == 1e-6


def test_the_first_token_is_the_extra_one() -> None:
    head, given = PooledHead(HeadConfig(pool="first", norm=False), 16, 4), encoded()
    torch.testing.assert_close(head(given, None), head.classify(given.extra[:, 0]))


@pytest.mark.parametrize("pool", ["mean", "attention"])
def test_padding_is_no_part_of_an_item(pool: str) -> None:
    torch.manual_seed(0)
    head, given, lengths = PooledHead(HeadConfig(pool=pool), 16, 4, heads=2), encoded(), torch.tensor([10, 6, 1])
    whole = head(given, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = Encoded(given.tokens[row : row + 1, :length], given.extra[row : row + 1], [])
        torch.testing.assert_close(head(alone, None)[0], whole[row])
    assert not torch.allclose(whole, head(given, None))


def test_an_attentive_probe_chooses_tokens() -> None:
    """A token that its query looks for outweighs the others; the order of tokens is all the same to it."""
    torch.manual_seed(0)
    head, given = PooledHead(HeadConfig(pool="attention", norm=False), 16, 4, heads=4), encoded()
    shuffled = Encoded(given.tokens[:, torch.randperm(10)], given.extra, [])
    torch.testing.assert_close(head(given, None), head(shuffled, None))
    assert head.attention is not None
    with torch.no_grad():
        head.attention.query.mul_(5000.0)
    moved = given.tokens.clone().requires_grad_()
    head(Encoded(moved, given.extra, []), None).sum().backward()
    pull = moved.grad.norm(dim=-1)
    assert float((pull.max(dim=1).values / pull.sum(dim=1)).min()) > 0.3  # a mean would give each a tenth


def test_heads_that_do_not_fit_are_named() -> None:
    with pytest.raises(ConfigError, match=r"set finetune\.task\.head\.heads to a divisor of 16"):
        PooledHead(HeadConfig(pool="attention"), 16, 4, heads=3)


def test_the_mean_is_over_real_tokens() -> None:
    tokens = torch.tensor([[[1.0], [3.0], [100.0]]])
    assert float(mean_over_tokens(tokens, torch.tensor([2]))) == 2.0
