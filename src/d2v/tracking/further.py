"""Trackers beside MLflow, as `trackers` in globals.yml names them."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

from d2v.errors import ConfigError
from d2v.tracker import Tracker

KNOWN = {"tensorboard": "d2v.tracking.tensorboard_tracker:TensorBoardTracker"}
"""Name in globals.yml -> module and class."""


def open_tracker(name: str, run: str, settings: Mapping[str, Any]) -> Tracker:
    """A tracker by its name.

    Args:
        name: one of `KNOWN`, or `module:Class` of a class that the project brings.
        run: name of the run, which the class takes first.
        settings: its other arguments.

    Raises:
        ConfigError: there is no such class, or it does not take the settings.
    """
    module, colon, attribute = KNOWN.get(name, name).partition(":")
    if not colon:
        near = difflib.get_close_matches(name, KNOWN, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(KNOWN)}, or write module:Class"
        raise ConfigError(f"trackers in globals.yml: there is no tracker {name!r}; {hint}")
    try:
        kind = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"trackers in globals.yml: {name} cannot be imported ({error}): set PYTHONPATH") from None
    try:
        tracker: Tracker = kind(run, **settings)
    except TypeError as error:
        raise ConfigError(f"trackers in globals.yml: {name} takes other settings ({error}): change them") from None
    return tracker
