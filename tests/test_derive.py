"""Recipes that derive from others: what is merged, what is replaced, and how mistakes are reported."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml
from kedro.framework.startup import bootstrap_project
from omegaconf import OmegaConf
from omegaconf.resolvers import oc

from d2v.config import read_recipe
from d2v.errors import ConfigError
from pipelines.config_loader import ConfigLoader, for_each_modality
from tests.conftest import ROOT, Command

Write = Callable[[str, str], None]
WHOLE = """
    ingest: {source: data/01_raw/a.zip, options: {seed: 1}}
    train:
      objective: {name: data2vec2, masks_per_sample: 8, targets: {top_k_layers: 4, layer_norms: [instance]}}
      mask: {kind: random, ratio: 0.48}
      optimizer: {lr: 1e-3, betas: [0.9, 0.98], clip_norm: 4.0}
      monitor: {grace_updates: 300}
    finetune: {start: "${globals:data_root}/${globals:text.recipe}", labels: {share: 0.1}}
"""


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    folder = tmp_path / "conf"
    write(folder, "base", "{}")
    (folder / "base" / "globals.yml").write_text("data_root: data\ntext: {corpus: base, recipe: base}\n")
    write(folder, "whole", WHOLE)
    return folder


def write(conf: Path, environment: str, block: str, modality: str = "text") -> None:
    file = conf / environment / f"parameters_{modality}.yml"
    file.parent.mkdir(parents=True, exist_ok=True)
    inner = "\n".join(f"  {line}" for line in dedent(block).strip().splitlines())
    file.write_text(f"{modality}:\n{inner}\n")


def loader(conf: Path, environment: str, **params: Any) -> ConfigLoader:
    return ConfigLoader(
        str(conf),
        env=environment,
        base_env="base",
        default_run_env="base",
        runtime_params=params or None,
        custom_resolvers={"oc.env": oc.env},
    )


@pytest.fixture(params=["library", "kedro"])
def read(request: pytest.FixtureRequest, conf: Path) -> Callable[[str], dict[str, Any]]:
    """Both readers, which give the same."""
    if request.param == "library":
        return lambda environment: read_recipe(conf, environment, "text")
    return lambda environment: loader(conf, environment)["parameters"]["text"]


def whole(**train: Any) -> dict[str, Any]:
    blocks = yaml.safe_load(dedent(WHOLE).replace("1e-3", "0.001"))
    return blocks["train"] | train


def test_blocks_merge_and_values_and_lists_are_replaced(conf: Path, read: Callable[[str], Any]) -> None:
    derived = """
        base: whole
        train:
          objective: {targets: {layer_norms: [layer, batch]}}
          optimizer: {lr: 2.0e-3}
          seed: 3
    """
    write(conf, "derived", derived)
    recipe = read("derived")
    assert recipe.keys() == {"ingest", "train", "finetune"}
    assert recipe["train"] == whole(
        objective={
            "name": "data2vec2",
            "masks_per_sample": 8,
            "targets": {"top_k_layers": 4, "layer_norms": ["layer", "batch"]},
        },
        optimizer={"lr": 2e-3, "betas": [0.9, 0.98], "clip_norm": 4.0},
        seed=3,
    )


def test_a_block_of_another_name_or_kind_is_replaced_whole(conf: Path, read: Callable[[str], Any]) -> None:
    derived = "base: whole\ntrain:\n  objective: {name: mlm}\n  mask: {kind: span, span: 4}"
    write(conf, "derived", derived)
    assert read("derived")["train"] == whole(objective={"name": "mlm"}, mask={"kind": "span", "span": 4})


def test_a_block_of_the_same_name_is_merged(conf: Path, read: Callable[[str], Any]) -> None:
    write(conf, "derived", "base: whole\ntrain: {mask: {kind: random, ratio: 0.5}, objective: {name: data2vec2}}")
    assert read("derived")["train"] == whole(mask={"kind": "random", "ratio": 0.5})


def test_null_is_a_value(conf: Path, read: Callable[[str], Any]) -> None:
    write(conf, "derived", "base: whole\ntrain: {optimizer: {clip_norm: null}}")
    assert read("derived")["train"]["optimizer"]["clip_norm"] is None


def test_inherited_keys_can_be_dropped_or_written_anew(conf: Path, read: Callable[[str], Any]) -> None:
    derived = """
        base: whole
        without: [finetune, train.monitor, ingest.options]
        ingest: {options: {count: 5}}
    """
    write(conf, "derived", derived)
    recipe = read("derived")
    assert recipe.keys() == {"ingest", "train"}
    assert recipe["ingest"] == {"source": "data/01_raw/a.zip", "options": {"count": 5}}
    expected = whole()
    del expected["monitor"]
    assert recipe["train"] == expected


def test_a_base_may_have_a_base(conf: Path, read: Callable[[str], Any]) -> None:
    write(conf, "middle", "base: whole\nwithout: [finetune]\ntrain: {seed: 1, max_updates: 5}")
    write(conf, "derived", "base: middle\ntrain: {seed: 2}\nfinetune: {batch_size: 4}")
    recipe = read("derived")
    assert recipe["train"] == whole(seed=2, max_updates=5)
    assert recipe["finetune"] == {"batch_size": 4}


def test_the_base_environment_does_not_shine_through(conf: Path, read: Callable[[str], Any]) -> None:
    write(conf, "base", "evaluate: {knn_k: 5}")
    write(conf, "derived", "base: whole")
    assert "evaluate" not in read("derived")


def test_names_of_folders_are_those_of_the_derived_environment(conf: Path) -> None:
    write(conf, "derived", "base: whole")
    (conf / "derived" / "globals.yml").write_text("text: {corpus: d, recipe: mine}\n")
    assert loader(conf, "derived")["parameters"]["text"]["finetune"]["start"] == "data/mine"
    assert read_recipe(conf, "derived", "text")["finetune"]["start"] == "data/mine"


def test_params_of_a_run_change_the_resolved_recipe(conf: Path) -> None:
    write(conf, "derived", "base: whole\ntrain: {seed: 1}")
    recipe = loader(conf, "derived", text={"train": {"mask": {"ratio": 0.9}}})["parameters"]["text"]
    assert recipe["train"] == whole(seed=1, mask={"kind": "random", "ratio": 0.9})


def test_one_number_is_the_same_number_to_both_readers(conf: Path, read: Callable[[str], Any]) -> None:
    assert read("whole")["train"]["optimizer"]["lr"] == 1e-3


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("base: hole", r"conf/derived: text\.base: no environment 'hole' has .* of text; did you mean whole\?"),
        ("base: images", r"text\.base: no environment 'images' has a recipe of text; known: base, derived, whole"),
        ("base: [whole]", r"text\.base: no environment \['whole'\] has"),
        ("base: derived", r"text\.base: derived -> derived goes in a circle: write one .* without `base`"),
        ("base: whole\nwithout: [train.montor]", r"text\.without: the base has no train\.montor; did you mean monitor"),
        ("base: whole\nwithout: [finetune.start.x]", r"text\.without: the base has no finetune\.start\.x: remove it"),
        ("base: whole\nwithout: finetune", r"text\.without: 'finetune' is not a list of keys: write it as \["),
        ("base: whole\nfinetune: null", r"text\.finetune is a block, not None: .* or list it under text\.without"),
    ],
)
def test_mistakes_name_the_fix(conf: Path, read: Callable[[str], Any], block: str, message: str) -> None:
    write(conf, "images", "train: {}", modality="vision")
    write(conf, "derived", block)
    with pytest.raises(ConfigError, match=message):
        read("derived")


def test_a_circle_is_shown(conf: Path, read: Callable[[str], Any]) -> None:
    write(conf, "one", "base: two")
    write(conf, "two", "base: three")
    write(conf, "three", "base: one")
    with pytest.raises(ConfigError, match=r"conf/three: text\.base: one -> two -> three -> one goes in a circle"):
        read("one")


def test_interpolations_are_filled_in_alike(
    conf: Path, read: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SEED", "7")
    write(conf, "derived", "base: whole\ntrain: {seed: '${oc.env:A_SEED}', max_updates: '${text.train.seed}'}")
    recipe = loader(conf, "derived")["parameters"]["text"]
    assert recipe["train"]["max_updates"] == recipe["train"]["seed"] == "7"
    assert read("derived") == recipe
    monkeypatch.delenv("A_SEED")
    with pytest.raises(ConfigError, match=r"'A_SEED' not found.*: set it, or write the value"):
        read("derived")


def test_the_environment_is_read_also_after_kedro_took_its_resolver_away(
    conf: Path, read: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SEED", "7")
    write(conf, "derived", "base: whole\ntrain: {seed: '${oc.env:A_SEED}'}")
    OmegaConf.clear_resolver("oc.env")
    assert read("derived")["train"]["seed"] == "7"


def test_numbers_that_readers_take_for_different_ones_are_refused(conf: Path, read: Callable[[str], Any]) -> None:
    for number, remedy in {"010": "write 10, or '010'", "1_000": "write 1000", "12:30": "in quotes, '12:30'"}.items():
        write(conf, "derived", f"base: whole\ntrain: {{seed: {number}}}")
        for reader in (read, lambda environment: loader(conf, environment)["parameters"]):
            with pytest.raises(ConfigError, match=rf"parameters_text.yml, line \d+: {number} is .*{remedy}"):
                reader("derived")
    write(conf, "derived", "base: whole\ntrain: {seed: '010', max_updates: 0}")
    assert read("derived")["train"]["seed"] == "010"


def test_kedro_and_the_library_read_every_recipe_alike() -> None:
    bootstrap_project(ROOT)
    from kedro.framework.project import settings

    for file in sorted((ROOT / "conf").glob("*/parameters_*.yml")):
        environment, modality = file.parent.name, file.stem.removeprefix("parameters_")
        kedro = settings.CONFIG_LOADER_CLASS(
            str(ROOT / "conf"), env=environment, **settings.CONFIG_LOADER_ARGS | {"custom_resolvers": {"oc.env": _data}}
        )
        assert kedro["parameters"][modality] == read_recipe(ROOT / "conf", environment, modality), file


def _data(name: str, default: str) -> str:
    return default


@pytest.mark.parametrize("file", sorted((ROOT / "conf").glob("*/parameters_*.yml")), ids=lambda file: file.parent.name)
def test_a_base_stands_first(file: Path) -> None:
    """A reader meets it before what differs. The recipes of conf/base are whole, as DVC reads them itself."""
    (block,) = yaml.safe_load(file.read_text()).values()
    heads = [key for key in block if key in ("base", "without")]
    assert heads == list(block)[: len(heads)]
    assert not heads or (heads[0] == "base" and file.parent.name != "base")


def test_a_wrong_base_ends_a_run_with_one_paragraph(kedro: Command, tmp_path: Path) -> None:
    conf = tmp_path / "sources"
    shutil.copytree(ROOT / "conf" / "base", conf / "base")
    write(conf, "mine", "base: basse")
    done = kedro("run", f"--conf-source={conf}", "--env=mine", "--pipelines=ingest_text")
    assert done.returncode == 2
    assert "text.base: no environment 'basse' has a recipe of text; did you mean base?" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_catalog_entry_stands_for_every_modality() -> None:
    folder = {"type": "F", "path": "data/{modality}/{recipe}-{corpus}"}
    written = {"type": "F", "path": "elsewhere"}
    names = {name: {"corpus": f"c_{name}", "recipe": f"r_{name}"} for name in ("vision", "speech", "text")}
    catalog = for_each_modality({"text.run": written, "{modality}.run": folder, "report": written}, names)
    assert catalog == {
        "vision.run": {"type": "F", "path": "data/vision/r_vision-c_vision"},
        "speech.run": {"type": "F", "path": "data/speech/r_speech-c_speech"},
        "text.run": written,
        "report": written,
    }


def test_a_modality_without_folder_names_is_reported() -> None:
    names = {"vision": {"corpus": "c", "recipe": "r"}, "speech": {"corpus": "c"}}
    with pytest.raises(ConfigError, match=r"needs speech\.recipe: add it to globals\.yml"):
        for_each_modality({"{modality}.run": {"type": "F", "path": "{recipe}"}}, names)
