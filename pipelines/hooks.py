"""What happens around a run: recipes are parsed before any work, and one line per node shows the progress."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from d2v.config import RunConfig
from d2v.errors import ConfigError
from d2v.imports import absent, collector_at_rest
from d2v.progress import mute
from pipelines.recipes import parse_all, smallest_block

LOG = logging.getLogger(__name__)


class RecipeHook:
    """Parses the recipes, once a command: everything after it finds typed blocks where Kedro has plain values."""

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Put the parsed recipes in place of the plain values. Kedro goes into typed blocks as into plain ones, so that
        `parameters` holds a recipe per modality, `params:vision.train` a TrainConfig, and defaults are there too.

        Raises ConfigError with every wrong entry at once.
        """
        self.conf = Path(context.config_loader.conf_source)
        context.config_loader["parameters"] = parse_all(context.config_loader["parameters"])

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Say what the recipe alone has against a training, before anything is read.

        Raises ConfigError for a step whose optional block is not in the recipe.
        """
        blocks = sorted(name for name in pipeline.inputs() if name.startswith("params:"))
        missing = [name.removeprefix("params:") for name in blocks if name in catalog and catalog.load(name) is None]
        if missing:
            examples = "\n".join(smallest_block(self.conf, name) for name in missing)
            raise ConfigError(
                f"the recipe lacks {', '.join(missing)}: add that, or run a pipeline without the step. The least that "
                f"will do, with the values of conf/base:\n{examples}"
            )
        for name in blocks:
            block = catalog.load(name) if name in catalog else None
            for remark in block.remarks(name.removeprefix("params:")) if isinstance(block, RunConfig) else ():
                LOG.warning("%s", remark)


class LateTrackingHook:
    """`pipelines.tracking.TrackingHook`, made once a command has a context. With it comes MLflow, which takes seconds
    that `kedro registry list` need not wait for."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Make the hook. At its first use MLflow imports the store."""
        with collector_at_rest():
            from pipelines.tracking import TrackingHook

            self._hook = TrackingHook()
            self._hook.after_context_created(context)

    @hook_impl
    def after_catalog_created(
        self,
        catalog: CatalogProtocol,
        conf_catalog: dict[str, Any],
        conf_creds: dict[str, Any],
        parameters: dict[str, Any],
        save_version: str,
        load_versions: dict[str, str],
    ) -> None:
        """See kedro-mlflow."""
        self._hook.after_catalog_created(catalog, conf_catalog, conf_creds, parameters, save_version, load_versions)

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Open the run."""
        with absent("IPython"):  # MLflow asks whether this is a notebook
            self._hook.before_pipeline_run(run_params, pipeline, catalog)

    @hook_impl
    def before_node_run(self, node: Node, catalog: CatalogProtocol, inputs: dict[str, Any], is_async: bool) -> None:
        """Enter the modality's run."""
        with absent("IPython"):
            self._hook.before_node_run(node, catalog, inputs, is_async)

    @hook_impl
    def after_node_run(self, node: Node, catalog: CatalogProtocol, inputs: dict[str, Any], is_async: bool) -> None:
        """Leave it."""
        self._hook.after_node_run(node, catalog, inputs, is_async)

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Close the run."""
        self._hook.after_pipeline_run(run_params, pipeline, catalog)

    @hook_impl
    def on_pipeline_error(
        self, error: Exception, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Close the run as killed or failed."""
        self._hook.on_pipeline_error(error, run_params, pipeline, catalog)


class StepHook:
    """One log line when a node starts and one when it ends."""

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Count the nodes."""
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


class MuteHook:
    """For ranks other than 0, where torchrun or srun starts the command once per rank: only rank 0 prints."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Print nothing on the terminal."""
        mute()
