"""A newer model takes the place of the served one; one that cannot be used does not."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from d2v.errors import CheckpointError
from d2v.serving.app import App
from d2v.serving.server import Reloader
from d2v.serving.source import Source
from tests.serving.conftest import LIMITS, save_text


def reloader(name: str) -> tuple[App, Reloader]:
    source = Source(name, LIMITS)
    app = App(source.load())
    return app, Reloader(source, app, 0)


def look(reloader: Reloader) -> None:
    """One look, as SIGHUP asks for it."""

    async def once() -> None:
        reloader.look_now()
        running = asyncio.create_task(reloader.run())
        while reloader._asked.is_set():
            await asyncio.sleep(0)
        reloader._pool.submit(lambda: None).result()
        running.cancel()

    asyncio.run(once())


def counted(app: App) -> tuple[int, int]:
    lines = app.metrics.text({}).splitlines()
    loaded, failed = (line for line in lines if line.startswith("d2v_serve_reloads_total{"))
    return int(loaded.split()[-1]), int(failed.split()[-1])


def test_a_moved_alias_is_followed(two_versions: Callable[[int], None]) -> None:
    app, reload = reloader("models:/d2v-text@champion")
    first = app.loaded
    assert first.label == "models:/d2v-text/1"
    look(reload)
    assert app.loaded is first
    two_versions(2)
    look(reload)
    assert app.loaded.label == "models:/d2v-text/2"
    assert counted(app) == (1, 0)


def test_a_version_stays(two_versions: Callable[[int], None]) -> None:
    app, reload = reloader("models:/d2v-text/1")
    two_versions(2)
    look(reload)
    assert app.loaded.label == "models:/d2v-text/1"


def test_a_registry_that_lost_the_model_leaves_it_served(
    two_versions: Callable[[int], None], registry: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app, reload = reloader("models:/d2v-text@champion")
    two_versions(2)
    files = (registry / "artifacts").rename(registry / "moved")
    look(reload)
    files.rename(registry / "artifacts")
    assert app.loaded.label == "models:/d2v-text/1"
    assert counted(app) == (0, 1)
    assert (
        "reload failed, models:/d2v-text/1 is served on: the files of d2v-text version 2 cannot be read" in caplog.text
    )


def test_a_folder_is_loaded_again_when_its_files_change(tmp_path: Path) -> None:
    folder = save_text(tmp_path / "encoder")
    app, reload = reloader(str(folder))
    first = app.loaded
    save_text(tmp_path / "other", depth=2)
    for file in (tmp_path / "other").iterdir():
        shutil.copy(file, folder / file.name)
    look(reload)
    assert app.loaded.identity != first.identity
    assert counted(app) == (1, 0)


@pytest.mark.parametrize("damage", ["cut", "nan", "gone"])
def test_a_damaged_folder_leaves_the_model_served(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = save_text(tmp_path / "encoder")
    app, reload = reloader(str(folder))
    first, weights = app.loaded, folder / "encoder.safetensors"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "nan":
        save_file({name: torch.full_like(value, torch.nan) for name, value in load_file(weights).items()}, weights)
    else:
        shutil.rmtree(folder)
    reload.look()
    reload.look()
    assert app.loaded is first
    assert "reload failed" in caplog.text
    if damage != "gone":
        assert counted(app) == (0, 1)  # not tried again
        look(reload)  # but when asked
        assert counted(app) == (0, 2)


def test_a_model_with_nan_is_not_served(tmp_path: Path) -> None:
    weights = save_text(tmp_path / "encoder") / "encoder.safetensors"
    save_file({name: torch.full_like(value, torch.nan) for name, value in load_file(weights).items()}, weights)
    with pytest.raises(CheckpointError, match="embeddings are not finite: register or restore"):
        Source(str(tmp_path / "encoder"), LIMITS).load()


def test_sources_that_are_not_there(two_versions: Callable[[int], None], tmp_path: Path) -> None:
    for name in ("models:/d2v-text@nobody", "models:/d2v-text/9", "models:/d2v-vision@champion", "models:/d2v-text"):
        with pytest.raises(CheckpointError, match="is not in the model registry: see `d2v models`"):
            Source(name, LIMITS).load()
    with pytest.raises(CheckpointError, match=r"cannot be read .*: give a model folder"):
        Source(str(tmp_path / "nothing"), LIMITS).load()
