import pytest
import torch

from d2v.config import OptimizerConfig
from d2v.data.batch_sampler import EqualBatchSampler
from d2v.distributed.environment import DistEnv
from d2v.distributed.process_group import init_process_group
from d2v.errors import ConfigError
from d2v.training.engine import open_engine, parameter_groups
from d2v.training.precision import choose_precision, emulated
from tests.training.fakes import FakeData, build_fake_objective, make_recipe

CPU = DistEnv(0, 1, device_type="cpu")


def test_the_teacher_is_not_optimised_and_vectors_do_not_decay() -> None:
    objective = build_fake_objective(make_recipe())
    groups = parameter_groups(objective, OptimizerConfig(lr=1.0, weight_decay=0.1))
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert {p.ndim for p in groups[0]["params"]} == {2}
    assert {p.ndim for p in groups[1]["params"]} == {1}
    teacher = {id(p) for p in objective.teacher.parameters()}
    assert not teacher & {id(p) for group in groups for p in group["params"]}


def test_decay_all_is_the_reference_s_one_group() -> None:
    groups = parameter_groups(build_fake_objective(make_recipe()), OptimizerConfig(lr=1.0, decay_all=True))
    assert len(groups) == 1


def test_after_a_bad_update_nothing_is_applied() -> None:
    recipe, data = make_recipe(), FakeData()
    objective = build_fake_objective(recipe)
    batch = data.batch(EqualBatchSampler(40, 8, 0).at(0), recipe)
    masks = objective.draw_masks(batch, 0, "cpu")

    def weights() -> list[torch.Tensor]:
        return [p.detach().clone() for p in objective.student.parameters()]

    with init_process_group(CPU, 60) as group, open_engine(objective, recipe, group, "fp32") as engine:  # type: ignore[arg-type]

        def update(index: int, factor: float) -> None:
            loss = engine.module(batch, masks)[0] * factor
            engine.backward(loss)
            engine.step(index, 1e-2, loss.detach())

        before = weights()
        update(0, 1.0)
        healthy = weights()
        assert not all(torch.equal(a, b) for a, b in zip(before, healthy, strict=True))
        assert engine.first_bad_update() is None
        update(1, float("inf"))
        update(2, 1.0)
        assert engine.first_bad_update() == 1
        assert all(torch.equal(a, b) for a, b in zip(healthy, weights(), strict=True))


def test_gradients_are_clipped_to_the_norm() -> None:
    recipe, data = make_recipe(optimizer={"lr": 1.0, "clip_norm": 1e-3}), FakeData()
    objective = build_fake_objective(recipe)
    batch = data.batch(EqualBatchSampler(40, 8, 0).at(0), recipe)
    seen: list[float] = []
    with init_process_group(CPU, 60) as group, open_engine(objective, recipe, group, "fp32") as engine:  # type: ignore[arg-type]
        loss = engine.module(batch, objective.draw_masks(batch, 0, "cpu"))[0]
        engine.backward(loss)
        engine.step(0, 0.0, loss.detach())
        assert engine.grad_norm > 1e-3
        moments = [state["exp_avg"] for state in engine.optimizer.state.values()]
        seen.append(float(torch.cat([m.flatten() for m in moments]).norm()))
    assert seen == [pytest.approx(0.1 * 1e-3, rel=1e-4)]  # first moment = (1 - beta1) * clipped gradient


def test_precision_as_asked_or_as_the_hardware_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert choose_precision("fp32", cpu)[0] == "fp32"
    assert choose_precision("bf16", cpu)[0] == "bf16"
    for flag, precision in (("avx512_bf16", "bf16"), ("amx_bf16", "bf16"), ("avx2", "fp32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda name=flag: {name: True})
        assert choose_precision("auto", cpu)[0] == precision


def test_formats_without_instructions_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for names, slow in (((), True), (("avx512_bf16",), False)):
        capabilities = dict.fromkeys(names, True) | {"architecture": "x86_64", "avx2": True}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found)
        assert ("no instructions for bfloat16" in choose_precision("bf16", cpu)[1]) is slow
        assert bool(emulated(torch.bfloat16, cpu)) is slow
        assert "no instructions for float16" in emulated(torch.float16, cpu)
        assert not emulated(torch.float32, cpu)
        assert not emulated(torch.bfloat16, torch.device("cuda"))


def test_bf16_on_a_gpu_without_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
    with pytest.raises(ConfigError, match=r"train.precision=fp32"):
        choose_precision("bf16", torch.device("cuda"))
    assert choose_precision("auto", torch.device("cuda"))[0] == "fp32"


@pytest.mark.gpu
def test_the_engine_trains_on_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    recipe, data = make_recipe(), FakeData()
    env = DistEnv(0, 1, device_type="cuda")
    objective = build_fake_objective(recipe)
    batch = data.batch(EqualBatchSampler(40, 8, 0).at(0), recipe).to(env.device)
    losses = []
    with init_process_group(env, 60) as group, open_engine(objective, recipe, group, "bf16") as engine:  # type: ignore[arg-type]
        masks = objective.draw_masks(batch, 0, env.device)
        for update in range(20):
            loss = engine.module(batch, masks)[0]
            engine.backward(loss)
            engine.step(update, 1e-2, loss.detach())
            losses.append(float(loss))
        assert engine.first_bad_update() is None
    assert losses[-1] < losses[0]
