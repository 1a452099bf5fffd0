#!/usr/bin/env bash
# Kedro validates the typed parameters of a partial function as the type of the argument before.
#
# Guess:    Node(update_wrapper(partial(train, "x"), train), ["params:a", "params:b"]) validates each parameter as the type of the argument
#           that it becomes; update_wrapper is there because Kedro asks for a function with a name.
# Versions: kedro 1.7.0, pydantic 2.12.4
# Instead:  update_wrapper leads inspect.signature back to the whole function, so the bound argument counts and all types shift by one:
#           params:b gets the type of a. Where the models accept each other's values, the node is given objects of the wrong class and
#           nothing is said; where they do not, a session does not start. A bare partial is not validated at all and gets dictionaries.
# Means:    bind by a small function or a closure with its own signature, or leave the parameters of partials without model types.
# Seen:     2026-11-30
#           whole function: a is Optimizer, b is Schedule
#           partial with update_wrapper: a is dict, b is Optimizer
#           the same, fields differ: ParameterValidationError
#           bare partial: a is dict, b is dict
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet kedro==1.7.0 pydantic==2.12.4
mkdir -p "$work/project/src/typed" "$work/project/conf/base" "$work/project/conf/local"
cd "$work/project"
cat > pyproject.toml <<'TOML'
[tool.kedro]
package_name = "typed"
project_name = "typed"
kedro_init_version = "1.7.0"
TOML
touch src/typed/__init__.py src/typed/settings.py
cat > src/typed/pipeline_registry.py <<'PY'
from functools import partial, update_wrapper

from kedro.pipeline import Node, Pipeline
from pydantic import BaseModel


class Optimizer(BaseModel):
    value: float


class Schedule(BaseModel):
    value: float


class Mask(BaseModel):
    ratio: float


def same(name: str, a: Optimizer, b: Schedule) -> str:
    return f"a is {type(a).__name__}, b is {type(b).__name__}"


def whole(a: Optimizer, b: Schedule) -> str:
    return same("x", a, b)


def other(name: str, a: Optimizer, m: Mask) -> str:
    return f"a is {type(a).__name__}, m is {type(m).__name__}"


def wrapped(function):
    return update_wrapper(partial(function, "x"), function)


def register_pipelines():
    return {
        "__default__": Pipeline([]),
        "whole": Pipeline([Node(whole, ["params:a", "params:b"], "said")]),
        "wrapped": Pipeline([Node(wrapped(same), ["params:a", "params:b"], "said")]),
        "differ": Pipeline([Node(wrapped(other), ["params:a", "params:m"], "said")]),
        "bare": Pipeline([Node(partial(same, "x"), ["params:a", "params:b"], "said", name="bare")]),
    }
PY
printf 'a: {value: 1.0}\nb: {value: 2.0}\nm: {ratio: 0.5}\n' > conf/base/parameters.yml
echo '{}' > conf/base/catalog.yml
export KEDRO_DISABLE_TELEMETRY=true DO_NOT_TRACK=1
"$work/venv/bin/python" - <<'PY'
import logging
from pathlib import Path

from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

bootstrap_project(Path.cwd())
logging.disable(logging.CRITICAL)


def run(name: str) -> str:
    try:
        with KedroSession.create(project_path=Path.cwd()) as session:
            return session.run(pipeline_names=[name])["said"].load()
    except Exception as error:
        return type(error).__name__


seen = {name: run(name) for name in ("whole", "wrapped", "differ", "bare")}
print("whole function:", seen["whole"])
print("partial with update_wrapper:", seen["wrapped"])
print("the same, fields differ:", seen["differ"])
print("bare partial:", seen["bare"])
assert seen == {
    "whole": "a is Optimizer, b is Schedule",
    "wrapped": "a is dict, b is Optimizer",
    "differ": "ParameterValidationError",
    "bare": "a is dict, b is dict",
}
PY
