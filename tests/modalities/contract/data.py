"""Batches and their order are functions of seed, epoch and id; the probe set is fixed."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import torch

from d2v.data.batch import SampleKeys
from tests.modalities.contract.subject import Subject


def unchanged_data_is_only_checked(subject: Subject) -> None:
    proofs = [subject.prepared.folder / "corpus" / "corpus.json", subject.prepared.path / "prepared.json"]
    before = [proof.stat().st_mtime_ns for proof in proofs]
    subject.prepared.bring_up_to_date()
    assert [proof.stat().st_mtime_ns for proof in proofs] == before
    assert subject.modality.open(subject.prepared.path).fingerprint == subject.data.fingerprint != ""


def batches_are_functions_of_seed_epoch_and_id(subject: Subject) -> None:
    keys = subject.sampler().at(1)
    batch = subject.data.batch(keys, subject.recipe)
    assert batch.sample_ids.tolist() == keys.indices.tolist()
    assert batch.epochs.tolist() == keys.epochs.tolist()
    assert batch.update == 1
    in_a_worker = pickle.loads(pickle.dumps(subject.data))
    for data in (subject.data, in_a_worker, subject.modality.open(subject.prepared.path)):
        assert torch.equal(data.batch(keys, subject.recipe).inputs, batch.inputs)


def batches_do_not_depend_on_order_and_neighbours(subject: Subject) -> None:
    keys = subject.sampler().at(0)
    whole = subject.data.batch(keys, subject.recipe)
    size = len(keys.indices)
    for rows in (np.arange(size)[::-1].copy(), np.array([size - 1, 1]), np.array([size // 2])):
        part = SampleKeys(keys.update, keys.indices[rows], keys.epochs[rows], keys.length)
        batch = subject.data.batch(part, subject.recipe)
        assert torch.equal(batch.inputs, whole.inputs[torch.from_numpy(rows)])
        assert (batch.lengths is None) or torch.equal(batch.lengths, whole.lengths[torch.from_numpy(rows)])


def crops_have_the_length_that_the_sampler_asks_for(subject: Subject) -> None:
    keys = subject.sampler().at(0)
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


def the_sampler_is_a_function_of_seed_and_update(subject: Subject) -> None:
    sampler, again = subject.sampler(), subject.sampler()
    seen: dict[int, list[int]] = {}
    for update in range(2 * subject.data.num_train // subject.recipe.batch_unit):
        keys = sampler.at(update)
        for index, epoch in zip(keys.indices.tolist(), keys.epochs.tolist(), strict=True):
            seen.setdefault(epoch, []).append(index)
    assert len(seen) > 1
    assert all(len(set(items)) == len(items) for items in seen.values()), "an item came twice in an epoch"
    for update in (5, 0, 3):
        assert np.array_equal(sampler.at(update).indices, again.at(update).indices)
    keys = sampler.at(2)
    pieces = [sampler.micro_batch(keys, rank, 2, step, 2).indices for step in range(2) for rank in range(2)]
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


CHECKS = (
    unchanged_data_is_only_checked,
    batches_are_functions_of_seed_epoch_and_id,
    batches_do_not_depend_on_order_and_neighbours,
    crops_have_the_length_that_the_sampler_asks_for,
    the_sampler_is_a_function_of_seed_and_update,
    probe_set_is_fixed_and_labelled,
)
