"""Steps and runs are repeated bit by bit, and the loss goes down."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from d2v.training.history import History
from tests.checkpoints import stored
from tests.modalities.contract.subject import ProbeError, Subject, differing, select, train_step


def losses_of_parts_add_up(subject: Subject) -> None:
    """The sum over the parts of a batch is that of the whole, as ranks and accumulation need. wav2vec 2.0's diversity
    is one of the whole part, and left out."""
    if subject.has_batch_norm:
        return
    objective, batch = subject.build(diversity_weight=0.0).eval(), subject.batch()
    losses, counts = [], []
    for rows in (slice(None), slice(0, 3), slice(3, None)):
        part = select(batch, rows)
        masks = objective.draw_masks(part, 0, "cpu")
        losses.append(objective(part, masks).loss_sum.detach())
        counts.append(int(masks.count))
    assert counts[0] == sum(counts[1:])
    torch.testing.assert_close(losses[0], losses[1] + losses[2], rtol=1e-4, atol=1e-4)


def a_training_step_is_bit_equal_twice(subject: Subject) -> None:
    ends = []
    for _ in range(2):
        objective = subject.build()
        losses = [train_step(subject, objective, update, decay=0.9) for update in range(2)]
        ends.append(({name: one.clone() for name, one in objective.state_dict().items()}, losses))
    assert ends[0][1] == ends[1][1]
    assert differing(ends[0][0], ends[1][0]) == set()


def the_loss_goes_down(subject: Subject) -> None:
    losses = [row["train/loss"] for row in _history(subject.run)]
    assert len(losses) == subject.recipe.max_updates
    assert np.mean(losses[-3:]) < np.mean(losses[:3])


def a_resumed_run_ends_in_the_same_bits(subject: Subject) -> None:
    """N updates equal k updates, a failure, and the rest."""
    out, every, last = subject.folder / "resumed", subject.recipe.checkpoint.every_updates, subject.recipe.max_updates
    with pytest.raises(ProbeError):
        subject.train(out, fail_at=every + 2)
    assert subject.train(out).resumed_from == every
    assert _history(out) == _history(subject.run)
    one, two = (folder / f"checkpoints/update-{last:08d}" for folder in (out, subject.run))
    assert differing(stored(one), stored(two)) == set()


def _history(out: Path) -> list[dict[str, float]]:
    """Rows without wall times."""
    rows = History.read(out / "history.csv").rows
    return [{name: value for name, value in row.items() if not name.startswith("perf/")} for row in rows]


CHECKS = (
    losses_of_parts_add_up,
    a_training_step_is_bit_equal_twice,
    the_loss_goes_down,
    a_resumed_run_ends_in_the_same_bits,
)
