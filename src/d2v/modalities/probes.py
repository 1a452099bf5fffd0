"""Probes that a modality has beside those of its labels. Each is described here by what it needs, and measured in
`d2v.evaluation.further` for any modality.

Shape legend: n items, N tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from d2v.data.batch import Inputs


@dataclass(frozen=True)
class CodeCounts:
    """The prepared codebook's codes beside classes of tokens that it was not made from.

    Attributes:
        codebook: what was clustered, for tables.
        classes: what the classes are, such as "phones".
        names: of the classes, as many as counts has rows.
        counts: (classes, codes) tokens of each class that have each code.
        items: how many items' tokens these are.
        silence: the class of tokens without content, which are left out once more; None if there is none.
    """

    codebook: str
    classes: str
    names: list[str]
    counts: list[list[int]]
    items: int
    silence: str | None = None


@dataclass(frozen=True)
class CountModel:
    """A plain model that encoders are compared with.

    Attributes:
        name: for tables, such as "bigram counts".
        right: (n,) bool, whether it is right about each test item or token.
        nats: (n,) -ln p of what is right, where it gives probabilities; None where not.
    """

    name: str
    right: np.ndarray
    nats: np.ndarray | None = None


@dataclass(frozen=True)
class Choice:
    """Which of two is whole: the one whose tokens, each masked once, the pretraining objective foresees better.

    Attributes:
        name: of its metrics, behind `probe/`.
        title: for tables.
        whole: n items as they are.
        spoiled: the same n items with their parts in another order, each as long as before.
        counts: the best plain model; None where there is none, and one half is what guessing gets.
    """

    name: str
    title: str
    whole: Inputs
    spoiled: Inputs
    counts: CountModel | None = None


@dataclass(frozen=True)
class ChosenTokens:
    """Some tokens of some items.

    Attributes:
        inputs: n items.
        row_N, at_N: (N,) int64 the item of each token and its position.
        labels_N: (N,) int64 its class.
    """

    inputs: Inputs
    row_N: Tensor
    at_N: Tensor
    labels_N: Tensor


@dataclass(frozen=True)
class MaskedTokens:
    """Name masked tokens from frozen features of the nearest visible ones on either side.

    Attributes:
        name, title: as of `Choice`.
        train, test: tokens that are masked, not two of them side by side; every item has as many.
        classes: W, of the labels.
        counts: the best plain model on the test tokens.
        pairs: pairs of items to choose from by the sum over their tokens of ln p of the token, masked; may be empty.
    """

    name: str
    title: str
    train: ChosenTokens
    test: ChosenTokens
    classes: int
    counts: CountModel
    pairs: tuple[MinimalPairs, ...] = ()


@dataclass(frozen=True)
class MinimalPairs:
    """Pairs of sequences that differ in one thing, one right and one wrong (in the manner of BLiMP, Warstadt et al.
    2020).

    Attributes:
        name: of the thing, such as "agreement".
        right, wrong: n items each.
        masked: for `right` and for `wrong`, (item, position to score, all positions to mask) of every scored token.
            Later parts of the same word are masked with it (Kauf and Ivanova 2023), special tokens never.
        counts: the best plain model.
    """

    name: str
    right: Inputs
    wrong: Inputs
    masked: tuple[list[tuple[int, int, list[int]]], list[tuple[int, int, list[int]]]]
    counts: CountModel


@dataclass(frozen=True)
class TokenClasses:
    """Name the class of tokens from their own frozen features by a linear probe.

    Attributes:
        name, title: as of `Choice`.
        train, test: tokens with their classes.
        counts: the best plain model on the test tokens.
    """

    name: str
    title: str
    train: ChosenTokens
    test: ChosenTokens
    counts: CountModel


@dataclass(frozen=True)
class ItemClasses:
    """Name the class of items from their mean frozen features by a linear probe, beside the plain features.

    Attributes:
        name, title: as of `Choice`.
        train, test: items.
        train_labels, test_labels: (n,) int64.
    """

    name: str
    title: str
    train: Inputs
    train_labels: Tensor
    test: Inputs
    test_labels: Tensor


Probe = Choice | MaskedTokens | TokenClasses | ItemClasses
