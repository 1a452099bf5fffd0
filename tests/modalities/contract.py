"""What every modality promises, for every objective that it has a recipe for.

A modality brings one file, `tests/modalities/<name>/contract_case.py`, with a `CASE`. `test_contract.py` walks the
registry and holds each modality to all `CHECKS`; none of them knows what the data is.

Shape legend: n items, B samples, M masks per sample, R = B*M rows, T tokens, D width.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from d2v.config import TrainConfig, parse
from d2v.data.batch import Batch, Inputs, SampleKeys
from d2v.data.order import Order, open_order
from d2v.data.random import mix
from d2v.errors import ConfigError, DataError
from d2v.interchange.folder import load_encoder, read_config, save_encoder
from d2v.modalities import registry
from d2v.modalities.base import Modality
from d2v.models.masking import Masks, is_padding
from d2v.objectives.base import Objective
from d2v.objectives.build import build_objective
from d2v.objectives.data2vec2 import Data2Vec2
from d2v.training.engine import parameter_groups
from d2v.training.history import History
from d2v.training.run import TrainResult, train

RUN: dict[str, Any] = {
    "optimizer": {"lr": 2e-3},
    "schedule": {"warmup_updates": 2},
    "batch_size": 8,
    "max_updates": 10,
    "seed": 3,
    "precision": "fp32",
    "log_every_updates": 1,
    "checkpoint": {"every_updates": 3},
    "monitor": {"grace_updates": 1000},
}
"""What the train blocks of all cases share; a case may say otherwise."""


@dataclass(frozen=True)
class Case:
    """What a modality brings to the contract: something tiny, made in seconds.

    Attributes:
        recipes: name of an objective -> `train` block (objective, encoder, mask ...; `RUN` gives the rest). Two trunk
            blocks, widths of 16 to 32, T of 16 to 50.
        ingest: the ingest block; its `source` may be an embedded corpus.
        prepare: the prepare block.
        write_source: writes the source's files into a folder, which then is `ingest.source`.
    """

    recipes: Mapping[str, Mapping[str, Any]]
    ingest: Mapping[str, Any]
    prepare: Mapping[str, Any]
    write_source: Callable[[Path], Any] | None = None


def find_case(name: str) -> Case | None:
    """The case of a modality; None if its file is not there."""
    try:
        found = importlib.util.find_spec(module := f"tests.modalities.{name}.contract_case")
    except ModuleNotFoundError:
        return None
    return importlib.import_module(module).CASE if found else None


@dataclass(frozen=True)
class Prepared:
    """A case's data after ingest and prepare, in `folder`, with the blocks that made it."""

    modality: Modality
    case: Case
    ingest: Any
    prepare: Any
    folder: Path

    @property
    def path(self) -> Path:
        """What prepare left."""
        return self.folder / "prepared"

    def bring_up_to_date(self) -> None:
        """Ingest and prepare, or check that nothing changed."""
        self.modality.ingest(self.ingest, self.folder / "corpus")
        self.modality.prepare(self.prepare, self.folder / "corpus", self.path)


def make_prepared(modality: Modality, case: Case, folder: Path) -> Prepared:
    """Write, ingest and prepare a case's data in `folder`."""
    source = {}
    if case.write_source is not None:
        (folder / "source").mkdir(parents=True)
        case.write_source(folder / "source")
        source = {"source": str(folder / "source")}
    fields = modality.recipe.model_fields
    ingest = parse(fields["ingest"].annotation, {**case.ingest, **source}, at=f"{modality.name}.ingest")
    prepare = parse(fields["prepare"].annotation, case.prepare, at=f"{modality.name}.prepare")
    prepared = Prepared(modality, case, ingest, prepare, folder)
    prepared.bring_up_to_date()
    return prepared


