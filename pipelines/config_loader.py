"""Kedro's configuration, with recipes that derive from others and catalog entries that stand for every modality."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kedro.config import MissingConfigException, OmegaConfigLoader
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from d2v.config import current_names
from d2v.config.derive import BASE, derive, unresolved
from d2v.config.yaml_numbers import check_numbers
from d2v.errors import ConfigError
from d2v.modalities import registry

MODALITY = "{modality}"


class ConfigLoader(OmegaConfigLoader):
    """Kedro's loader. `base: <environment>` in a modality's parameters is resolved before `--params` and
    interpolations are, so what is validated, logged and given to nodes is the whole recipe. Old names of keys become
    the new ones before anything is merged. A catalog entry `{modality}.<name>` becomes one entry for each modality."""

    def __getitem__(self, key: str) -> dict[str, Any]:
        """A kind of configuration, such as `parameters`.

        Raises ConfigError for a base that cannot be used, or an interpolation that names nothing.
        """
        if key == "parameters":
            self.runtime_params = _under_current_names(self.runtime_params)
        try:
            values = super().__getitem__(key)
        except OmegaConfBaseException as error:
            raise unresolved(key, error) from None
        return for_each_modality(values, self["globals"]) if key == "catalog" else values

    def _read_dir_configs(self, conf_path: str, patterns: list[str], key: str, *options: Any) -> dict[Path, DictConfig]:
        """The files of an environment, those of parameters with what their bases give. Kedro has no public place for
        this between reading and merging."""
        files = super()._read_dir_configs(conf_path, patterns, key, *options)
        if key not in ("parameters", "globals"):
            return files
        for file in files:
            check_numbers(self._fs.read_text(str(file), encoding="utf-8"), str(file))
        if key == "globals":
            return files
        return {file: OmegaConf.create(self._derived(values, Path(conf_path).name)) for file, values in files.items()}

    def _derived(self, parameters: DictConfig, environment: str) -> dict[str, Any]:
        blocks = _under_current_names(OmegaConf.to_container(parameters))
        for modality, block in blocks.items():
            if modality in registry.MODALITIES and isinstance(block, Mapping) and BASE in block:
                blocks[modality] = derive(
                    block,
                    environment,
                    modality,
                    read=lambda other, modality=modality: self._written(other).get(modality),
                    known=lambda modality=modality: self._environments_with(modality),
                )
        return blocks

    def _written(self, environment: str) -> dict[str, Any]:
        """The parameters of an environment as they are written; empty where there is no such environment."""
        path, patterns = self._get_conf_env_path(environment), self.config_patterns["parameters"]
        try:
            files = super()._read_dir_configs(path, patterns, "parameters", set())
        except MissingConfigException:
            return {}
        return _under_current_names(OmegaConf.to_container(OmegaConf.unsafe_merge(*files.values()))) if files else {}

    def _environments_with(self, modality: str) -> list[str]:
        folder = Path(self._get_conf_env_path(self.base_env)).parent
        names = (Path(path).name for path in self._fs.ls(folder.as_posix(), detail=False))
        return sorted(name for name in names if modality in self._written(name))


def _under_current_names(parameters: Any) -> dict[str, Any]:
    """Recipes, or parts of them, by modality; a line for each old name."""
    return {
        modality: current_names(registry.recipe_type(modality), block, at=modality, speaks=True)
        if modality in registry.MODALITIES and isinstance(block, Mapping)
        else block
        for modality, block in parameters.items()
    }


def for_each_modality(catalog: Mapping[str, Any], names: Mapping[str, Any]) -> dict[str, Any]:
    """The catalog with one entry per modality in place of each `{modality}.<name>`.

    Kedro's own dataset factories know only what a data set's name says, but folders are named by the environment. So
    `{corpus}` and `{recipe}` in an entry are the modality's names in globals.yml. An entry that is written out wins.

    Raises ConfigError for a name that globals.yml does not have.
    """
    patterns = {name: entry for name, entry in catalog.items() if MODALITY in name}
    entries: dict[str, Any] = {}
    for modality in registry.MODALITIES:
        known = {"modality": modality, **names.get(modality, {})}
        for pattern, entry in patterns.items():
            try:
                filled = {key: text.format_map(known) if isinstance(text, str) else text for key, text in entry.items()}
            except KeyError as missing:
                key = f"{modality}.{missing.args[0]}"
                raise ConfigError(f"{pattern} in the catalog needs {key}: add it to globals.yml") from None
            entries[pattern.replace(MODALITY, modality)] = filled
    return entries | {name: entry for name, entry in catalog.items() if name not in patterns}
