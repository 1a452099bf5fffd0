"""The probes that a modality describes beside those of its labels (`d2v.modalities.probes`): pretrained encoder, the
same with random weights, and the best plain model, each with intervals and paired differences.

Shape legend: B samples of a batch, T tokens, n items, N chosen tokens, W classes, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from d2v.config import EvaluateConfig
from d2v.data.batch import Batch, Inputs
from d2v.evaluation.features import evaluating, extract_features
from d2v.evaluation.metrics_file import PLAIN, PRETRAINED, spelled
from d2v.evaluation.probes import linear_probe
from d2v.modalities.base import Modality
from d2v.modalities.probes import (
    Choice,
    ChosenTokens,
    CountModel,
    ItemClasses,
    MaskedTokens,
    MinimalPairs,
    Probe,
    TokenClasses,
)
from d2v.models.masking import Masks
from d2v.objectives.base import Objective
from d2v.progress import log
from d2v.statistics import accuracy_interval, difference_interval
from d2v.training.matmul import fast_products, inference

PASSES = 4  # every token is masked in one of them
HEAD_EPOCHS, HEAD_BATCH, HEAD_LR, HEAD_DECAY = 3, 512, 1e-2, 0.1

Right = dict[str, np.ndarray]
"""Suffix of metric names -> (n,) whether that model is right about each item."""


def further_metrics(
    probes: Sequence[Probe], objectives: Mapping[str, Objective], modality: Modality, config: EvaluateConfig
) -> dict[str, float]:
    """Metrics of all probes that can be measured.

    Args:
        probes: what to measure.
        objectives: by suffix, PRETRAINED and RANDOM. Of an objective that has no loss of single tokens, the probes that
            ask for it are left out with a line.
        modality: for plain features.
        config: numbers of resamples, size of batches.

    Returns:
        `probe/<name><suffix>` as shares from 0 to 1, `probe/<name>_gain_over_{random,baseline}`, each of them with
        `_low` and `_high`; where a probe gives probabilities also `probe/<name>_nats<suffix>`, the mean of -ln p.
    """
    metrics: dict[str, float] = {}
    for probe in probes:
        try:
            metrics |= _measure(probe, objectives, modality, config)
        except CannotTellError as reason:
            log(f"evaluate: no {probe.title}: {reason}")
    return metrics


class CannotTellError(Exception):
    """A probe asks what this objective does not answer; the text says what."""


def _measure(
    probe: Probe, objectives: Mapping[str, Objective], modality: Modality, config: EvaluateConfig
) -> dict[str, float]:
    match probe:
        case Choice():
            right = {suffix: choose(one, probe, config.batch_size) for suffix, one in objectives.items()}
            return compared(probe.name, right | _of_counts(probe.counts), config)
        case MaskedTokens():
            return _masked_tokens(probe, objectives, config)
        case TokenClasses():
            right = {suffix: _token_classes(one, probe, config) for suffix, one in objectives.items()}
            return compared(probe.name, right | {PLAIN: probe.counts.right}, config)
        case ItemClasses():
            return _item_classes(probe, objectives, modality, config)


def _of_counts(counts: CountModel | None) -> Right:
    return {} if counts is None else {PLAIN: counts.right}


def compared(name: str, right: Right, config: EvaluateConfig) -> dict[str, float]:
    """Shares and paired gains of the pretrained encoder with the ends of their intervals."""
    metrics: dict[str, float] = {}
    for suffix, given in right.items():
        metrics |= spelled(f"probe/{name}{suffix}", accuracy_interval(given, config.bootstrap_resamples))
    for suffix in right.keys() - {PRETRAINED}:
        gain = difference_interval(right[PRETRAINED], right[suffix], config.bootstrap_resamples)
        metrics |= spelled(f"probe/{name}_gain_over{suffix}", gain)
    return metrics


# ------------------------------------------------------------------------------------- which of two is whole


def choose(objective: Objective, probe: Choice, batch_size: int) -> np.ndarray:
    """(n,) bool: whether the objective foresees the whole item better than the spoiled one. Equal losses are wrong.

    Raises:
        CannotTellError: the objective has no loss of single tokens.
    """
    whole, spoiled = (loss_of_items(objective, inputs, batch_size) for inputs in (probe.whole, probe.spoiled))
    return (whole < spoiled).numpy()


def loss_of_items(objective: Objective, inputs: Inputs, batch_size: int) -> Tensor:
    """(n,) float64 the sum over an item's tokens of their losses, each token masked once: every fourth in a pass."""
    total = torch.zeros(len(inputs), dtype=torch.float64)
    for rows, values in _alike(inputs, batch_size):
        batch = _batch(values, objective)
        tokens = objective.student.stem.num_tokens(batch.inputs)
        for first in range(min(PASSES, tokens)):
            is_masked = torch.zeros(len(rows), tokens, dtype=torch.bool)
            is_masked[:, first::PASSES] = True
            losses = _ask(objective, objective.token_losses, batch, is_masked)
            total[rows] += losses.double().cpu().view(len(rows), -1).sum(dim=1)
    return total


