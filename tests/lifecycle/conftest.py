"""An MLflow store in a scratch env."""

from tests.tracking.conftest import client, empty_store

__all__ = ["client", "empty_store"]