class Subject:
    """One modality under one objective.

    Args:
        prepared: its data.
        objective: key of the case's recipes.
        folder: scratch place.
    """

    def __init__(self, prepared: Prepared, objective: str, folder: Path) -> None:
        self.prepared, self.modality, self.folder = prepared, prepared.modality, folder
        self.values: dict[str, Any] = {
            "ingest": prepared.ingest.model_dump(),
            "prepare": prepared.prepare.model_dump(),
            "train": {**RUN, **prepared.case.recipes[objective]},
        }
        recipe: Any = parse(self.modality.recipe, self.values, at=self.modality.name)
        self.recipe: TrainConfig = recipe.train
        self.data = self.modality.open(prepared.path)
        self.lengths = self.data.train_lengths(self.recipe)

    def order(self) -> Order:
        """Which samples an update trains on."""
        return open_order(self.recipe, self.data.num_train, self.lengths)

    def build(self, **changes: Any) -> Objective:
        """A new objective, with changes to its block where it has such keys."""
        known = {key: value for key, value in changes.items() if hasattr(self.recipe.objective, key)}
        changed = self.recipe.objective.model_copy(update=known)
        return build_objective(self.modality, self.recipe.model_copy(update={"objective": changed}))

    def batch(self, update: int = 0) -> Batch:
        """What an update trains on."""
        return self.data.batch(self.order().at(update), self.recipe)

    def items(self, count: int = 6) -> Inputs:
        """Whole items, as they are looked at and served; side by side with padding where they differ in length."""
        inputs = self.data.probe_set(self.recipe).test_inputs
        return inputs.select(torch.arange(min(count, len(inputs))))

    def items_batch(self) -> Batch:
        """Whole items as a batch."""
        inputs = self.items()
        ids = torch.arange(len(inputs))
        return Batch(inputs.values, ids, torch.zeros_like(ids), 0, inputs.lengths)

    def counts(self) -> list[int]:
        """Numbers of tokens that inputs can have: one of tokens in a plane, many of a sequence."""
        longest = self.modality.max_tokens(self.recipe)
        return [longest] if self.modality.grid(self.recipe) else list(range(2, longest + 1))

    @cached_property
    def run(self) -> Path:
        """The folder of a training that nothing interrupted."""
        self.train(self.folder / "run")
        return self.folder / "run"

    def train(self, out: Path, fail_at: int | None = None) -> TrainResult:
        """Train through the real engine, or go on; `fail_at` makes the probe of that update fail."""

        def probe(encoder: Any) -> dict[str, float]:
            raise _ProbeError

        recipe = self.recipe.model_copy(update={"probe_every_updates": fail_at or 0})
        return train(self.modality, recipe, self.prepared.path, out, probe=probe if fail_at else None)


class _ProbeError(Exception):
    pass


# ------------------------------------------------------------------------------------------- recipes


def recipe_builds_and_refuses_unknown_keys(subject: Subject) -> None:
    name, modality = subject.modality.name, subject.modality
    assert registry.recipe_type(name) is modality.recipe
    assert registry.get(name) is modality
    assert modality.recipe.model_fields.keys() >= {"ingest", "prepare", "train", "evaluate"}
    for block in ("ingest", "prepare", "train"):
        wrong = subject.values | {block: {**subject.values[block], "no_such_key": 1}}
        with pytest.raises(ConfigError, match=rf"{name}\.{block}\.no_such_key: unknown key"):
            parse(modality.recipe, wrong, at=name)
    with torch.device("meta"):
        objective = build_objective(modality, subject.recipe)
    assert {parameter.device.type for parameter in objective.parameters()} == {"meta"}


def building_is_a_function_of_the_seed(subject: Subject) -> None:
    generator = torch.random.get_rng_state()
    one, same = (subject.build().state_dict() for _ in range(2))
    other = build_objective(subject.modality, subject.recipe.model_copy(update={"seed": 4})).state_dict()
    assert torch.equal(generator, torch.random.get_rng_state())
    assert _differing(one, same) == set()
    assert _differing(one, other)


# ---------------------------------------------------------------------------------------------- data


def unchanged_data_is_only_checked(subject: Subject) -> None:
    proofs = [subject.prepared.folder / "corpus" / "corpus.json", subject.prepared.path / "prepared.json"]
    before = [proof.stat().st_mtime_ns for proof in proofs]
    subject.prepared.bring_up_to_date()
    assert [proof.stat().st_mtime_ns for proof in proofs] == before
    assert subject.modality.open(subject.prepared.path).fingerprint == subject.data.fingerprint != ""


