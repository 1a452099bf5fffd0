import pytest

from d2v.data.batch_sampler import EqualBatchSampler
from d2v.distributed.environment import DistEnv
from d2v.distributed.process_group import init_process_group
from d2v.modalities import registry
from d2v.objectives.build import build_objective
from d2v.training.engine import open_engine
from d2v.training.summary import summarise
from tests.objectives.helpers import SMALL, SMALL_MAE, SMALL_V1, recipe


@pytest.mark.parametrize(
    ("values", "visible"),
    [
        (SMALL | {"mask": SMALL["mask"] | {"adjust": 0.0}}, "data2vec2 | 4 of 16 tokens visible"),
        (SMALL_MAE, "mae | 4 of 16 tokens visible"),
        (SMALL_V1, "data2vec1 | 16 tokens"),
    ],
)
def test_visible_tokens_are_told_where_their_number_is_fixed(values: dict, visible: str) -> None:
    config = recipe(values)
    objective, sampler = build_objective(registry.get("vision"), config), EqualBatchSampler(40, config.batch_size, 0)
    env = DistEnv(device_type="cpu")
    with init_process_group(env, 60) as group, open_engine(objective, config, group, "fp32") as engine:
        lines = summarise(config, objective, engine, sampler, 0, "")
    assert lines[0] == f"train: objective   {visible}"
