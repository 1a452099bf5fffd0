import json
import math
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from d2v.distributed.launch import ForMain
from d2v.distributed.process_group import ProcessGroup
from d2v.distributed.watchdog import Watchdog
from d2v.errors import CheckpointError, CollapseError, ConfigError, DataError, Interrupted
from d2v.models.shards import WeightsOf
from d2v.tracker import NullTracker
from d2v.training.history import History
from d2v.training.step import seed_dropout
from d2v.training.train import train_rank
from tests.training.fakes import (
    FakeData,
    FakeObjective,
    Recorder,
    build_fake_objective,
    fake_job,
    make_recipe,
    train_fake,
)


def weights(out: Path, update: int) -> dict[str, torch.Tensor]:
    folder = out / f"checkpoints/update-{update:08d}"
    return load_file(folder / "trained.safetensors") | load_file(folder / "teacher.safetensors")


def test_a_run_leaves_history_result_and_the_newest_checkpoints(tmp_path: Path) -> None:
    tracker = Recorder()
    exported = []
    result = train_fake(
        tmp_path, make_recipe(), tracker=tracker, export=lambda out, objective, weights_of: exported.append(out)
    )
    assert result.updates == 12
    assert [row["update"] for row in History.read(result.history).rows] == [2, 4, 6, 8, 10, 12]
    assert [update for update, _ in tracker.rows] == [2, 4, 6, 8, 10, 12]
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["update-00000010", "update-00000012"]
    assert exported == [tmp_path]
    assert json.loads((tmp_path / "result.json").read_text())["updates"] == 12
    assert {"train/loss", "train/lr", "train/ema_decay", "train/target_std", "train/pred_std"} <= set(result.metrics)
    assert {"features/final_rank", "perf/samples_per_s", "perf/data_ms", "perf/step_ms"} <= set(result.metrics)


def test_the_run_equals_a_plain_loop(tmp_path: Path) -> None:
    recipe = make_recipe(max_updates=4)
    train_fake(tmp_path, recipe)
    objective, reference = FakeData(), build_fake_objective(recipe)
    _plain_loop(reference, objective, recipe)
    for name, tensor in weights(tmp_path, 4).items():
        torch.testing.assert_close(tensor, reference.state_dict()[name], rtol=1e-6, atol=1e-7)


def _plain_loop(objective: FakeObjective, data: FakeData, recipe) -> None:
    """Adam, clipping and the EMA written out: the teacher follows after the step, with the decay of its number."""
    from d2v.data.batch_sampler import EqualBatchSampler

    vectors = [p for p in objective.parameters() if p.requires_grad and p.ndim == 1]
    matrices = [p for p in objective.parameters() if p.requires_grad and p.ndim > 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}], betas=(0.9, 0.95)
    )
    sampler = EqualBatchSampler(data.num_train, recipe.batch_size, recipe.seed)
    rates = [0.0, 1e-2 / 3, 2e-2 / 3, 1e-2]
    for update, lr in enumerate(rates):
        batch = data.batch(sampler.at(update), recipe)
        masks = objective.draw_masks(batch, recipe.seed, "cpu")
        seed_dropout(recipe.seed, update, 0)
        objective.train()
        (objective(batch, masks).loss_sum / masks.count).backward()
        torch.nn.utils.clip_grad_norm_(vectors + matrices, 0.5)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        optimizer.zero_grad()
        decay = 0.9 + 0.09 * (update + 1) / 10
        pairs = zip(objective.teacher.parameters(), objective.student.parameters(), strict=True)
        with torch.no_grad():
            for teacher, student in pairs:
                teacher.copy_((decay * teacher.double() + (1 - decay) * student.double()).float())


def test_a_save_begins_before_it_waits_for_other_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phases, waited = [""], []
    monkeypatch.setattr(Watchdog, "heartbeat", lambda self, update, phase: phases.append(phase))
    monkeypatch.setattr(ProcessGroup, "all_reduce_mean", lambda self, values: waited.append(phases[-1]) or values)
    checkpoint = {"every_updates": 1, "keep": 2}
    train_fake(tmp_path, make_recipe(max_updates=2, log_every_updates=2, checkpoint=checkpoint))
    assert waited == ["checkpoint", "log"]


