"""Names of modules and attributes from earlier versions. They still work, and a DeprecationWarning says the new name.

Registered models hold code of the version that registered them, and notebooks import what was there when they were
written. The project itself imports no old name.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MODULES: dict[str, str] = {
    "d2v.data.places": "d2v.data.sources.locations",
    "d2v.evaluation.run": "d2v.evaluation.evaluate",
    "d2v.evaluation.statistics": "d2v.statistics",
    "d2v.finetuning.answers": "d2v.finetuning.model",
    "d2v.finetuning.run": "d2v.finetuning.finetune",
    "d2v.interchange.folder": "d2v.model_folder",
    "d2v.loading": "d2v.interchange",
    "d2v.loading.exporting": "d2v.interchange.exporting",
    "d2v.loading.importing": "d2v.interchange.importing",
    "d2v.loading.model": "d2v.interchange.load",
    "d2v.loading.parquet": "d2v.interchange.encode_files",
    "d2v.pretrain": "d2v.pretraining.pretrain",
    "d2v.training.launch": "d2v.distributed.launch",
    "d2v.training.tracker": "d2v.tracker",
}
"""Old module -> new module: those that registered models import and those that the documents named. A package is one
entry, and each of its modules is another."""

ATTRIBUTES: dict[str, dict[str, str]] = {
    "d2v.data.places": {"Place": "Location", "open_place": "open_location"},
    "d2v.data.random": {"mix": "fold_in"},
    "d2v.finetuning.answers": {"answers": "decode"},
    "d2v.finetuning.model": {"TunedModel": "FinetunedModel", "load_tuned": "load_finetuned"},
    "d2v.modalities.base": {"LabelledPart": "LabelledSplit"},
    "d2v.training.launch": {"ForLead": "ForMain"},
}
"""Module, by its old name -> {old attribute: new attribute}. The new one is in the module's new place, or has dots and
is the whole path to another place, such as `d2v.config.parse`.

A module that kept its own name has no entry in MODULES. It ends with

    if not TYPE_CHECKING:
        __getattr__ = moved.old_attributes(__name__)
"""


def install() -> None:
    """Let old modules be imported. A module that exists under the asked name is found first."""
    if not any(isinstance(finder, _Moved) for finder in sys.meta_path):
        sys.meta_path.append(_Moved())


def old_attributes(module: str) -> Callable[[str], Any]:
    """The `__getattr__` of a module that has moved or has renamed attributes.

    Args:
        module: the name under which it is imported.
    """

    def find(name: str) -> Any:
        new_module, new_name = MODULES.get(module), ATTRIBUTES.get(module, {}).get(name)
        if new_name is not None:
            home, _, attribute = (new_name if "." in new_name else f"{new_module or module}.{new_name}").rpartition(".")
            _warn(f"{module}.{name}", f"{home}.{attribute}")
            value = getattr(importlib.import_module(home), attribute)
            setattr(sys.modules[module], name, value)  # so that the warning comes once
            return value
        if new_module is None or name.startswith("__") or f"{module}.{name}" in MODULES:  # that is still to be imported
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return getattr(importlib.import_module(new_module), name)

    return find


def _warn(old: str, new: str) -> None:
    message = f"{old} is now {new}: use that name, the old one goes away in a later version"
    warnings.warn(message, DeprecationWarning, stacklevel=3)  # the importer's line: importlib's own do not count


class _Moved:
    """Finder and loader of old modules, and of packages that are gone but for old modules in them. It has no base
    class, as the import of `importlib.abc` takes as long as that of all of `d2v`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As a package, so that modules below it can be found."""
        loader: Any = self
        if fullname in MODULES:
            return ModuleSpec(fullname, loader, is_package=True)
        if any(old.startswith(f"{fullname}.") for old in MODULES):
            return ModuleSpec(fullname, None, is_package=True)
        return None

    def create_module(self, spec: ModuleSpec) -> None:
        """An ordinary one."""

    def exec_module(self, module: ModuleType) -> None:
        """Give it the attributes of the new module."""
        old = module.__name__
        _warn(old, MODULES[old])
        target = importlib.import_module(MODULES[old])
        names = [*vars(target), *ATTRIBUTES.get(old, {})]
        public = [name for name in names if not name.startswith("_")]
        vars(module).update(__doc__=target.__doc__, __all__=public, __dir__=lambda: names)
        vars(module)["__getattr__"] = old_attributes(old)
