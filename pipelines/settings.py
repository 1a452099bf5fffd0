"""Kedro's settings for this project."""

from omegaconf.resolvers import oc

from d2v.distributed.environment import read_dist_env
from pipelines.hooks import FollowerHook, RecipeHook, StepHook
from pipelines.tracking import TrackingHook

# Kedro calls the hooks from last to first.
HOOKS = (FollowerHook(), RecipeHook()) if not read_dist_env().is_main else (StepHook(), TrackingHook(), RecipeHook())

# TrackingHook replaces kedro-mlflow's own instance. These are the plugins' distribution names.
DISABLE_HOOKS_FOR_PLUGINS = ("kedro_mlflow", "kedro-telemetry", "kedro-viz")

# A recipe is one whole file: an environment's `vision` block replaces the base's, nothing of it shines through, so
# retuning the embedded demo cannot change an ImageNet recipe. conf/local is an environment like any other (--env=local)
# and is never mixed in silently.
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "base",
    "merge_strategy": {"mlflow": "soft"},
    "custom_resolvers": {"oc.env": oc.env},
    "config_patterns": {"mlflow": ["mlflow*", "mlflow*/**", "**/mlflow*"]},
}
