from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from d2v.modalities import registry
from tests.distributed.trainings import Training
from tests.modalities.contract.case import find_case, make_prepared


@pytest.fixture(scope="session")
def training_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Training]:
    """(modality, objective) -> a training of its contract case, with data."""

    @cache
    def prepared(name: str) -> Path:
        case = find_case(name)
        assert case is not None
        return make_prepared(registry.get(name), case, tmp_path_factory.mktemp(name)).path

    return lambda name, objective: Training(prepared(name), Path(), name, objective)