def test_accumulation_gives_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.Dropout, "forward", lambda self, x: x)  # its draws depend on the shape
    train_fake(tmp_path / "one", make_recipe())
    train_fake(tmp_path / "two", make_recipe(accumulation_steps=2))
    one, two = weights(tmp_path / "one", 12), weights(tmp_path / "two", 12)
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("data_workers", [2])
def test_workers_do_not_change_the_result(tmp_path: Path, data_workers: int) -> None:
    train_fake(tmp_path / "inline", make_recipe())
    train_fake(tmp_path / "workers", make_recipe(data_workers=data_workers))
    inline, workers = weights(tmp_path / "inline", 12), weights(tmp_path / "workers", 12)
    assert all(torch.equal(inline[name], workers[name]) for name in inline)


def test_probe_is_logged_at_its_interval_and_at_the_end(tmp_path: Path) -> None:
    modes = []

    def probe(encoder: torch.nn.Module, update: int) -> dict[str, float]:
        modes.append(encoder.training)
        return {"probe/knn": 0.5}

    tracker = Recorder()
    train_fake(tmp_path, make_recipe(probe_every_updates=5), tracker=tracker, probe=probe)
    assert [update for update, metrics in tracker.rows if "probe/knn" in metrics] == [5, 10, 12]
    assert modes == [False] * 3
    rows = History.read(tmp_path / "history.csv").rows
    assert [row["update"] for row in rows] == [2, 4, 5, 6, 8, 10, 12]


def test_a_whole_probe_gets_the_weights_of_the_update(tmp_path: Path) -> None:
    """Those of teacher and head, too; its metrics stand in the row of the other probe."""
    seen: dict[int, dict[str, torch.Tensor]] = {}

    def whole(weights: Mapping[str, torch.Tensor], update: int) -> dict[str, float]:
        seen[update] = dict(weights)
        return {"online/choice": 0.25}

    tracker, recipe = Recorder(), make_recipe(probe_every_updates=5)
    train_fake(tmp_path, recipe, tracker=tracker, probe=lambda encoder, update: {"online/knn": 0.5}, whole_probe=whole)
    rows = [(at, row["online/knn"], row["online/choice"]) for at, row in tracker.rows if "online/choice" in row]
    assert rows == [(5, 0.5, 0.25), (10, 0.5, 0.25), (12, 0.5, 0.25)]
    last = weights(tmp_path, 12)
    assert seen[12].keys() == last.keys()
    assert all(torch.equal(seen[12][name], value) for name, value in last.items())
    assert not all(torch.equal(seen[5][name], value) for name, value in last.items())


def test_a_nan_stops_before_the_step(tmp_path: Path) -> None:
    from d2v.data.batch_sampler import EqualBatchSampler

    recipe = make_recipe()
    bad_sample = int(EqualBatchSampler(40, 8, recipe.seed).at(3).indices[0])
    with pytest.raises(CollapseError, match=rf"not finite at update 4 .*samples {bad_sample},.*optimizer\.lr"):
        train_fake(tmp_path, recipe, FakeData(bad_sample=bad_sample))


def test_a_nan_after_a_checkpoint_names_it(tmp_path: Path) -> None:
    from d2v.data.batch_sampler import EqualBatchSampler

    recipe = make_recipe(checkpoint={"every_updates": 2, "keep": 2})
    sample = int(EqualBatchSampler(40, 8, recipe.seed).at(3).indices[0])
    with pytest.raises(CollapseError, match=r"last healthy checkpoint is .*update-00000002"):
        train_fake(tmp_path, recipe, FakeData(bad_sample=sample))
    assert all(torch.isfinite(t).all() for t in weights(tmp_path, 2).values())


def test_collapse_stops_with_evidence(tmp_path: Path) -> None:
    recipe = make_recipe(monitor={"grace_updates": 3, "min_target_std": 100.0})
    with pytest.raises(CollapseError, match=r"collapsed by update 4: train/target_std .* is below 100.*warmup_updates"):
        train_fake(tmp_path, recipe)


