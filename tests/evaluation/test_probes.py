"""Probes against scikit-learn, and at their edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from d2v.errors import CollapseError, DataError
from d2v.evaluation import probes
from d2v.evaluation.probes import knn, linear_probe


def clouds(items: int, width: int, classes: int, seed: int = 0, spread: float = 1.5) -> tuple[Tensor, Tensor]:
    """(items, width) Gaussian clouds around one centre a class, axes of different scale, labels mixed."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, width, generator=torch.Generator().manual_seed(99))
    labels = torch.randint(classes, (items,), generator=generator)
    scale = torch.logspace(-1, 1, width)
    return (centres[labels] + spread * torch.randn(items, width, generator=generator)) * scale, labels


@pytest.mark.parametrize(("items", "width", "classes"), [(300, 12, 4), (120, 200, 5), (64, 64, 2)])
@pytest.mark.parametrize("l2", [1e-3, 1e-1])
def test_linear_probe_is_scikit_learns_logistic_regression(items: int, width: int, classes: int, l2: float) -> None:
    train, labels = clouds(items, width, classes)
    test, _ = clouds(400, width, classes, seed=1)
    scaler = StandardScaler().fit(train.numpy())
    model = LogisticRegression(C=1 / (l2 * items), max_iter=5000, tol=1e-8)
    if classes == 2:  # one weight vector there, two here: the same optimum at half the penalty
        model.set_params(C=2 / (l2 * items))
    expected = model.fit(scaler.transform(train.numpy()), labels.numpy()).predict(scaler.transform(test.numpy()))
    fit = linear_probe(train, labels, test, [l2])
    assert fit.converged
    assert (fit.predictions_T.numpy() == expected).mean() >= 0.99


def test_linear_probe_takes_the_better_strength() -> None:
    train, labels = clouds(200, 100, 4, spread=4.0)
    test, test_labels = clouds(1000, 100, 4, seed=1, spread=4.0)
    grid = [1e-6, 1e-3, 1.0]
    accuracy = {
        l2: (linear_probe(train, labels, test, [l2]).predictions_T == test_labels).float().mean() for l2 in grid
    }
    chosen = linear_probe(train, labels, test, grid)
    assert chosen.l2 in grid
    assert accuracy[chosen.l2] >= max(accuracy.values()) - 0.02


def test_linear_probe_does_not_depend_on_global_state_or_grad_mode() -> None:
    train, labels = clouds(100, 10, 3)
    test, _ = clouds(50, 10, 3, seed=1)
    first = linear_probe(train, labels, test, [1e-3, 1e-2])
    torch.rand(3)
    state = torch.get_rng_state()
    with torch.inference_mode():
        second = linear_probe(train.clone(), labels.clone(), test.clone(), [1e-3, 1e-2])
    assert torch.equal(first.predictions_T, second.predictions_T)
    assert torch.equal(torch.get_rng_state(), state)


def test_linear_probe_leaves_constant_features_out() -> None:
    train, labels = clouds(100, 10, 3)
    test, _ = clouds(50, 10, 3, seed=1)
    expected = linear_probe(train, labels, test, [1e-2]).predictions_T
    padded = [torch.cat((part, torch.full((len(part), 3), 1e3)), dim=1) for part in (train, test)]
    assert torch.equal(linear_probe(padded[0], labels, padded[1], [1e-2]).predictions_T, expected)


def test_linear_probe_of_features_that_are_all_the_same_names_the_commonest_class() -> None:
    labels = torch.tensor([0, 1, 1, 1, 0, 1, 1, 1, 1, 1])
    fit = linear_probe(torch.ones(10, 4), labels, torch.ones(5, 4), [1e-2])
    assert fit.predictions_T.tolist() == [1] * 5


def test_linear_probe_needs_two_classes() -> None:
    with pytest.raises(DataError, match="at least two classes"):
        linear_probe(torch.randn(5, 3), torch.ones(5, dtype=torch.int64), torch.randn(2, 3), [1e-2])


def test_class_ids_may_have_gaps() -> None:
    train, labels = clouds(200, 10, 3, spread=0.1)
    ids = torch.tensor([2, 5, 40])
    assert torch.equal(linear_probe(train, ids[labels], train, [1e-3]).predictions_T, ids[labels])
    assert torch.equal(knn(train, ids[labels], train, k=3, temperature=0.07), ids[labels])


def test_a_class_may_be_missing_from_the_test_items_or_from_the_held_out_ones() -> None:
    train, labels = clouds(60, 10, 3, spread=0.1)
    keep = (labels != 2) | (torch.arange(60) == int((labels == 2).nonzero()[0]))
    only_first = train[labels == 0]
    assert set(linear_probe(train[keep], labels[keep], only_first, [1e-2, 1e-1]).predictions_T.tolist()) == {0}


def test_knn_is_scikit_learns_weighted_vote() -> None:
    train, labels = clouds(300, 12, 4)
    test, _ = clouds(200, 12, 4, seed=1)
    model = KNeighborsClassifier(15, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.07))
    expected = model.fit(train.numpy(), labels.numpy()).predict(test.numpy())
    assert (knn(train, labels, test, k=15, temperature=0.07).numpy() == expected).mean() >= 0.995


def test_knn_in_chunks_is_knn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    train, labels = clouds(100, 8, 3)
    test, _ = clouds(50, 8, 3, seed=1)
    whole = knn(train, labels, test, k=5, temperature=0.07)
    monkeypatch.setattr(probes, "KNN_CHUNK_ITEMS", 7)
    assert torch.equal(knn(train, labels, test, k=5, temperature=0.07), whole)


def test_knn_with_fewer_items_than_k_lets_all_vote() -> None:
    train, labels = torch.eye(3), torch.tensor([0, 1, 1])
    assert knn(train, labels, torch.eye(3), k=20, temperature=0.07).tolist() == [0, 1, 1]


def test_knn_with_one_class_and_without_test_items() -> None:
    train, labels = torch.randn(5, 3), torch.full((5,), 4)
    assert knn(train, labels, torch.randn(2, 3), k=2, temperature=0.07).tolist() == [4, 4]
    assert knn(train, labels, torch.empty(0, 3), k=2, temperature=0.07).shape == (0,)


def test_knn_with_a_tiny_temperature_is_the_nearest_item() -> None:
    train, labels = clouds(100, 8, 3)
    test, _ = clouds(50, 8, 3, seed=1)
    nearest = knn(train, labels, test, k=1, temperature=0.07)
    assert torch.equal(knn(train, labels, test, k=20, temperature=1e-5), nearest)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("broken", ["train", "test"])
def test_features_that_are_not_finite_are_refused(value: float, broken: str) -> None:
    parts = {"train": torch.randn(6, 3), "test": torch.randn(4, 3)}
    parts[broken][1, 2] = value
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    with pytest.raises(CollapseError, match=rf"1 of \d feature vectors of the probe's {broken} items"):
        knn(parts["train"], labels, parts["test"], k=2, temperature=0.07)
    with pytest.raises(CollapseError, match=r"lower optimizer\.lr"):
        linear_probe(parts["train"], labels, parts["test"], [1e-2])


@pytest.mark.parametrize(("items", "labels"), [(0, 0), (3, 2)])
def test_items_and_labels_must_match(items: int, labels: int) -> None:
    with pytest.raises(DataError, match="prepare"):
        knn(torch.randn(items, 3), torch.zeros(labels, dtype=torch.int64), torch.randn(2, 3), k=2, temperature=0.07)
