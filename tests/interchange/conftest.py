"""Parity is shown in float32, as models run, and in float64, where a difference in meaning cannot hide in rounding."""

import pytest

from tests.interchange.parity import DOUBLE, SINGLE, Precision


@pytest.fixture(scope="module", params=[SINGLE, DOUBLE], ids=["float32", "float64"])
def precision(request: pytest.FixtureRequest) -> Precision:
    return request.param
