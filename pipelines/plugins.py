"""kedro-mlflow, which Kedro imports for every command: its commands come late, and its import is quiet."""

from __future__ import annotations

import importlib
import sys
import warnings
from types import ModuleType
from typing import Any

import click

KEDRO_MLFLOW = "kedro_mlflow.framework.cli.cli"


def defer_commands_of_kedro_mlflow() -> None:
    """Put a stand-in where Kedro looks for kedro-mlflow's commands. Kedro imports the commands of all plugins before it
    runs any, and with these comes MLflow: three seconds of every `kedro registry list`."""
    if KEDRO_MLFLOW not in sys.modules:
        stand_in: Any = ModuleType(KEDRO_MLFLOW)
        group = _Late("mlflow", help="Use mlflow-specific commands inside kedro project.")
        stand_in.commands = click.Group("Mlflow", {"mlflow": group})
        sys.modules[KEDRO_MLFLOW] = stand_in


def hush_kedro_mlflow() -> None:
    """Drop one warning: when kedro-mlflow is imported, MLflow asks its author for type hints, past all filters."""
    show = warnings.showwarning

    def show_others(message: Warning | str, *about: Any, **more: Any) -> None:
        if "Add type hints to the `predict` method" not in str(message):
            show(message, *about, **more)

    warnings.showwarning = show_others


class _Late(click.Group):
    """`kedro mlflow`: the plugin is imported when its commands are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the plugin's commands."""
        return _plugin().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command of the plugin; None for another name."""
        return _plugin().get_command(ctx, cmd_name)


def _plugin() -> click.Group:
    if not hasattr(sys.modules[KEDRO_MLFLOW], "__file__"):  # the stand-in
        del sys.modules[KEDRO_MLFLOW]
    group: click.Group = importlib.import_module(KEDRO_MLFLOW).mlflow_commands
    return group