def test_interrupt_saves_and_resumes_to_the_same_weights(tmp_path: Path) -> None:
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match=r"SIGTERM after update 4 of 12.*same command resumes"):
        train_fake(tmp_path / "a", make_recipe(), tracker=Recorder(signal_at=4, number=signal.SIGTERM))
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    resumed = train_fake(tmp_path / "a", make_recipe())
    assert resumed.resumed_from == 4
    train_fake(tmp_path / "b", make_recipe())
    a, b = weights(tmp_path / "a", 12), weights(tmp_path / "b", 12)
    assert all(torch.equal(a[name], b[name]) for name in b)


def test_a_finished_run_returns_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = train_fake(tmp_path, make_recipe(max_updates=2))
    again = train_fake(tmp_path, make_recipe(max_updates=2), tracker=(tracker := Recorder()))
    assert again.metrics == first.metrics
    assert tracker.rows == []
    assert "is finished (2 updates)" in capsys.readouterr().err


def test_a_finished_run_of_another_recipe_moves_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train_fake(tmp_path, make_recipe(max_updates=2))
    result = train_fake(tmp_path, make_recipe(max_updates=3))
    assert result.updates == 3
    assert (tmp_path / "previous/1/result.json").is_file()
    assert "fake.train.max_updates: 2 -> 3" in capsys.readouterr().err


def interrupted_run(out: Path) -> None:
    with pytest.raises(Interrupted):
        train_fake(out, make_recipe(), tracker=Recorder(signal_at=4, number=signal.SIGTERM))


def test_an_unfinished_run_refuses_another_recipe_and_other_data(tmp_path: Path) -> None:
    interrupted_run(tmp_path)
    changed = make_recipe(seed=6, optimizer={"lr": 0.5, "clip_norm": 0.5})
    with pytest.raises(CheckpointError) as refusal:
        train_fake(tmp_path, changed, FakeData(fingerprint="xyz"))
    for part in (
        "fake.train.seed: 5 -> 6",
        "fake.train.optimizer.lr: 0.01 -> 0.5",
        "abc -> xyz",
        "fake.train.resume=restart",
    ):
        assert part in str(refusal.value)


def test_neutral_keys_may_change_on_resume(tmp_path: Path) -> None:
    interrupted_run(tmp_path)
    changed = make_recipe(log_every_updates=3, checkpoint={"every_updates": 4, "keep": 3}, data_workers=1)
    assert train_fake(tmp_path, changed).resumed_from == 4


def test_restart_moves_the_old_run_aside(tmp_path: Path) -> None:
    interrupted_run(tmp_path)
    result = train_fake(tmp_path, make_recipe(seed=6, resume="restart"))
    assert result.resumed_from == 0
    assert (tmp_path / "previous/1/checkpoints/update-00000004/state.json").is_file()


def test_more_ranks_are_refused_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"d2v.training.train.train start the ranks"):
        train_rank(fake_job(make_recipe(distributed={"ranks": 2})), tmp_path, ForMain(NullTracker()))


def test_a_batch_larger_than_the_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"at most 6"):
        train_fake(tmp_path, make_recipe(), FakeData(num_train=6))


def test_bf16_trains_with_fp32_parameters(tmp_path: Path) -> None:
    result = train_fake(tmp_path, make_recipe(precision="bf16", max_updates=3))
    assert math.isfinite(result.metrics["train/loss"])
    assert {t.dtype for t in weights(tmp_path, 3).values()} == {torch.float32}
    assert json.loads((tmp_path / "result.json").read_text())["precision"] == "bf16"


def test_a_disk_that_fills_up_at_the_end_is_named(tmp_path: Path) -> None:
    def export(out: Path, objective: FakeObjective, weights_of: WeightsOf) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(CheckpointError, match=r"disk of .* is full .* same command"):
        train_fake(tmp_path, make_recipe(), export=export)
    assert train_fake(tmp_path, make_recipe()).resumed_from == 12


def test_training_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    import os
    import sys

    hook, rank = sys.excepthook, os.environ.get("LOCAL_RANK")
    train_fake(tmp_path, make_recipe(max_updates=1))
    assert sys.excepthook is hook
    assert os.environ.get("LOCAL_RANK") == rank
    assert not torch.distributed.is_initialized()
