"""Old names of modules and attributes."""

from __future__ import annotations

import importlib
import subprocess
import sys
import warnings
from collections.abc import Iterator

import pytest

from d2v import moved

MODULES = {
    "d2v.config.olden": "d2v.errors",
    "d2v.gone.olden": "d2v.progress",
    "d2v.packed": "d2v.data",
    "d2v.packed.olden": "d2v.data.disk",
}
ATTRIBUTES = {
    "d2v.config.olden": {"WrongRecipe": "ConfigError", "speak": "d2v.progress.log"},
    "d2v.errors": {"Wrong": "D2vError"},
}


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The tables above in place of the real ones, and nothing left in memory of what was imported by them."""
    monkeypatch.setattr(moved, "MODULES", MODULES)
    monkeypatch.setattr(moved, "ATTRIBUTES", ATTRIBUTES)
    before = set(sys.modules)
    yield
    for name in (name for name in MODULES if name not in before):
        sys.modules.pop(name, None)
        parent, _, child = name.rpartition(".")
        vars(sys.modules.get(parent, moved)).pop(child, None)
    sys.modules.pop("d2v.gone", None)


def warnings_of(statement: str) -> tuple[dict[str, object], list[str]]:
    """What a statement defines, and the warnings that it gave, which blame its line."""
    space: dict[str, object] = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec(compile(statement, "asker.py", "exec"), space)
    assert all(one.category is DeprecationWarning and one.filename == "asker.py" for one in caught)
    return space, [str(one.message) for one in caught]


# ------------------------------------------------------------------------------------- the real tables


@pytest.mark.parametrize("old", moved.MODULES)
def test_an_old_module_gives_the_new_one_and_says_its_name(old: str) -> None:
    new = moved.MODULES[old]
    loaded = [name for name in sys.modules if name == old or name.startswith(f"{old}.")]
    for name in loaded:
        del sys.modules[name]
    space, said = warnings_of(f"import {old} as found")
    assert said[-1].startswith(f"{old} is now {new}:")
    target = importlib.import_module(new)
    public = [name for name in vars(target) if not name.startswith("_") and f"{old}.{name}" not in moved.MODULES]
    assert all(getattr(space["found"], name) is getattr(target, name) for name in public)


@pytest.mark.parametrize("old", moved.MODULES)
def test_no_entry_hides_behind_a_module_of_that_name(old: str) -> None:
    assert type(importlib.util.find_spec(old).loader).__module__ == "d2v.moved", f"{old} exists: take it off the table"


@pytest.mark.parametrize(
    ("module", "old"), [(module, old) for module, names in moved.ATTRIBUTES.items() for old in names]
)
def test_an_old_attribute_gives_the_new_one(module: str, old: str) -> None:
    found = importlib.import_module(module)
    vars(found).pop(old, None)
    with pytest.warns(DeprecationWarning, match=moved.ATTRIBUTES[module][old].rpartition(".")[2]):
        assert getattr(found, old) is not None


# --------------------------------------------------------------------------------------- the mechanism


@pytest.mark.usefixtures("names")
def test_every_way_to_import_gives_the_same_objects_and_one_warning() -> None:
    from d2v.errors import ConfigError

    space, said = warnings_of("import d2v.config.olden\nfound = d2v.config.olden.ConfigError")
    assert said == [
        "d2v.config.olden is now d2v.errors: use that name, the old one goes away in a later version",
    ]
    assert space["found"] is ConfigError
    for again in ("from d2v.config import olden", "from d2v.config.olden import ConfigError, DataError"):
        assert warnings_of(again)[1] == []
    assert warnings_of("from d2v.config.olden import *")[0]["ConfigError"] is ConfigError


@pytest.mark.usefixtures("names")
def test_a_module_of_a_package_that_is_gone() -> None:
    from d2v.progress import log

    space, said = warnings_of("from d2v.gone import olden\nfound = olden.log")
    assert space["found"] is log
    assert [one.split(":")[0] for one in said] == ["d2v.gone.olden is now d2v.progress"]


@pytest.mark.usefixtures("names")
def test_a_package_and_a_module_in_it_move_apart() -> None:
    from d2v.data.disk import write_json

    space, said = warnings_of("from d2v.packed import olden\nfound = olden.write_json")
    assert space["found"] is write_json
    assert len(said) == 2


@pytest.mark.usefixtures("names")
def test_renamed_attributes_of_a_moved_module() -> None:
    from d2v.errors import ConfigError
    from d2v.progress import log

    space, said = warnings_of("import d2v.config.olden as olden\nfound = olden.WrongRecipe, olden.speak, olden.speak")
    assert space["found"] == (ConfigError, log, log)
    assert [one.split(":")[0] for one in said[1:]] == [
        "d2v.config.olden.WrongRecipe is now d2v.errors.ConfigError",
        "d2v.config.olden.speak is now d2v.progress.log",
    ]


@pytest.mark.usefixtures("names")
def test_a_renamed_attribute_of_a_module_that_stayed(monkeypatch: pytest.MonkeyPatch) -> None:
    import d2v.errors

    monkeypatch.setattr(d2v.errors, "__getattr__", moved.old_attributes("d2v.errors"), raising=False)
    space, said = warnings_of("from d2v.errors import Wrong")
    assert space["Wrong"] is d2v.errors.D2vError
    assert [one.split(":")[0] for one in said] == ["d2v.errors.Wrong is now d2v.errors.D2vError"]
    vars(d2v.errors).pop("Wrong")
    with pytest.raises(ImportError, match="never_there"):
        warnings_of("from d2v.errors import never_there")


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize("wrong", ["import d2v.never_there", "from d2v.config.olden import never_there"])
def test_what_never_was_is_an_import_error(wrong: str) -> None:
    with pytest.raises(ImportError, match="never_there"):
        warnings_of(wrong)


def test_importing_the_library_loads_no_torch_and_no_target() -> None:
    code = (
        "import sys, d2v, d2v.moved; print(sorted({'torch', 'numpy', *d2v.moved.MODULES.values()} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
