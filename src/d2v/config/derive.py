"""Recipes of `conf/`. One may name another as its base, and then lists only what differs.

    text:
      base: cola                     # the block `text` of conf/cola, which may have a base of its own
      without: [finetune.labels]     # keys of the base that this recipe does not have
      ingest:
        source: data/01_raw/glue/RTE.zip

Blocks merge, and values and lists replace those of the base. A block whose `name` or `kind` differs from the base's
replaces it whole, because an objective's keys mean nothing to another.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from d2v.config.changes import merged
from d2v.config.yaml_numbers import check_numbers
from d2v.errors import ConfigError

BASE, WITHOUT = "base", "without"
_GLOBAL = re.compile(r"\$\{globals:\s*([\w.]+)\s*\}")


def read_recipe(conf: Path, environment: str, modality: str) -> dict[str, Any]:
    """All blocks of a modality's recipe, those of its base included, as Kedro reads them.

    Interpolations such as `${globals:data_root}` and `${oc.env:NAME}` are filled in.

    Args:
        conf: the project's folder `conf`.
        environment: a folder in it.
        modality: which recipe of the environment.

    Raises:
        ConfigError: there is no such recipe, its base cannot be used, or an interpolation names nothing.

    Example:
        >>> read_recipe(Path("conf"), "imagenet", "vision")["train"]["batch_size"]  # doctest: +SKIP
        512
    """
    name = f"parameters_{modality}.yml"
    own = _read(conf / environment / name, modality)
    if own is None:
        raise ConfigError(
            f"there is no recipe {conf / environment / name}: call this in the project's folder, or say --conf"
        )
    derived = derive(
        own,
        environment,
        modality,
        read=lambda other: _read(conf / other / name, modality),
        known=lambda: sorted(file.parent.name for file in conf.glob(f"*/{name}")),
    )
    return _resolved(derived, modality, (conf / "base", conf / environment))


def _read(file: Path, modality: str) -> Mapping[str, Any] | None:
    from omegaconf import OmegaConf  # Kedro's reader: other YAML readers take 1e-3 for a text

    if not file.is_file():
        return None
    check_numbers(file.read_text(encoding="utf-8"), str(file))
    block: Mapping[str, Any] | None = OmegaConf.to_container(OmegaConf.load(file)).get(modality)  # type: ignore[union-attr]
    return block


def unresolved(where: str, error: Exception) -> ConfigError:
    """The error of an interpolation that names nothing, as OmegaConf raised it."""
    what = str((error.__cause__ or error).args[0]).splitlines()[0]
    return ConfigError(f"{where}: {what}: set it, or write the value")


def _resolved(block: Mapping[str, Any], modality: str, folders: Iterable[Path]) -> dict[str, Any]:
    """The block with `${...}` filled in as Kedro does: names of globals.yml, keys of the recipe, the environment."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from omegaconf.resolvers import oc

    if not OmegaConf.has_resolver("oc.env"):  # Kedro takes it away when it has read credentials
        OmegaConf.register_new_resolver("oc.env", oc.env)
    names: dict[str, Any] = {}
    for file in (folder / "globals.yml" for folder in folders):
        if file.is_file():
            names |= OmegaConf.to_container(OmegaConf.load(file))  # type: ignore[arg-type]

    def filled(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: filled(one) for key, one in value.items()}
        if isinstance(value, list):
            return [filled(one) for one in value]
        # Kedro's resolver belongs to the loader that was made last, so its names become references into a key here.
        return _GLOBAL.sub(r"${_globals.\1}", value) if isinstance(value, str) else value

    try:
        whole: Any = OmegaConf.to_container(
            OmegaConf.create({modality: filled(block), "_globals": names}), resolve=True
        )
    except OmegaConfBaseException as error:
        raise unresolved(modality, error) from None
    resolved: dict[str, Any] = whole[modality]
    return resolved


def derive(
    own: Mapping[str, Any],
    environment: str,
    modality: str,
    read: Callable[[str], Mapping[str, Any] | None],
    known: Callable[[], Iterable[str]],
    above: tuple[str, ...] = (),
) -> dict[str, Any]:
    """A modality's recipe merged over its base, the base's base, and so on.

    Args:
        own: the blocks as they are written.
        environment: where they are written.
        modality: whose they are.
        read: gives the blocks that are written in another environment; None if it has none of this modality.
        known: environments that have some, for messages.
        above: environments that derive from this one.

    Raises:
        ConfigError: a base does not exist or leads back to where it started, or a key cannot be dropped or replaced.
    """
    if BASE not in own:
        return dict(own)
    changes = {key: value for key, value in own.items() if key not in (BASE, WITHOUT)}
    base, at, chain = own[BASE], f"conf/{environment}: {modality}", (*above, environment)
    if base in chain:
        way = " -> ".join([*chain, base])
        raise ConfigError(f"{at}.{BASE}: {way} goes in a circle: write one of these recipes without `{BASE}`")
    blocks = read(base) if isinstance(base, str) else None
    if blocks is None:
        raise ConfigError(f"{at}.{BASE}: no environment {base!r} has a recipe of {modality}; {_hint(base, known())}")
    inherited = derive(blocks, base, modality, read, known, chain)
    kept = _drop(inherited, own.get(WITHOUT, []), f"{at}.{WITHOUT}")
    try:
        return merged(kept, changes, at)
    except ConfigError as error:
        raise ConfigError(f"{error}, or list it under {modality}.{WITHOUT}") from None


def _drop(values: dict[str, Any], keys: Any, at: str) -> dict[str, Any]:
    """The values without those that `keys` names by dotted paths."""
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ConfigError(f"{at}: {keys!r} is not a list of keys: write it as [finetune, train.monitor]")
    for dotted in keys:
        values = _without(values, dotted.split("."), f"{at}: the base has no {dotted}")
    return values


def _without(values: Any, path: list[str], problem: str) -> dict[str, Any]:
    key, *rest = path
    if not isinstance(values, Mapping):
        raise ConfigError(f"{problem}: remove it from the list")
    if key not in values:
        raise ConfigError(f"{problem}; {_hint(key, values)}")
    if rest:
        return {**values, key: _without(values[key], rest, problem)}
    return {name: value for name, value in values.items() if name != key}


def _hint(given: Any, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(str(given), names, n=1)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}"
