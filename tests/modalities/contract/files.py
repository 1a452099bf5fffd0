"""What people give to a loaded model: one item as a file or a Python object, or several."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from d2v.errors import DataError
from d2v.interchange.encode_files import encode_files
from d2v.interchange.encoder_export import export
from d2v.interchange.load import Model, load
from d2v.modalities.requests import Limits, file_in
from d2v.model_folder import save_encoder
from tests.modalities.contract.subject import Subject


def a_file_becomes_features(subject: Subject) -> None:
    """`d2v.load(...).encode("file")`, `d2v encode` and a request give the same features of the same item."""
    model, file, item = _loaded(subject)
    asked = model.features(model._modality.to_inputs([item], model.about))[0]
    given = item if subject.modality.items_are_lines else str(file)
    assert subject.modality.is_item(given)
    alone, several = model.encode(given), model.encode([given, item])
    assert alone.shape == (model.width,)
    assert several.shape == (2, model.width)
    assert np.isfinite(alone).all()
    for one in (alone, *several):
        np.testing.assert_allclose(one, asked, atol=1e-5)
    assert encode_files(model, [file], subject.folder / "features.parquet").problems == 0
    (row,) = pq.read_table(subject.folder / "features.parquet").to_pylist()
    assert row["file"] == str(file)
    assert ("line" in row) == subject.modality.items_are_lines
    np.testing.assert_allclose(row["embedding"], asked, atol=1e-5)


def a_folder_gives_the_features_of_its_files(subject: Subject) -> None:
    """`d2v encode` finds items in folders as ingest does, and reads the same features there."""
    model, file, item = _loaded(subject)
    asked = model.features(model._modality.to_inputs([item], model.about))[0]
    names = ("one/a", "other/b")
    for name in names:
        (subject.folder / "files" / name).parent.mkdir(parents=True, exist_ok=True)
        (subject.folder / "files" / name).write_bytes(file.read_bytes())
    assert encode_files(model, [subject.folder / "files"], subject.folder / "of_a_folder.parquet").problems == 0
    rows = pq.read_table(subject.folder / "of_a_folder.parquet").to_pylist()
    assert [row["file"] for row in rows] == [str(subject.folder / "files" / name) for name in names]
    for row in rows:
        np.testing.assert_allclose(row["embedding"], asked, atol=1e-5)


def what_cannot_be_read_is_refused_with_a_remedy(subject: Subject) -> None:
    model, file, _ = _loaded(subject)
    with pytest.raises(DataError, match="give"):
        model.encode(3.5)
    with pytest.raises(DataError, match=r"give|send|Leave it out"):
        model.encode([object()])
    if not subject.modality.items_are_lines:
        file.write_bytes(b"\0 this is nothing of the kind")
        with pytest.raises(DataError, match="Leave it out"):
            model.encode(file)
        with pytest.raises(DataError, match="give the path"):
            model.encode(file.with_name("gone"))


def exports_say_what_they_take(subject: Subject) -> None:
    """The encoder takes what `graph_inputs` gives, padded or not; what tells transformers of it is JSON."""
    model, _, _ = _loaded(subject)
    inputs = subject.modality.graph_inputs(model.about)
    assert inputs.about
    assert len(inputs.values) == 2
    tokens = model.encoder(inputs.values, inputs.lengths)
    assert tokens.shape[0] == 2
    assert tokens.shape[2] == model.width
    if inputs.lengths is None:
        assert len(subject.counts()) == 1, "items of different lengths are padded, and a graph needs their lengths"
    else:
        assert inputs.lengths.tolist() != [inputs.values.shape[1]] * 2, "trace with padding"
    told = subject.modality.preprocessing(model.about)
    assert told.files or told.notes
    for text in told.files.values():
        json.loads(text)


def plain_weights_are_exported(subject: Subject) -> None:
    _loaded(subject)
    folder = subject.folder / "exported"
    if not folder.exists():
        export(subject.folder / "loaded", folder, "safetensors")
    assert json.loads((folder / "config.json").read_text())["modality"] == subject.modality.name


def _loaded(subject: Subject) -> tuple[Model, Path, Any]:
    """A model, a file with one item, and the item as a request brings it."""
    folder, modality = subject.folder / "loaded", subject.modality
    if not folder.exists():
        save_encoder(folder, subject.build(), modality.name, subject.recipe, modality.describe(subject.data))
    model = load(folder, device="cpu")
    cells = modality.request.example(model.about)
    cell = cells[modality.request.columns[0]]
    file = subject.folder / "item"
    file.write_bytes(cell.encode() if modality.items_are_lines else file_in(cell))
    return model, file, modality.request.read(cells, Limits())


CHECKS = (
    a_file_becomes_features,
    a_folder_gives_the_features_of_its_files,
    what_cannot_be_read_is_refused_with_a_remedy,
    exports_say_what_they_take,
    plain_weights_are_exported,
)
