"""Kedro's settings for this project."""

from omegaconf.resolvers import oc

from d2v.distributed.environment import read_dist_env
from pipelines.config_loader import ConfigLoader
from pipelines.hooks import LateTrackingHook, MuteHook, RecipeHook, StepHook
from pipelines.plugins import defer_commands_of_kedro_mlflow, hush_kedro_mlflow

defer_commands_of_kedro_mlflow()
hush_kedro_mlflow()

# Kedro calls the hooks from last to first.
HOOKS = (StepHook(), LateTrackingHook(), RecipeHook()) if read_dist_env().is_main else (MuteHook(), RecipeHook())

# LateTrackingHook replaces kedro-mlflow's own instance. These are the plugins' distribution names.
DISABLE_HOOKS_FOR_PLUGINS = ("kedro_mlflow", "kedro-telemetry", "kedro-viz")

# An environment's `vision` block replaces that of conf/base: retuning the embedded demo cannot change an ImageNet
# recipe. A recipe that derives from another says so with `base`. conf/local is an environment like any other
# (--env=local) and is never mixed in silently.
CONFIG_LOADER_CLASS = ConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "base",
    "merge_strategy": {"mlflow": "soft"},
    "custom_resolvers": {"oc.env": oc.env},
    "config_patterns": {"mlflow": ["mlflow*", "mlflow*/**", "**/mlflow*"]},
}
