"""Hooks around a run: wrong recipes stop it before any work, and one line per node shows the progress."""

from __future__ import annotations

import logging
import time
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from d2v.progress import mute
from pipelines.recipes import parse_all

LOG = logging.getLogger(__name__)


class RecipeHook:
    """Checks all recipes as soon as the configuration is known."""

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Raises ConfigError with every wrong entry at once."""
        parse_all(context.config_loader["parameters"])


class StepHook:
    """One log line when a node starts and one when it ends."""

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Count the nodes to come."""
        self._total, self._started = len(pipeline.nodes), 0

    @hook_impl
    def before_node_run(self, node: Node, catalog: CatalogProtocol, inputs: dict[str, Any], is_async: bool) -> None:
        """Log which node starts."""
        self._started += 1
        self._start_s = time.monotonic()
        LOG.info("[%d/%d] %s", self._started, self._total, node.name)

    @hook_impl
    def after_node_run(self, node: Node, catalog: CatalogProtocol, inputs: dict[str, Any], is_async: bool) -> None:
        """Log how long it took."""
        LOG.info("[%d/%d] %s: done in %.1f s", self._started, self._total, node.name, time.monotonic() - self._start_s)


class FollowerHook:
    """In a rank other than 0, where torchrun or srun starts the command once per rank: rank 0 speaks for all."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Say nothing on the terminal."""
        mute()