def batches_are_functions_of_seed_epoch_and_id(subject: Subject) -> None:
    keys = subject.order().at(1)
    batch = subject.data.batch(keys, subject.recipe)
    assert batch.sample_ids.tolist() == keys.indices.tolist()
    assert batch.epochs.tolist() == keys.epochs.tolist()
    assert batch.update == 1
    in_a_worker = pickle.loads(pickle.dumps(subject.data))
    for data in (subject.data, in_a_worker, subject.modality.open(subject.prepared.path)):
        assert torch.equal(data.batch(keys, subject.recipe).inputs, batch.inputs)


def batches_do_not_depend_on_order_and_neighbours(subject: Subject) -> None:
    keys = subject.order().at(0)
    whole = subject.data.batch(keys, subject.recipe)
    size = len(keys.indices)
    for rows in (np.arange(size)[::-1].copy(), np.array([size - 1, 1]), np.array([size // 2])):
        part = SampleKeys(keys.update, keys.indices[rows], keys.epochs[rows], keys.length)
        batch = subject.data.batch(part, subject.recipe)
        assert torch.equal(batch.inputs, whole.inputs[torch.from_numpy(rows)])
        assert (batch.lengths is None) or torch.equal(batch.lengths, whole.lengths[torch.from_numpy(rows)])


def crops_have_the_length_that_the_order_asks_for(subject: Subject) -> None:
    keys = subject.order().at(0)
    if subject.lengths is None:
        assert keys.length is None
        return
    assert subject.lengths.dtype == np.int64
    assert len(subject.lengths) == subject.data.num_train
    assert keys.length == subject.lengths[keys.indices].min()
    batch = subject.data.batch(keys, subject.recipe)
    assert batch.lengths is None
    assert batch.inputs.shape[1] == keys.length
    shorter = subject.data.batch(replace(keys, length=keys.length - 1), subject.recipe)
    assert shorter.inputs.shape[1] == keys.length - 1


def order_is_a_function_of_seed_and_update(subject: Subject) -> None:
    order, again = subject.order(), subject.order()
    seen: dict[int, list[int]] = {}
    for update in range(2 * subject.data.num_train // subject.recipe.batch_unit):
        keys = order.at(update)
        for index, epoch in zip(keys.indices.tolist(), keys.epochs.tolist(), strict=True):
            seen.setdefault(epoch, []).append(index)
    assert len(seen) > 1
    assert all(len(set(items)) == len(items) for items in seen.values()), "an item came twice in an epoch"
    for update in (5, 0, 3):
        assert np.array_equal(order.at(update).indices, again.at(update).indices)
    keys = order.at(2)
    pieces = [order.slice(keys, rank, 2, step, 2).indices for step in range(2) for rank in range(2)]
    assert np.array_equal(np.concatenate(pieces), keys.indices)


def probe_set_is_fixed_and_labelled(subject: Subject) -> None:
    one, again = (subject.data.probe_set(subject.recipe) for _ in range(2))
    assert torch.equal(one.test_inputs.values, again.test_inputs.values)
    assert len(one.class_names) > 1, "give the case's data labels, so that its probe is tested"
    assert one.class_names == subject.data.class_names
    for inputs, labels in ((one.train_inputs, one.train_labels), (one.test_inputs, one.test_labels)):
        assert len(inputs) == len(labels) > 1
        assert labels.dtype == torch.int64
        assert int(labels.max()) < len(one.class_names)
    assert len(one.train_labels.unique()) > 1


# -------------------------------------------------------------------------------------------- shapes


def shapes_agree(subject: Subject) -> None:
    objective, batch = subject.build().eval(), subject.batch()
    encoder, samples = objective.student, len(batch.sample_ids)
    local_BTD = encoder.stem(batch.inputs)
    tokens = encoder.stem.num_tokens(batch.inputs)
    assert local_BTD.shape == (samples, tokens, encoder.width)
    assert 2 <= tokens <= subject.modality.max_tokens(subject.recipe)
    lengths = encoder.token_lengths(batch.lengths)
    assert lengths is None or int(lengths.max()) <= tokens
    encoded = encoder.encode(local_BTD, lengths, activation=subject.recipe.objective.targets.activation)
    assert [one.shape for one in encoded.activations] == [local_BTD.shape] * len(encoder.blocks)
    assert encoded.tokens.shape == encoder(batch.inputs, batch.lengths).shape == local_BTD.shape
    features_BD = encoder.features(batch.inputs, batch.lengths)
    assert features_BD.shape == (samples, encoder.width)
    assert torch.isfinite(features_BD).all()
    assert objective.targets(objective.teacher_local(batch.inputs, local_BTD), lengths).shape == local_BTD.shape
    if isinstance(objective, Data2Vec2):
        assert objective.decoder(local_BTD).shape == local_BTD.shape
    flops = objective.flops_per_sample(tokens)
    assert flops.pop("total") == pytest.approx(sum(flops.values()))
    assert sum(flops.values()) > 0


def tokens_of_lengths_are_tokens_of_inputs(subject: Subject) -> None:
    """A sequence cut to a length has as many tokens as the stem says that a sequence of this length has."""
    inputs, stem = subject.items(), subject.build().student.stem
    if inputs.lengths is None:
        return
    assert len(inputs.lengths.unique()) > 1, "give the case's data items of different lengths"
    tokens = stem.token_lengths(inputs.lengths)
    alone = [inputs.select(torch.tensor([row])).values for row in range(len(inputs))]
    assert tokens.tolist() == [stem.num_tokens(one) for one in alone]
    grid = subject.modality.grid(subject.recipe)
    assert grid is None, "items that differ in length are a sequence"


def plain_features_and_pictures_can_be_made(subject: Subject) -> None:
    inputs, modality = subject.items(), subject.modality
    features = modality.baseline_features(inputs)
    assert features.shape == (len(inputs), features.shape[1])
    assert torch.isfinite(features).all()
    assert modality.baseline_name
    pictures = modality.to_pictures(inputs, subject.data)
    assert pictures.dtype == np.uint8
    assert pictures.shape == (len(inputs), *pictures.shape[1:3], 3)
    tokens = subject.build().student.stem.num_tokens(inputs.values)
    rows, columns = modality.picture_grid(tokens)
    assert 0 <= rows * columns - tokens < columns, "all tokens have a cell, and only the last row has some left over"
    assert pictures.shape[1] >= rows
    assert pictures.shape[2] >= columns
    grid = modality.grid(subject.recipe)
    assert grid is None or grid == (rows, columns)
    assert modality.pictures_per_row >= 1


# --------------------------------------------------------------------------------------------- masks


def hidden_counts_are_kept_and_monotone(subject: Subject) -> None:
    """data2vec 2.0: every mask hides as many tokens as `hidden_tokens` says; neither they nor the others get fewer in
    a longer sequence."""
    counts, keys = subject.counts(), _keys(32)
    for tokens in (counts[0], counts[len(counts) // 2], counts[-1]):
        drawn = subject.modality.draw_masks(subject.recipe, keys, tokens, None)
        assert drawn.shape == (32, tokens)
        assert drawn.dtype == torch.bool
        assert drawn.any(dim=1).all()
        assert not drawn.all(dim=1).any()
        if subject.recipe.objective.name == "data2vec2":
            hidden = subject.modality.hidden_tokens(subject.recipe, tokens)
            assert drawn.sum(dim=1).tolist() == [hidden] * 32
    if subject.recipe.objective.name == "data2vec2":
        _check_hidden_counts(subject, counts if len(counts) == 1 else list(range(2, 1000)))


def _check_hidden_counts(subject: Subject, counts: list[int]) -> None:
    hidden = [subject.modality.hidden_tokens(subject.recipe, tokens) for tokens in counts]
    assert all(0 < one < tokens for one, tokens in zip(hidden, counts, strict=True))
    assert (np.diff(hidden) >= 0).all()
    assert (np.diff(np.array(counts) - hidden) >= 0).all()
    if len(counts) > 1:
        assert subject.modality.hidden_tokens(subject.recipe, torch.tensor(counts)).tolist() == hidden


def masks_are_functions_of_their_keys(subject: Subject) -> None:
    draw, tokens, keys = subject.modality.draw_masks, subject.counts()[-1], _keys(24)
    drawn = draw(subject.recipe, keys, tokens, None)
    for rows in (torch.arange(24), torch.arange(23, -1, -1), torch.tensor([7])):
        assert torch.equal(draw(subject.recipe, keys[rows], tokens, None), drawn[rows])
    assert len(drawn.unique(dim=0)) > 12
    assert not torch.equal(draw(subject.recipe, _keys(24, seed=1), tokens, None), drawn)


def masks_leave_padding_alone(subject: Subject) -> None:
    """A padded row gets the mask that it gets alone."""
    draw, counts, keys = subject.modality.draw_masks, subject.counts(), _keys(24)
    if len(counts) == 1:
        return
    lengths = torch.tensor(counts)[torch.arange(24) * 5 % len(counts)]
    drawn = draw(subject.recipe, keys, counts[-1], lengths)
    assert not (drawn & is_padding(lengths, counts[-1])).any()
    for row, length in enumerate(lengths.tolist()):
        alone = draw(subject.recipe, keys[row : row + 1], length, None)[0]
        assert torch.equal(drawn[row, :length], alone)


def masks_of_a_batch_are_those_of_its_parts(subject: Subject) -> None:
    objective = subject.build()
    for batch in (subject.batch(), subject.items_batch()):
        whole = objective.draw_masks(batch, 7, "cpu")
        rows = whole.is_masked.unflatten(0, (len(batch.sample_ids), -1))
        part = objective.draw_masks(_select(batch, slice(1, 3)), 7, "cpu")
        assert torch.equal(part.is_masked, rows[1:3].flatten(0, 1))
        assert int(whole.count) == int(whole.is_masked.sum())
        for other in (objective.draw_masks(batch, 8, "cpu"), objective.draw_masks(replace(batch, update=9), 7, "cpu")):
            assert not torch.equal(other.is_masked, whole.is_masked)
        if whole.visible_idx is not None:
            _check_visible(whole.is_masked, whole.visible().flatten(0, 1), whole.visible_lengths)


def _check_visible(is_masked: Tensor, visible_RV: Tensor, lengths: Tensor | None) -> None:
    """The index sets name the visible tokens of each row in their order."""
    for row, hidden in enumerate(is_masked):
        count = visible_RV.shape[1] if lengths is None else int(lengths[row])
        assert visible_RV[row, :count].tolist() == (~hidden).nonzero().flatten()[:count].tolist()


def student_never_sees_what_is_hidden(subject: Subject) -> None:
    """Whatever the local features of hidden tokens are: with the targets held, the loss does not move by a bit."""
    objective = subject.build(masks_per_sample=1).eval()
    for batch in (subject.batch(), subject.items_batch()):
        masks, stem = objective.draw_masks(batch, 0, "cpu"), objective.student.stem
        local_BTD = stem(batch.inputs).detach().requires_grad_()
        loss = _loss_of_local(objective, batch, masks, local_BTD)
        value = loss(local_BTD)
        (gradient_BTD,) = torch.autograd.grad(value, local_BTD)
        assert (gradient_BTD[masks.is_masked] == 0.0).all()
        assert (gradient_BTD[~masks.is_masked] != 0.0).any(), "nothing of what is visible matters either"
        others_BTD = 3.0 * local_BTD.roll(1, dims=-1) + 1.0
        assert torch.equal(loss(torch.where(masks.is_masked.unsqueeze(-1), others_BTD, local_BTD)), value)


def _loss_of_local(objective: Objective, batch: Batch, masks: Masks, local_BTD: Tensor) -> Callable[[Tensor], Tensor]:
    """The loss as a function of the student's local features, with the targets that it has for `local_BTD`."""
    lengths = objective.student.token_lengths(batch.lengths)
    held = type(objective).targets(objective, objective.teacher_local(batch.inputs, local_BTD), lengths)

    def loss(changed_BTD: Tensor) -> Tensor:
        hook = objective.student.stem.register_forward_hook(lambda *_: changed_BTD)
        objective.targets = lambda *_: held  # type: ignore[method-assign]
        try:
            return objective(batch, masks).loss_sum
        finally:
            hook.remove()

    return loss


# ------------------------------------------------------------------------------------------- padding


def features_do_not_depend_on_padding(subject: Subject) -> None:
    """Features of an item alone are those in a padded batch, whatever the padding holds."""
    objective, inputs = subject.build().eval(), subject.items()
    encoder = objective.student
    with torch.no_grad():
        together = encoder.features(inputs.values, inputs.lengths)
        for row in range(len(inputs)):
            alone = inputs.select(torch.tensor([row]))
            for lengths in (alone.lengths, None):
                _assert_near(encoder.features(alone.values, lengths)[0], together[row])
        if inputs.lengths is not None:
            _assert_near(encoder.features(_with_other_padding(inputs), inputs.lengths), together)


def targets_do_not_depend_on_padding(subject: Subject) -> None:
    objective, inputs = subject.build().eval(), subject.items()
    if inputs.lengths is None or "batch" in subject.recipe.objective.targets.layer_norms:
        return

    def targets(part: Inputs) -> Tensor:
        local_BTD = objective.student.stem(part.values)
        lengths = objective.student.token_lengths(part.lengths)
        return objective.targets(objective.teacher_local(part.values, local_BTD), lengths)

    together, tokens = targets(inputs), objective.student.token_lengths(inputs.lengths)
    for row in range(len(inputs)):
        alone = targets(inputs.select(torch.tensor([row])))[0]
        _assert_near(together[row, : tokens[row]], alone, atol=1e-3)  # statistics over few tokens enlarge rounding


def masked_rows_do_not_depend_on_padding(subject: Subject) -> None:
    """data2vec 2.0: what the student makes of an item's visible tokens is the same alone and in a padded batch."""
    objective, batch = subject.build().eval(), subject.items_batch()
    if batch.lengths is None or not isinstance(objective, Data2Vec2):
        return
    encoder, clones = objective.student, objective.config.masks_per_sample
    with torch.no_grad():
        masks = objective.draw_masks(batch, 0, "cpu")
        lengths = encoder.token_lengths(batch.lengths)
        together_RVD = encoder.encode(encoder.stem(batch.inputs), lengths, masks).tokens
        for row in range(len(batch.sample_ids)):
            alone = _select(batch, slice(row, row + 1))
            alone = replace(alone, inputs=alone.inputs[:, : int(alone.lengths)], lengths=None)
            its_masks = objective.draw_masks(alone, 0, "cpu")
            expected_MVD = encoder.encode(encoder.stem(alone.inputs), None, its_masks).tokens
            mine = slice(row * clones, (row + 1) * clones)
            assert masks.visible_lengths[mine].tolist() == [expected_MVD.shape[1]] * clones
            _assert_near(together_RVD[mine, : expected_MVD.shape[1]], expected_MVD)


def _with_other_padding(inputs: Inputs) -> Tensor:
    """The values with something else in the places of padding."""
    padding = is_padding(inputs.lengths, inputs.values.shape[1])
    padding = padding.view(*padding.shape, *[1] * (inputs.values.ndim - 2))
    return inputs.values.masked_fill(padding, 3.0 if inputs.values.is_floating_point() else 0)


# ------------------------------------------------------------------------------------------- teacher


def teacher_starts_as_the_student(subject: Subject) -> None:
    objective = subject.build()
    student, teacher = objective.student.state_dict(), objective.teacher.encoder.state_dict()
    shared = subject.recipe.objective.ema.shared_local
    assert teacher.keys() == {name for name in student if not (shared and name.startswith("stem.local."))}
    assert all(torch.equal(teacher[name], student[name]) for name in teacher)
    assert objective.teacher.whole_state(objective.student).keys() == student.keys()
    assert not any(parameter.requires_grad for parameter in objective.teacher.parameters())
    trained = {id(one) for group in parameter_groups(objective, subject.recipe.optimizer) for one in group["params"]}
    assert trained.isdisjoint(map(id, objective.teacher.parameters()))
    assert trained >= {id(parameter) for parameter in objective.student.parameters() if parameter.requires_grad}


def teacher_is_the_average_of_the_student(subject: Subject) -> None:
    """After some updates it equals delta <- tau delta + (1 - tau) theta in float64; copied parts equal the student."""
    objective = subject.build()
    copied = subject.recipe.objective.ema.copied or ("\0",)
    expected = {name: one.detach().double() for name, one in objective.teacher.encoder.named_parameters()}
    for update, decay in enumerate((0.5, 0.9, 0.99, 0.999)):
        _train_step(subject, objective, update, decay)
        for name, student in objective.student.named_parameters():
            if name in expected:
                keep = decay if student.requires_grad and not name.startswith(copied) else 0.0
                expected[name] = keep * expected[name] + (1.0 - keep) * student.detach().double()
    student = dict(objective.student.named_parameters())
    for name, teacher in objective.teacher.encoder.named_parameters():
        torch.testing.assert_close(teacher.double(), expected[name], rtol=0, atol=1e-6)
        if name.startswith(copied):
            assert torch.equal(teacher, student[name])
    moved = [not torch.equal(expected[name], student[name].double()) for name in expected]
    assert any(moved)


def gradient_reaches_the_whole_student_and_no_teacher(subject: Subject) -> None:
    objective = subject.build().train()
    objective.student.layer_drop = (0.0, 0.0)
    batch = subject.batch()
    objective(batch, objective.draw_masks(batch, 0, "cpu")).loss_sum.backward()
    assert {name for name, one in objective.named_parameters() if one.requires_grad and one.grad is None} == set()
    assert all(parameter.grad is None for parameter in objective.teacher.parameters())


# ------------------------------------------------------------------------------------------ training


def losses_of_parts_add_up(subject: Subject) -> None:
    """The sum over the parts of a batch is that of the whole, as ranks and accumulation need."""
    if "batch" in subject.recipe.objective.targets.layer_norms:
        return
    objective, batch = subject.build().eval(), subject.batch()
    losses, counts = [], []
    for rows in (slice(None), slice(0, 3), slice(3, None)):
        part = _select(batch, rows)
        masks = objective.draw_masks(part, 0, "cpu")
        losses.append(objective(part, masks).loss_sum.detach())
        counts.append(int(masks.count))
    assert counts[0] == sum(counts[1:])
    torch.testing.assert_close(losses[0], losses[1] + losses[2], rtol=1e-4, atol=1e-4)


def a_training_step_is_bit_equal_twice(subject: Subject) -> None:
    ends = []
    for _ in range(2):
        objective = subject.build()
        losses = [_train_step(subject, objective, update, decay=0.9) for update in range(2)]
        ends.append(({name: one.clone() for name, one in objective.state_dict().items()}, losses))
    assert ends[0][1] == ends[1][1]
    assert _differing(ends[0][0], ends[1][0]) == set()


def the_loss_goes_down(subject: Subject) -> None:
    losses = [row["train/loss"] for row in _history(subject.run)]
    assert len(losses) == subject.recipe.max_updates
    assert np.mean(losses[-3:]) < np.mean(losses[:3])


def a_resumed_run_ends_in_the_same_bits(subject: Subject) -> None:
    """N updates equal k updates, a failure, and the rest."""
    out, every, last = subject.folder / "resumed", subject.recipe.checkpoint.every_updates, subject.recipe.max_updates
    with pytest.raises(_ProbeError):
        subject.train(out, fail_at=every + 2)
    assert subject.train(out).resumed_from == every
    assert _history(out) == _history(subject.run)
    one, two = (folder / f"checkpoints/update-{last:08d}" for folder in (out, subject.run))
    assert _differing(load_file(one / "model.safetensors"), load_file(two / "model.safetensors")) == set()
    ours, theirs = (torch.load(folder / "optimizer.pt", weights_only=True)["optimizer"] for folder in (one, two))
    for index, moments in ours["state"].items():
        assert _differing(moments, theirs["state"][index]) == set()


# ------------------------------------------------------------------------------------------- serving


def a_saved_encoder_comes_back_bit_by_bit(subject: Subject) -> None:
    objective = subject.build()
    _train_step(subject, objective, 0, decay=0.9)
    save_encoder(subject.folder / "encoder", objective, subject.modality.name, subject.recipe, _about(subject))
    student, config = load_encoder(subject.folder / "encoder")
    teacher, _ = load_encoder(subject.folder / "encoder", teacher=True)
    assert _differing(student.state_dict(), objective.student.state_dict()) == set()
    assert _differing(teacher.state_dict(), objective.teacher.whole_state(objective.student)) == set()
    assert config == read_config(subject.folder / "encoder")
    inputs = subject.items()
    before, after = (one.eval().features(inputs.values, inputs.lengths) for one in (objective.student, student))
    assert torch.equal(before, after)


def requests_become_inputs(subject: Subject) -> None:
    """An encoder's own config.json is enough to feed it."""
    save_encoder(subject.folder / "served", subject.build(), subject.modality.name, subject.recipe, _about(subject))
    encoder, config = load_encoder(subject.folder / "served")
    request = np.asarray(subject.modality.example_request(config))
    inputs = subject.modality.to_inputs(request, config)
    features = encoder.features(inputs.values, inputs.lengths)
    assert features.shape == (len(request), encoder.width)
    assert torch.isfinite(features).all()
    with pytest.raises(DataError):
        subject.modality.to_inputs(np.zeros((1,) * 6, dtype=complex), config)


def _about(subject: Subject) -> dict[str, Any]:
    about = subject.modality.describe(subject.data)
    assert json.loads(json.dumps(about)) == about, "describe gives plain values"
    assert about["data_fingerprint"] == subject.data.fingerprint
    assert tuple(about["class_names"]) == subject.data.class_names
    return about


# ------------------------------------------------------------------------------------------- helpers


def _keys(count: int, seed: int = 0) -> Tensor:
    return mix(seed, torch.arange(count))


def _select(batch: Batch, rows: slice) -> Batch:
    return replace(batch, **{name: tensor[rows] for name, tensor in batch.tensors().items()})


def _differing(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> set[str]:
    """Names whose tensors are not the same bits."""
    return {name for name in one.keys() | two.keys() if not torch.equal(one[name], two[name])}


def _assert_near(actual: Tensor, expected: Tensor, atol: float = 2e-5) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=atol)


def _train_step(subject: Subject, objective: Objective, update: int, decay: float) -> float:
    """One plain update, as the loop does it; returns its loss."""
    batch = subject.batch(update)
    masks = objective.draw_masks(batch, subject.recipe.seed, "cpu")
    optimizer = torch.optim.AdamW(parameter_groups(objective, subject.recipe.optimizer), lr=1e-3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(update)
        loss = objective.train()(batch, masks).loss_sum / masks.count
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    objective.update_teacher(decay)
    return loss.item()


def _history(out: Path) -> list[dict[str, float]]:
    """Rows without wall times."""
    rows = History.read(out / "history.csv").rows
    return [{name: value for name, value in row.items() if not name.startswith("perf/")} for row in rows]


CHECKS: tuple[Callable[[Subject], None], ...] = (
    recipe_builds_and_refuses_unknown_keys,
    building_is_a_function_of_the_seed,
    unchanged_data_is_only_checked,
    batches_are_functions_of_seed_epoch_and_id,
    batches_do_not_depend_on_order_and_neighbours,
    crops_have_the_length_that_the_order_asks_for,
    order_is_a_function_of_seed_and_update,
    probe_set_is_fixed_and_labelled,
    shapes_agree,
    tokens_of_lengths_are_tokens_of_inputs,
    plain_features_and_pictures_can_be_made,
    hidden_counts_are_kept_and_monotone,
    masks_are_functions_of_their_keys,
    masks_leave_padding_alone,
    masks_of_a_batch_are_those_of_its_parts,
    student_never_sees_what_is_hidden,
    features_do_not_depend_on_padding,
    targets_do_not_depend_on_padding,
    masked_rows_do_not_depend_on_padding,
    teacher_starts_as_the_student,
    teacher_is_the_average_of_the_student,
    gradient_reaches_the_whole_student_and_no_teacher,
    losses_of_parts_add_up,
    a_training_step_is_bit_equal_twice,
    the_loss_goes_down,
    a_resumed_run_ends_in_the_same_bits,
    a_saved_encoder_comes_back_bit_by_bit,
    requests_become_inputs,
)
