"""docs/extend.md is true: its lists are all that a fourth modality and a new objective need. The examples are
`tests/toy_modality` and `tests/toy_objective`."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import d2v
import d2v.modalities
from d2v.errors import ConfigError
from d2v.interchange.exporting import export_model
from d2v.modalities import registry
from d2v.modalities.base import Modality
from d2v.model_folder import save_encoder
from d2v.training.history import History
from tests.conftest import ROOT
from tests.modalities.contract import CHECKS, Prepared, Subject, make_prepared
from tests.toy_modality.contract_case import CASE

DOCUMENT = (ROOT / "docs" / "extend.md").read_text()
TOY = ROOT / "tests" / "toy_modality"
MODALITY = {
    **{f"src/d2v/modalities/series/{path.name}": path for path in sorted((TOY / "series").glob("*.py"))},
    "conf/base/parameters_series.yml": TOY / "conf" / "parameters_series.yml",
    "tests/modalities/series/__init__.py": TOY / "__init__.py",
    "tests/modalities/series/contract_case.py": TOY / "contract_case.py",
}
"""New files of the modality, and of what they are copies."""
MEMBER = '    "series": ("SeriesRecipe", "Series"),\n'
FOLDERS = "series:\n  corpus: waves\n  recipe: waves\n"
STAGES = "      series:\n        corpus: waves\n        recipe: waves\n"
MODALITY_EDITS = (
    ("src/d2v/modalities/registry.py", "_MEMBERS = {\n", f"_MEMBERS = {{\n{MEMBER}"),
    ("conf/base/globals.yml", "\nvision:\n", f"\n{FOLDERS}\nvision:\n"),
    ("dvc.yaml", "  - modalities:\n", f"  - modalities:\n{STAGES}"),
)
"""File, a text in it, and what comes in its place."""

OBJECTIVE = {"src/d2v/objectives/pooled.py": ROOT / "tests" / "toy_objective" / "pooled.py"}
BLOCK = '''
class PooledConfig(Block):
    """The teacher's mean target from a masked view."""

    name: Literal["pooled"]
    targets: TargetConfig
    ema: EmaConfig
    loss: LossConfig = LossConfig()
