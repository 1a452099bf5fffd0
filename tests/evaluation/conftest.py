"""The vision modality of these tests has its data in memory, also for those who look it up by name."""

import pytest

from d2v import model_folder as folder
from tests.evaluation import fakes


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> fakes.FakeData:
    """Labelled data, and a registry that knows the modality with it."""
    data = fakes.FakeData()
    monkeypatch.setattr(folder.registry, "get", lambda name: fakes.modality(data))
    return data
