"""Small sources as people have them, written once a session: class folders, a table with folds, a CSV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

CLASSES = {"cat": 90, "dog": 30}


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 images of noise whose mean tells the class, three of four of one class."""
    folder, draw = tmp_path_factory.mktemp("sources") / "Holiday photos", np.random.default_rng(0)
    for number, (name, count) in enumerate(CLASSES.items()):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = draw.integers(0, 120, (40, 36, 3), np.uint8) + np.uint8(100 * number)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture(scope="session")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 tones of half a second to one, with a table that tells pitch and fold."""
    folder, draw = tmp_path_factory.mktemp("sources") / "sounds", np.random.default_rng(0)
    (folder / "audio").mkdir(parents=True)
    rows = ["filename,fold,category"]
    for index in range(120):
        name, hertz = ("low", 200) if index % 3 else ("high", 900)
        time_s = np.arange(int(8000 * draw.uniform(0.5, 1.0))) / 8000
        wave = 0.4 * np.sin(2 * np.pi * hertz * time_s) + 0.05 * draw.standard_normal(len(time_s))
        soundfile.write(folder / "audio" / f"{index}.wav", wave, 8000)
        rows.append(f"{index}.wav,{index % 4 + 1},{name}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of 600 labelled sentences."""
    folder, draw = tmp_path_factory.mktemp("sources"), np.random.default_rng(0)
    words = {"good": "fine bright warm clever lovely".split(), "bad": "dull slow cold empty poor".split()}  # noqa: SIM905
    rest = "film story end actor scene music light city night plot the a of and with".split()  # noqa: SIM905
    rows = ["text,sentiment"]
    for index in range(600):
        label = "good" if index % 2 else "bad"
        rows.append(f"{' '.join([*draw.choice(rest, 9), *draw.choice(words[label], 4), str(index)])},{label}")
    (folder / "reviews.csv").write_text("\n".join(rows) + "\n")
    return folder / "reviews.csv"