'''
UNION, LONGER_UNION = "| MlmConfig,\n", "| MlmConfig | PooledConfig,\n"
IMPORT = "from d2v.objectives.pooled import Pooled\n"
NAMED = '    "pooled": Pooled,\n'
OBJECTIVE_EDITS = (
    ("src/d2v/config/objectives.py", "\nObjectiveConfig = ", f"{BLOCK}\n\nObjectiveConfig = "),
    ("src/d2v/config/objectives.py", UNION, LONGER_UNION),
    ("src/d2v/objectives/build.py", "from d2v.objectives.wav2vec2", f"{IMPORT}from d2v.objectives.wav2vec2"),
    ("src/d2v/objectives/build.py", '    "mlm": Mlm,\n', f'    "mlm": Mlm,\n{NAMED}'),
)
POOLED_RECIPE = """
CASE.recipes["pooled"] = {
    "objective": {"name": "pooled", **SHARED, "targets": {"top_k_layers": 2, "layer_norms": ["layer"]}},
    "encoder": ENCODER,
    "optimizer": {"lr": 1e-2},
}
"""
FOLDERS_OF_A_CHECKOUT = ("src", "pipelines", "conf", "tests", ".dvc")
FILES_OF_A_CHECKOUT = ("pyproject.toml", "dvc.yaml", ".dvcignore", ".telemetry")


# --------------------------------------------------------------------------------------- in this process


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    """The toy as `d2v.modalities.series` and in the registry, with its case's data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(d2v.modalities, "__path__", [*d2v.modalities.__path__, str(TOY)])
        patch.setitem(registry._MEMBERS, "series", ("SeriesRecipe", "Series"))
        yield make_prepared(registry.get("series"), CASE, tmp_path_factory.mktemp("series"))
    del d2v.modalities.series
    for name in [name for name in sys.modules if name.startswith("d2v.modalities.series")]:
        del sys.modules[name]


@pytest.fixture(scope="module", params=CASE.recipes)
def subject(
    request: pytest.FixtureRequest, prepared: Prepared, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Subject]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Subject(prepared, request.param, tmp_path_factory.mktemp(request.param))
    torch.set_num_threads(threads)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_toy_keeps_the_contract(check: Callable[[Subject], None], subject: Subject) -> None:
    check(subject)


def test_the_toy_is_exported(prepared: Prepared, tmp_path: Path) -> None:
    """A graph takes files of other lengths than it was traced with; transformers has no class, which is said."""
    subject = Subject(prepared, "data2vec2", tmp_path)
    about = subject.modality.describe(subject.data)
    save_encoder(tmp_path / "ours", subject.build(), "series", subject.recipe, about)
    (tmp_path / "one.csv").write_text("left,right\n" + "0.5,-1\n" * 33)
    model = d2v.load(tmp_path / "ours", device="cpu")
    items = [str(tmp_path / "one.csv"), np.zeros((60, 2))]
    inputs = model.to_inputs(items)
    export_model(tmp_path / "ours", tmp_path / "graph", "torch-export")
    _, features = torch.export.load(tmp_path / "graph" / "encoder.pt2").module()(inputs.values, inputs.lengths)
    np.testing.assert_allclose(features.detach(), model.encode(items), atol=1e-5)
    assert "steps, channels" in json.loads((tmp_path / "graph" / "export.json").read_text())["inputs"]["inputs"]
    with pytest.raises(ConfigError, match="no class for series encoders: export to onnx or torch-export"):
        export_model(tmp_path / "ours", tmp_path / "hf", "hf")


@pytest.mark.parametrize("name", [name for name, member in vars(Modality).items() if inspect.isfunction(member)])
def test_the_interface_says_its_types(name: str) -> None:
    """So that a type checker knows what a modality of one's own must give."""
    signature = inspect.signature(vars(Modality)[name])
    said = [parameter.annotation for parameter in signature.parameters.values() if parameter.name != "self"]
    for annotation in (*said, signature.return_annotation):
        assert annotation is not inspect.Signature.empty
        assert "Any" not in str(annotation)


def test_python_names_the_methods_that_a_modality_lacks() -> None:
    class Half(Modality):
        name = "half"

    with pytest.raises(TypeError, match=r"abstract methods .*build_encoder.*graph_inputs.*read_item"):
        Half()


# ----------------------------------------------------------------------------------- in a copy of the project


@pytest.fixture
def checkout(tmp_path: Path, scratch_environment: dict[str, str]) -> Path:
    """A copy of the project with the modality's files and lines; commands in it take its own sources."""
    copy = tmp_path / "checkout"
    copy.mkdir()
    for name in FOLDERS_OF_A_CHECKOUT:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "tmp", "cache"))
    for name in FILES_OF_A_CHECKOUT:
        shutil.copy(ROOT / name, copy)
    extend(copy, MODALITY, MODALITY_EDITS)
    scratch_environment["PYTHONPATH"] = str(copy / "src")
    return copy


def extend(copy: Path, new: Mapping[str, Path], edits: Sequence[tuple[str, str, str]]) -> None:
    """Add files, and change texts in files that are there."""
    for name, source in new.items():
        assert not (copy / name).exists()
        (copy / name).parent.mkdir(exist_ok=True)
        shutil.copy(source, copy / name)
    for name, old, text in edits:
        content = (copy / name).read_text()
        assert content.count(old) == 1, f"{name} has changed around {old!r}: correct this test and docs/extend.md"
        (copy / name).write_text(content.replace(old, text))


def commands(heading: str) -> list[str]:
    """The commands of the first block under a heading of the document."""
    return DOCUMENT.split(f"## {heading}\n")[1].split("```\n")[1].strip().splitlines()


def run(command: str, checkout: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A command of the document, as a reader runs it."""
    words = [sys.executable, "-m", *command.split()]
    return subprocess.run(
        words, cwd=checkout, env=environment, capture_output=True, text=True, timeout=600, check=False
    )


def listed(heading: str) -> dict[str, str]:
    """File -> "new" or "edit", as the list under a heading of the document says."""
    return dict(line.split()[:2] for line in commands(heading))


def test_the_lists_name_every_file_and_the_document_every_line() -> None:
    for heading, new, edits in (
        ("The list", MODALITY, MODALITY_EDITS),
        ("Adding an objective", OBJECTIVE, OBJECTIVE_EDITS),
    ):
        assert listed(heading) == dict.fromkeys(new, "new") | dict.fromkeys((name for name, *_ in edits), "edit")
    for lines in (MEMBER, FOLDERS, STAGES, BLOCK, LONGER_UNION, IMPORT, NAMED):
        assert lines in DOCUMENT


def test_what_the_document_names_exists() -> None:
    for path in re.findall(r"`((?:src|tests|conf|docs)/[\w/.]+)`", DOCUMENT):
        assert (ROOT / path).exists(), path
    members = {*vars(Modality), *Modality.__annotations__} - {"train_config"}
    for name in (member for member in members if not member.startswith("_")):
        assert re.search(rf"\b{name}\b", DOCUMENT), f"docs/extend.md does not say what {name} is"


def test_kedro_trains_the_toy(checkout: Path, scratch_environment: dict[str, str], tmp_path: Path) -> None:
    (command,) = (line for line in commands("Prove it") if line.startswith("kedro"))
    done = run(command, checkout, scratch_environment)
    assert done.returncode == 0, done.stderr
    history = History.read(tmp_path / "data/06_models/series/waves/history.csv")
    losses = [row["train/loss"] for row in history.rows]
    assert np.mean(losses[-2:]) < 0.9 * losses[0]
    report = tmp_path / "data/08_reporting/series/waves"
    assert {"metrics.json", "masks.png", "pca.png", "model_card.md"} <= {path.name for path in report.iterdir()}
    assert "summary statistics" in done.stdout + done.stderr


@pytest.mark.slow
def test_the_lists_are_enough_for_the_projects_own_tests(checkout: Path, scratch_environment: dict[str, str]) -> None:
    """A modality and an objective at once: the contract, the recipes, and dvc.yaml beside the Kedro catalog."""
    extend(checkout, OBJECTIVE, OBJECTIVE_EDITS)
    with (checkout / "tests/modalities/series/contract_case.py").open("a") as case:
        case.write(POOLED_RECIPE)
    with (checkout / ".dvc" / "config").open("a") as config:
        config.write("    no_scm = true\n")  # the copy is no git repository
    del scratch_environment["D2V_DATA"]
    (command,) = (line for line in commands("Prove it") if line.startswith("pytest"))
    done = run(f"{command} -v", checkout, scratch_environment)
    assert done.returncode == 0, done.stdout + done.stderr
    for word in ("series-data2vec2", "series-data2vec1", "series-pooled", "evaluate@series", "base-series"):
        assert word in done.stdout
