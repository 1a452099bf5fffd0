"""Every registered modality keeps the contract, for every objective that its case has a recipe for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import pytest
import torch

from d2v.modalities.registry import MODALITIES
from tests.modalities.contract import CHECKS, Prepared, Subject, find_case, make_prepared

CASES = {name: case for name in MODALITIES if (case := find_case(name))}
SUBJECTS = [(name, objective) for name, case in CASES.items() for objective in case.recipes]


@pytest.fixture(scope="session")
def prepared_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Prepared]:
    """The prepared data of a modality, made when it is first asked for."""
    return cache(lambda name: make_prepared(MODALITIES[name], CASES[name], tmp_path_factory.mktemp(name)))


@pytest.fixture(scope="module", params=SUBJECTS, ids="-".join)
def subject(
    request: pytest.FixtureRequest,
    prepared_of: Callable[[str], Prepared],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Subject]:
    """One modality under one objective, on one thread, which makes sums come in the same order."""
    name, objective = request.param
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Subject(prepared_of(name), objective, tmp_path_factory.mktemp(f"{name}_{objective}"))
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", MODALITIES)
def test_every_modality_has_a_case(name: str) -> None:
    assert name in CASES, (
        f"the modality {name} is in the registry and its contract is not tested: write "
        f"tests/modalities/{name}/contract_case.py with a CASE (docs/extend.md says what it holds)"
    )


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(check: Callable[[Subject], None], subject: Subject) -> None:
    check(subject)
