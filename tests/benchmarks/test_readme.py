"""What `make readme-figures` writes: figures of these runs and no others, between the marks alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.readme import BEGIN, END, Run, figures, renew_readme
from d2v.errors import DataError

ROOT = Path(__file__).resolve().parents[2]


def run_of(folder: Path, seed: int, linear: float, modality: str = "vision", **further: float) -> Run:
    metrics = {}
    for suffix, value in (("", linear), ("_random", 0.05), ("_baseline", 0.3)):
        for probe in ("linear", "knn"):
            name = f"probe/{probe}{suffix}"
            metrics |= {name: value, f"{name}_low": value - 0.01, f"{name}_high": value + 0.02}
    for name, value in further.items():
        metrics |= {f"probe/{name}": value, f"probe/{name}_low": value - 0.03, f"probe/{name}_high": value + 0.01}
    result = {"samples": 57_600, "seconds": 234.0, "device": "A CPU, 2 thread(s)", "precision": "bf16", "torch": "9.9"}
    pictures = folder / f"{modality}-{seed}"
    pictures.mkdir()
    for name in ("masks", "pca", "curves", "neighbours"):
        (pictures / f"{name}.png").write_bytes(f"{name} {seed}".encode())
    return Run(modality, "glyphs", seed, metrics, result, "abc1234", pictures)


def test_figures_and_pictures_of_the_first_seed_go_between_the_marks(tmp_path: Path) -> None:
    readme, pictures = tmp_path / "README.md", tmp_path / "pictures"
    pictures.mkdir()
    readme.write_text(f"before\n\n{BEGIN}\nold 99.9\n{END}\n\nafter\n")
    renew_readme(readme, pictures, [run_of(tmp_path, 1, 0.72), run_of(tmp_path, 0, 0.744)])
    text = readme.read_text()
    assert text.startswith(f"before\n\n{BEGIN}\n")
    assert text.endswith(f"{END}\n\nafter\n")
    assert "99.9" not in text
    assert "| `glyphs` | **pretrained** | **74.4** (73.4 to 76.4) |" in " ".join(text.split())
    assert "57,600 samples, 3.9 minutes" in text
    assert "`glyphs` 74.4, 72.0 (2.4 points apart, mean 73.2)" in text
    assert "A CPU, 2 thread(s), bf16, torch 9.9" in text
    assert (pictures / "masks.png").read_bytes() == b"masks 0"
    renew_readme(readme, pictures, [run_of(pictures, 0, 0.5)])
    assert "74.4" not in readme.read_text()
    assert readme.read_text().count(BEGIN) == 1


def test_forced_choice_has_a_row_for_every_seed(tmp_path: Path) -> None:
    rates = {"forced_choice": 0.955, "forced_choice_random": 0.509, "forced_choice_baseline": 0.971}
    runs = [run_of(tmp_path, seed, 0.5, "text", **rates) for seed in (1, 0)]
    rows = [line for line in figures(runs).splitlines() if ", seed " in line]
    assert [row.split("seed ")[1][0] for row in rows] == ["0", "1"]
    assert all("95.5 (92.5 to 96.5)" in row and "97.1" in row and "50.9" in row for row in rows)


def test_a_readme_without_marks_is_left_as_it_is(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"{END} {BEGIN}")
    with pytest.raises(DataError, match="around its figures"):
        renew_readme(readme, tmp_path, [])
    assert readme.read_text() == f"{END} {BEGIN}"


def test_this_readme_has_the_marks() -> None:
    text = (ROOT / "README.md").read_text()
    assert text.count(BEGIN) == text.count(END) == 1
