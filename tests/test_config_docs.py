"""docs/config.md says what every key of every recipe means, and is what the config classes say now."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import d2v
from d2v.config.alignment import AlignConfig, PairsConfig
from d2v.errors import ConfigError
from d2v.modalities import reference, requests
from d2v.modalities.registry import MODALITIES, recipe_type
from tests.conftest import ROOT
from tests.toy_modality.series.config import SeriesRecipe

DOCUMENT = ROOT / "docs" / "config.md"


def test_the_tables_are_current() -> None:
    text = DOCUMENT.read_text()
    assert text == reference.renewed(text), "docs/config.md is out of date: run make config-docs"


def test_every_key_says_what_it_means() -> None:
    further = [SeriesRecipe, AlignConfig, PairsConfig]
    assert reference.undescribed([*(recipe_type(name) for name in MODALITIES), *further]) == []


def test_a_key_without_a_text_is_found() -> None:
    class Bare(SeriesRecipe):
        """A recipe with a key that says nothing."""

        silent: int = 0

    assert reference.undescribed([Bare]) == ["Bare.silent"]


def test_links_lead_to_sections() -> None:
    text = DOCUMENT.read_text()
    headings = [re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in re.findall(r"^#+ (.*)", text, re.M)]
    assert len(set(headings)) == len(headings), "two sections of one name: links lead to the first"
    for target in re.findall(r"\]\(#([^)]*)\)", text):
        assert target in headings
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (DOCUMENT.parent / target).exists()


def test_rows_hold_type_default_and_meaning() -> None:
    lines = DOCUMENT.read_text().splitlines()
    assert (
        "| `lr` | number above 0 | required | Peak learning rate, for the whole batch: it is not scaled with the"
        in (next(line for line in lines if line.startswith("| `lr` |")))
    )
    (betas,) = (line for line in lines if line.startswith("| `betas` |"))
    assert betas.split(" | ")[1:3] == [
        "[number at least 0, at most 1, number at least 0, at most 1]",
        "`[0.9, 0.95]`",
    ]
    (mask,) = (line for line in lines if "Formerly `hide`" in line)
    assert mask.startswith("| `mask` | [block](#finetunemask) | its defaults |")
    assert sum(line.startswith("| `float32_matmul` |") for line in lines) == 1, "shared blocks stand there once"


def test_every_variable_is_listed() -> None:
    listed = set(re.findall(r"^\| `([A-Z0-9_]+)` \|", DOCUMENT.read_text(), re.M))
    sources = [*ROOT.glob("src/d2v/**/*.py"), *ROOT.glob("pipelines/**/*.py"), *ROOT.glob("conf/**/*.yml")]
    read = set(re.findall(r"\bD2V_[A-Z_]*[A-Z]\b", "\n".join(path.read_text() for path in sources)))
    inside = {"D2V_STORE", d2v.KERNELS_CHOSEN, requests.PREFIX.rstrip("_")}
    limits = {requests.PREFIX + name.upper() for name in requests.Limits.__dataclass_fields__}
    assert (read - inside) | limits <= listed


def test_the_command_writes_and_refuses_other_documents(tmp_path: Path) -> None:
    stale = tmp_path / "stale.md"
    stale.write_text(f"# Mine\n{reference.BEGIN}\nold\n{reference.END}\nbelow\n")
    subprocess.run([sys.executable, "-m", "d2v.modalities.reference", str(stale)], check=True)
    text = stale.read_text()
    assert text.startswith(f"# Mine\n{reference.BEGIN}\n\n## Blocks of all modalities\n")
    assert text.endswith(f"{reference.END}\nbelow\n")
    stale.write_text("# Mine\n")
    with pytest.raises(ConfigError, match="has no place for the tables"):
        reference.write_reference(stale)