def _alike(inputs: Inputs, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of items of one length: their rows, and their values without padding."""
    if inputs.lengths is None:
        for rows in torch.arange(len(inputs)).split(batch_size):
            yield rows, inputs.select(rows).values
        return
    for length in inputs.lengths.unique().tolist():
        for rows in (inputs.lengths == length).nonzero().squeeze(1).split(batch_size):
            yield rows, inputs.select(rows).values


def _batch(values: Tensor, objective: Objective) -> Batch:
    like = next(objective.student.parameters())
    values = Inputs(values).to(like).values
    ids = torch.arange(len(values), device=values.device)
    return Batch(values, ids, torch.zeros_like(ids), 0)


def _ask(
    objective: Objective, what: Callable[[Batch, Masks], Tensor | None], batch: Batch, is_masked: Tensor
) -> Tensor:
    """The objective's answer under masks that mask as many tokens in every row."""
    is_masked = is_masked.to(batch.inputs.device)
    masks = Masks.with_equal_counts(is_masked, len(is_masked), int(is_masked[0].sum()))
    with evaluating(objective), inference(next(objective.student.parameters())):
        answer = what(batch, masks)
    if answer is None:
        raise CannotTellError(f"{type(objective).__name__} has none for single tokens")
    return answer


# ---------------------------------------------------------------------------------------------- masked tokens


def _masked_tokens(
    probe: MaskedTokens, objectives: Mapping[str, Objective], config: EvaluateConfig
) -> dict[str, float]:
    right: Right = {PLAIN: probe.counts.right}
    of_pairs: dict[str, Right] = {pairs.name: {PLAIN: pairs.counts.right} for pairs in probe.pairs}
    metrics: dict[str, float] = {}
    if probe.counts.nats is not None:
        metrics[f"probe/{probe.name}_nats{PLAIN}"] = float(probe.counts.nats.mean())
    for suffix, objective in objectives.items():
        head = TokenHead.fitted(objective, probe.train, probe.classes, config.batch_size)
        ln_p_NW = head.ln_p(_neighbours(objective, probe.test, config.batch_size))
        labels_N = probe.test.labels_N
        right[suffix] = (ln_p_NW.argmax(dim=1) == labels_N).numpy()
        metrics[f"probe/{probe.name}_nats{suffix}"] = -float(ln_p_NW.gather(1, labels_N[:, None]).mean())
        for pairs in probe.pairs:
            of_pairs[pairs.name][suffix] = _takes_the_right_one(objective, head, pairs, config.batch_size)
    metrics |= compared(probe.name, right, config)
    for name, of_one in of_pairs.items():
        metrics |= compared(f"minimal_pairs_{name}", of_one, config)
    if of_pairs:
        every = {suffix: np.concatenate([one[suffix] for one in of_pairs.values()]) for suffix in right}
        metrics |= compared("minimal_pairs", every, config)
    return metrics


class TokenHead:
    """Multinomial logistic regression from frozen features to the ids of tokens.

    Args:
        linear: (features) -> (W) logits.
        mean, scale: what features are standardised with.
    """

    def __init__(self, linear: nn.Linear, mean: Tensor, scale: Tensor) -> None:
        self._linear, self._mean, self._scale = linear, mean, scale

    @classmethod
    def fitted(cls, objective: Objective, train: ChosenTokens, classes: int, batch_size: int) -> TokenHead:
        """Trained on masked tokens by AdamW with a linearly falling rate; the same draws for every encoder."""
        features_ND, labels_N = _neighbours(objective, train, batch_size), train.labels_N
        mean, scale = features_ND.mean(dim=0), features_ND.std(dim=0).clamp_min(1e-6).reciprocal()
        features_ND = (features_ND - mean) * scale
        linear = nn.Linear(features_ND.shape[1], classes)
        nn.init.zeros_(linear.weight)
        counts_W = torch.bincount(labels_N, minlength=classes) + 0.1
        with torch.no_grad():
            linear.bias.copy_((counts_W / counts_W.sum()).log())
        optimizer = torch.optim.AdamW(linear.parameters(), lr=HEAD_LR, weight_decay=HEAD_DECAY)
        generator = torch.Generator().manual_seed(0)
        batches = [
            rows
            for _ in range(HEAD_EPOCHS)
            for rows in torch.randperm(len(labels_N), generator=generator).split(HEAD_BATCH)
        ]
        with fast_products(linear.weight):
            for done, rows in enumerate(batches):
                optimizer.param_groups[0]["lr"] = HEAD_LR * (1.0 - done / len(batches))
                optimizer.zero_grad()
                functional.cross_entropy(linear(features_ND[rows]), labels_N[rows]).backward()
                optimizer.step()
        return cls(linear, mean, scale)

    @torch.no_grad()
    def ln_p(self, features_ND: Tensor) -> Tensor:
        """(N, W) ln p of every class."""
        return torch.log_softmax(self._linear((features_ND - self._mean) * self._scale), dim=1)


def _neighbours(objective: Objective, chosen: ChosenTokens, batch_size: int) -> Tensor:
    """(N, 2D) features of the tokens before and after masked ones. Items mask as many tokens each."""
    values, row_N, at_N = chosen.inputs.values, chosen.row_N, chosen.at_N
    parts = []
    for rows in torch.arange(len(values)).split(batch_size):
        here = (row_N >= rows[0]) & (row_N <= rows[-1])
        row, at = row_N[here] - rows[0], at_N[here]
        is_masked = torch.zeros(len(rows), values.shape[1], dtype=torch.bool)
        is_masked[row, at] = True
        features_BTD = _ask(objective, objective.visible_features, _batch(values[rows], objective), is_masked)
        features_BTD = features_BTD.float().cpu()
        parts.append(torch.cat([features_BTD[row, at - 1], features_BTD[row, at + 1]], dim=1))
    return torch.cat(parts)


def _takes_the_right_one(objective: Objective, head: TokenHead, pairs: MinimalPairs, batch_size: int) -> np.ndarray:
    """(n,) bool: whether the right item of each pair has the larger sum of ln p of its tokens."""
    both = zip((pairs.right, pairs.wrong), pairs.masked, strict=True)
    right, wrong = (_pseudo_log_likelihood(objective, head, inputs, masked, batch_size) for inputs, masked in both)
    return (right > wrong).numpy()


def _pseudo_log_likelihood(
    objective: Objective, head: TokenHead, inputs: Inputs, masked: list[tuple[int, int, list[int]]], batch_size: int
) -> Tensor:
    """(n,) float64 sum over scored tokens of ln p(token | the item with it masked), not divided by their number
    (Salazar et al. 2020). The vocabulary's head is the one that was trained on frozen features."""
    lengths = torch.full((len(inputs),), inputs.values.shape[1]) if inputs.lengths is None else inputs.lengths
    total = torch.zeros(len(inputs), dtype=torch.float64)

    def size(one: tuple[int, int, list[int]]) -> tuple[int, int]:
        return int(lengths[one[0]]), len(one[2])

    for (length, _), group in groupby(sorted(masked, key=size), key=size):
        scored = list(group)
        for start in range(0, len(scored), batch_size):
            some = scored[start : start + batch_size]
            items, places = torch.tensor([one[0] for one in some]), torch.tensor([one[1] for one in some])
            masked_at = torch.tensor([one[2] for one in some])
            values = inputs.values[items, :length]
            is_masked = torch.zeros(values.shape, dtype=torch.bool).scatter(1, masked_at, True)
            features_BTD = _ask(objective, objective.visible_features, _batch(values, objective), is_masked)
            features_BTD, every = features_BTD.float().cpu(), torch.arange(len(some))
            before, after = features_BTD[every, masked_at[:, 0] - 1], features_BTD[every, masked_at[:, -1] + 1]
            ln_p_BW = head.ln_p(torch.cat([before, after], dim=1))
            total.index_add_(0, items, ln_p_BW[every, values[every, places]].double())
    return total


# ------------------------------------------------------------------------------------------- frozen features


def _token_classes(objective: Objective, probe: TokenClasses, config: EvaluateConfig) -> np.ndarray:
    train_ND, test_TD = (_token_features(objective, one, config.batch_size) for one in (probe.train, probe.test))
    fit = linear_probe(train_ND, probe.train.labels_N, test_TD, config.linear_l2)
    return (fit.predictions_T == probe.test.labels_N).numpy()


def _token_features(objective: Objective, chosen: ChosenTokens, batch_size: int) -> Tensor:
    """(N, D) the student's features of chosen tokens, without masks."""
    encoder, inputs = objective.student, chosen.inputs
    features_ND = torch.zeros(len(chosen.row_N), encoder.width)
    like = next(encoder.parameters())
    for rows in torch.arange(len(inputs)).split(batch_size):
        here = ((chosen.row_N >= rows[0]) & (chosen.row_N <= rows[-1])).nonzero().squeeze(1)
        with evaluating(encoder), inference(like):
            there = inputs.select(rows).to(like)
            tokens_BTD = encoder(there.values, there.lengths).float().cpu()
        features_ND[here] = tokens_BTD[chosen.row_N[here] - rows[0], chosen.at_N[here]]
    return features_ND


def _item_classes(
    probe: ItemClasses, objectives: Mapping[str, Objective], modality: Modality, config: EvaluateConfig
) -> dict[str, float]:
    def right(features: tuple[Tensor, Tensor]) -> np.ndarray:
        fit = linear_probe(features[0], probe.train_labels, features[1], config.linear_l2)
        return (fit.predictions_T == probe.test_labels).numpy()

    both = (probe.train, probe.test)
    of_each = {
        suffix: tuple(extract_features(objective.student, inputs, config.batch_size) for inputs in both)
        for suffix, objective in objectives.items()
    }
    of_each[PLAIN] = tuple(modality.baseline_features(inputs) for inputs in both)
    return compared(probe.name, {suffix: right((a, b)) for suffix, (a, b) in of_each.items()}, config)
