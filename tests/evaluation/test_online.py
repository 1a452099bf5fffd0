"""The online probe: what it returns, how long it takes, and that training does not notice it."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from d2v.config import EvaluateConfig, TrainConfig
from d2v.data.batch import Inputs
from d2v.evaluation.further import choose
from d2v.evaluation.online import SIZES, OnlineProbe
from d2v.evaluation.probe_set import smaller, with_test_items
from d2v.modalities.probes import Choice
from d2v.objectives.base import Objective
from d2v.objectives.build import build_objective
from d2v.pretraining.pretrain import pretraining_job
from tests.evaluation.fakes import CONFIG, SIDE_PX, FakeData, FakeVision, modality
from tests.objectives.helpers import SMALL, recipe


def probe_of(data: FakeData, config: EvaluateConfig = CONFIG) -> OnlineProbe:
    return OnlineProbe(modality(data), recipe(), data, config)


@pytest.fixture
def objective() -> Objective:
    return build_objective(modality(FakeData()), recipe())


def test_it_returns_shares_and_a_rank(objective: Objective) -> None:
    metrics = probe_of(FakeData())(objective.student)
    assert set(metrics) == {"online/knn", "online/linear", "online/rank"}
    assert 1 / 3 < metrics["online/knn"] <= 1.0
    assert 1 / 3 < metrics["online/linear"] <= 1.0
    assert 1.0 <= metrics["online/rank"] <= 32.0


@pytest.mark.parametrize("labelled", ["none", "one"])
def test_without_classes_there_is_only_a_rank(labelled: str, objective: Objective) -> None:
    probe = probe_of(FakeData(labelled=labelled))
    assert set(probe(objective.student)) == {"online/rank"}
    assert set(probe.baselines()) == {"online/rank_random"}


def test_the_test_items_are_not_touched(objective: Objective) -> None:
    """The same metrics with and without them: the online probe holds out train items."""
    assert probe_of(FakeData(test_items=0))(objective.student) == probe_of(FakeData())(objective.student)


def test_baselines_are_the_first_weights_and_plain_features(objective: Objective) -> None:
    probe = probe_of(FakeData())
    baselines = probe.baselines()
    assert {f"{name}_random": value for name, value in probe(objective.student).items()}.items() <= baselines.items()
    assert {"online/knn_baseline", "online/linear_baseline"} < set(baselines)
    assert "online/rank_baseline" not in baselines


def test_training_does_not_notice_it(objective: Objective) -> None:
    objective.train()
    objective.student.blocks[0].eval()
    modes = [module.training for module in objective.modules()]
    weights, state = copy.deepcopy(objective.state_dict()), torch.get_rng_state()
    probe = probe_of(FakeData())
    first, second = probe(objective.student), probe(objective.student)
    assert first == second
    assert [module.training for module in objective.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(weights[name], value) for name, value in objective.state_dict().items())
    assert all(parameter.grad is None for parameter in objective.parameters())


def test_dropout_is_off() -> None:
    values = recipe(SMALL | {"encoder": SMALL["encoder"] | {"dropout": 0.5, "drop_path": 0.5}})
    student = build_objective(modality(FakeData()), values).student.train()
    probe = probe_of(FakeData())
    assert probe(student) == probe(student)


def test_items_are_read_once_and_late(objective: Objective) -> None:
    data = FakeData()
    probe = probe_of(data)
    assert data.calls == []
    probe(objective.student)
    probe(objective.student)
    assert data.calls == ["probe_set"]


def test_it_keeps_which_items_were_named(objective: Objective, tmp_path: Path) -> None:
    sizes = CONFIG.model_copy(update={"online_train_items": 30, "online_test_items": 7})
    metrics = probe_of(FakeData(train_items=100), sizes)(objective.student, tmp_path / "probed" / "5.npy")
    right = np.load(tmp_path / "probed" / "5.npy")
    assert (right.shape, right.dtype) == ((7,), bool)
    assert metrics["online/linear"] == pytest.approx(right.mean())


class WithPairs(FakeVision):
    """Pictures beside the same with their halves exchanged."""

    has_choices = True

    def choice(self, data: FakeData, recipe: TrainConfig, pairs: range, counted: bool = False) -> Choice:
        values = data.probe_set(recipe).test_inputs.values[pairs.start : pairs.stop]
        return Choice("halves", "halves", Inputs(values), Inputs(values.roll(SIDE_PX // 2, dims=3)))


def test_a_choice_is_kept_in_place_of_the_linear_probe(objective: Objective, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"further_items": 10, "online_choice_items": 20})
    probe, file = OnlineProbe(WithPairs(FakeData()), recipe(), FakeData(), config), tmp_path / "5.npy"
    state = torch.get_rng_state()
    probe(objective.student, file)
    metrics = probe.choice(objective, file)
    right = np.load(file)
    assert metrics == {"online/choice": right.mean()}
    assert right.shape == (20,)
    pairs = WithPairs(FakeData()).choice(FakeData(), recipe(), range(10, 30))
    assert np.array_equal(right, choose(objective, pairs, 7))
    assert torch.equal(torch.get_rng_state(), state)
    assert "online/choice_random" in probe.baselines()
    sizes = json.loads((tmp_path / SIZES).read_text())
    assert (sizes["online_choice_items"], sizes["further_items"]) == (20, 10)  # which pairs follows from both
    probe_of(FakeData())(objective.student, tmp_path / "labels" / "5.npy")
    assert "further_items" not in json.loads((tmp_path / "labels" / SIZES).read_text())


def test_without_pairs_there_is_no_choice(objective: Objective, tmp_path: Path) -> None:
    assert probe_of(FakeData()).choice(objective, tmp_path / "5.npy") == {}
    assert not list(tmp_path.iterdir())


def test_a_pretraining_chooses_by_its_own_weights(tmp_path: Path) -> None:
    """Of the same update, with teacher and decoder: as the finished folder does."""
    config = CONFIG.model_copy(update={"further_items": 0, "online_choice_items": 40})
    modality, values = WithPairs(FakeData()), recipe(SMALL | {"max_updates": 3, "batch_size": 8})
    job = pretraining_job(modality, values, tmp_path, config, probed=tmp_path / "probed")
    trained = build_objective(modality, recipe(SMALL | {"seed": 5}))
    assert job.whole_probe is not None
    metrics = job.whole_probe(trained.state_dict(), 3)
    pairs = modality.choice(FakeData(), values, range(40))
    assert np.array_equal(np.load(tmp_path / "probed" / "3.npy"), right := choose(trained, pairs, CONFIG.batch_size))
    assert metrics == {"online/choice": right.mean()}
    assert right.mean() != choose(build_objective(modality, values), pairs, CONFIG.batch_size).mean()
    without = CONFIG.model_copy(update={"online_choice_items": 0})
    assert pretraining_job(modality, values, tmp_path, without).whole_probe is None


def test_the_subset_is_fixed_and_holds_no_more() -> None:
    whole = FakeData(train_items=1300, test_items=700).probe_set(recipe())
    part, again = (smaller(whole, 1000, 500) for _ in range(2))
    assert (len(part.train_labels), len(part.test_labels)) == (1000, 500)
    assert torch.equal(part.train_inputs.values, again.train_inputs.values)
    assert part.train_inputs.values.untyped_storage().nbytes() == part.train_inputs.values.numel() * 4


def test_lent_test_items_leave_train() -> None:
    whole = with_test_items(FakeData(train_items=25, test_items=0).probe_set(recipe()))
    assert (len(whole.train_labels), len(whole.test_labels)) == (22, 3)
    everything = torch.cat((whole.train_inputs.values, whole.test_inputs.values))
    assert len(everything.flatten(1).unique(dim=0)) == 25
