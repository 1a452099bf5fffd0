"""The project that an environment belongs to: a checkout, or a folder that is made from the installed recipes."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

from d2v.errors import ConfigError

PACKAGE = "pipelines"
RECIPES = ("base", "own_data")
_PYPROJECT = f"""# A project of d2v, where `kedro run` and `d2v train` work: recipes are in conf/, results in data/.
[tool.kedro]
package_name = "{PACKAGE}"
project_name = "d2v"
kedro_init_version = "1.7.0"
source_dir = "."
"""
_IGNORED = "/data/\n/mlartifacts/\n/mlflow.db*\n/mlruns/\n"


def find_project(start: Path) -> Path | None:
    """The nearest folder, `start` or above it, that is a project of d2v."""
    for folder in (start, *start.parents):
        file = folder / "pyproject.toml"
        if file.is_file() and (folder / "conf" / "base").is_dir() and _is_project(file):
            return folder
    return None


def _is_project(file: Path) -> bool:
    try:
        tool = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {})
    except (tomllib.TOMLDecodeError, OSError):
        return False
    return bool(tool.get("kedro", {}).get("package_name") == PACKAGE)


def make_project(folder: Path) -> Path:
    """A new project: the recipes that every environment builds on, and the file that Kedro looks for.

    Raises:
        ConfigError: something is there already, or the installation has no recipes.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty and no project of d2v: say --project with another folder")
    recipes = installed_recipes()
    for name in RECIPES:
        shutil.copytree(recipes / name, folder / "conf" / name)
    shutil.copy(recipes / "logging.yml", folder / "conf" / "logging.yml")
    (folder / "pyproject.toml").write_text(_PYPROJECT, encoding="utf-8")
    (folder / ".gitignore").write_text(_IGNORED, encoding="utf-8")
    (folder / ".telemetry").write_text("consent: false\n")  # Kedro sends data about its use without this
    (folder / "README.md").write_text("A project of d2v. `d2v train FOLDER` adds an environment to conf/.\n")
    return folder


def installed_recipes() -> Path:
    """The folder `conf` of this installation: of the checkout, or what the wheel brought.

    Raises:
        ConfigError: there is none.
    """
    package = Path(__file__).resolve().parents[1]
    places = (package.parents[1] / "conf", package.parent / "d2v_conf")
    found = next((place for place in places if (place / "base" / "catalog.yml").is_file()), None)
    if found is None:
        raise ConfigError(f"the installation has no recipes (looked in {places[0]} and {places[1]}): install d2v again")
    return found
