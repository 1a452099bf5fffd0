"""Probes without labels, on objectives whose answers are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from d2v.config import EvaluateConfig, parse
from d2v.data.batch import Batch, Inputs
from d2v.evaluation.further import TokenHead, _neighbours, further_metrics, loss_of_items
from d2v.evaluation.metrics_file import PRETRAINED, RANDOM
from d2v.modalities.probes import Choice, ChosenTokens, CountModel, MaskedTokens, MinimalPairs
from d2v.modalities.text.modality import Text
from d2v.model_folder import DECODER, TEACHER, is_rest, load_objective, own_weights, save_encoder
from d2v.models.masking import Masks
from d2v.objectives.base import Objective
from d2v.objectives.build import build_objective
from tests.evaluation.fakes import FakeData, modality
from tests.modalities.text.contract_case import CASE
from tests.objectives.helpers import recipe as vision_recipe

TEXT = Text()
CONFIG = EvaluateConfig(bootstrap_resamples=100, batch_size=8)
RUN = {"optimizer": {"lr": 1e-3}, "batch_size": 4, "max_updates": 2}


def build(kind: str) -> Objective:
    return build_objective(TEXT, parse(TEXT.train_config, CASE.recipes[kind] | RUN)).eval()


def ids(*lengths: int) -> Inputs:
    values = torch.randint(5, 300, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(0))
    return Inputs(values, torch.tensor(lengths))


class Counted:
    """A loss that is the id of the token, and what was masked of every row."""

    def __init__(self, objective: Objective) -> None:
        self.objective, self.masked = objective, []

    def token_losses(self, batch: Batch, masks: Masks) -> Tensor:
        self.masked += masks.is_masked.sum(dim=1).tolist()
        assert batch.lengths is None
        return batch.inputs[masks.is_masked].float()


def test_every_token_is_hidden_exactly_once(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, inputs = build("data2vec2"), ids(9, 12, 9, 6)
    counted = Counted(objective)
    monkeypatch.setattr(objective, "token_losses", counted.token_losses)
    total = loss_of_items(objective, inputs, batch_size=2)
    known = [float(row[:length].sum()) for row, length in zip(inputs.values, inputs.lengths.tolist(), strict=True)]
    assert total.tolist() == known
    assert sum(counted.masked) == int(inputs.lengths.sum())


@pytest.mark.parametrize("kind", ["data2vec2", "data2vec1", "mlm"])
def test_the_loss_of_an_item_depends_on_no_other(kind: str) -> None:
    objective, inputs = build(kind), ids(9, 12, 9, 6)
    whole = loss_of_items(objective, inputs, batch_size=8)
    alone = torch.cat([loss_of_items(objective, inputs.select(torch.tensor([row])), 1) for row in range(4)])
    if kind == "data2vec2":  # the noise under masked tokens is drawn by the place in the batch
        torch.testing.assert_close(whole, alone, rtol=1e-2, atol=0)
    else:
        torch.testing.assert_close(whole, alone, rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", ["data2vec2", "data2vec1", "mlm"])
def test_losses_of_tokens_add_up_to_that_of_training(kind: str) -> None:
    objective, batch = build(kind), Batch(ids(12, 12).values, torch.arange(2), torch.zeros(2, dtype=torch.int64), 0)
    masks = objective.draw_masks(batch, 0, "cpu")
    with torch.no_grad():
        loss = objective(batch, masks).loss_sum
        tokens = objective.token_losses(batch, masks)
    if kind == "mlm":  # training leaves a tenth of the words as they are
        assert len(tokens) == int(masks.count)
        return
    assert float(tokens.sum()) == pytest.approx(float(loss), rel=1e-5)


@pytest.mark.parametrize("kind", ["data2vec2", "data2vec1", "mlm"])
def test_features_do_not_see_what_is_hidden(kind: str) -> None:
    objective, inputs = build(kind), ids(12, 12)
    is_masked = torch.zeros(2, 12, dtype=torch.bool)
    is_masked[:, [3, 8]] = True
    masks = Masks.with_equal_counts(is_masked, 2, 2)
    other = inputs.values.clone()
    other[:, 3] = 7
    keys = (torch.arange(2), torch.zeros(2, dtype=torch.int64), 0)
    one, two = (objective.visible_features(Batch(values, *keys), masks) for values in (inputs.values, other))
    torch.testing.assert_close(one[~is_masked], two[~is_masked])
    assert one.shape == (2, 12, objective.student.width)


def test_equal_losses_are_no_choice_and_intervals_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, inputs = build("data2vec2"), ids(9, 9, 9, 9)
    spoiled = Inputs(inputs.values.clone(), inputs.lengths)
    spoiled.values[:2] += 1  # two are worse, two are alike
    monkeypatch.setattr(objective, "token_losses", Counted(objective).token_losses)
    probe = Choice("forced_choice", "", inputs, spoiled, CountModel("counts", np.array([True, True, True, False])))
    metrics = further_metrics([probe], {PRETRAINED: objective, RANDOM: objective}, TEXT, CONFIG)
    assert metrics["probe/forced_choice"] == metrics["probe/forced_choice_random"] == 0.5
    assert metrics["probe/forced_choice_baseline"] == 0.75
    assert metrics["probe/forced_choice_gain_over_baseline"] == pytest.approx(-0.25)
    assert metrics["probe/forced_choice_low"] <= 0.5 <= metrics["probe/forced_choice_high"]


def test_an_objective_without_losses_of_tokens_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    objective, inputs = build("data2vec2"), ids(9, 9)
    monkeypatch.setattr(objective, "token_losses", lambda batch, masks: None)
    assert further_metrics([Choice("halves", "halves", inputs, inputs)], {PRETRAINED: objective}, TEXT, CONFIG) == {}
    assert "no halves: Data2Vec2 has none for single tokens" in capsys.readouterr().err


def chosen(inputs: Inputs, labels: Tensor) -> ChosenTokens:
    rows = torch.arange(len(inputs))
    return ChosenTokens(inputs, rows, torch.full_like(rows, 4), labels)


def test_the_head_learns_what_neighbours_tell() -> None:
    objective = build("data2vec2")
    values = torch.randint(5, 300, (600, 9), generator=torch.Generator().manual_seed(1))
    values[:, 3] = 20 + torch.arange(600) % 3 * 50  # the token before says which one follows
    labels = torch.arange(600) % 3
    head = TokenHead.fitted(objective, chosen(Inputs(values[:500]), labels[:500]), 3, 64)
    test = chosen(Inputs(values[500:]), labels[500:])
    assert (head.ln_p(_neighbours(objective, test, 64)).argmax(dim=1) == labels[500:]).float().mean() > 0.9


def test_pairs_are_chosen_by_a_sum_without_division(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that knows nothing gives -ln W a token: the shorter one wins, and a tie is wrong."""
    objective = build("data2vec2")
    head = TokenHead(torch.nn.Linear(48, 320), torch.zeros(48), torch.ones(48))
    torch.nn.init.zeros_(head._linear.weight)
    torch.nn.init.zeros_(head._linear.bias)
    monkeypatch.setattr(TokenHead, "fitted", classmethod(lambda *args: head))
    scored = lambda inputs: [  # noqa: E731
        (row, at, [at]) for row, length in enumerate(inputs.lengths.tolist()) for at in range(1, length - 1)
    ]
    right, wrong = ids(7, 9, 8), ids(8, 9, 7)
    counts = CountModel("counts", np.array([True, False, True]))
    pairs = MinimalPairs("agreement", right, wrong, (scored(right), scored(wrong)), counts)
    tokens = chosen(ids(9, 9), torch.tensor([5, 6]))
    probe = MaskedTokens("masked_word", "", tokens, tokens, 320, CountModel("", np.array([True, False])), (pairs,))
    metrics = further_metrics([probe], {PRETRAINED: objective, RANDOM: objective}, TEXT, CONFIG)
    assert metrics["probe/minimal_pairs_agreement"] == metrics["probe/minimal_pairs"] == pytest.approx(1 / 3)
    assert metrics["probe/masked_word_nats"] == pytest.approx(np.log(320), rel=1e-5)


def test_the_whole_objective_comes_back_from_its_folder(tmp_path: Path) -> None:
    vision, recipe = modality(FakeData()), vision_recipe()
    objective = build_objective(vision, recipe)
    with torch.no_grad():
        for number, parameter in enumerate(objective.parameters()):
            parameter.add_(0.01 * number)
    save_encoder(tmp_path, objective, "vision", recipe)
    assert load_objective(tmp_path, vision, recipe) is None
    save_file(own_weights(objective, is_rest), tmp_path / DECODER)
    again = load_objective(tmp_path, vision, recipe)
    for name, value in objective.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value)
    (tmp_path / TEACHER).unlink()
    assert load_objective(tmp_path, vision, recipe) is None
