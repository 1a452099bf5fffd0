"""Features of many files as one Parquet file, a batch at a time: it takes the memory of one batch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from d2v.data.disk import full_disk_named, sync
from d2v.errors import ConfigError, DataError
from d2v.interchange.load import Model, Pool
from d2v.modalities import registry
from d2v.progress import Progress


@dataclass(frozen=True)
class Written:
    """The result of `encode_files`.

    Attributes:
        rows: items, those with a problem too.
        problems: items that could not be read.
        first: the first of these, with the reason.
    """

    rows: int
    problems: int
    first: str = ""


def encode_files(
    model: Model,
    files: Iterable[Path],
    out: Path,
    layers: Sequence[int] | None = None,
    pool: Pool = "mean",
    predict: bool = False,
) -> Written:
    """Write the features of files.

    Columns: `file`; `line`, from 1, where a file holds an item a line; `embedding` (D float32 numbers), or `layer_<i>`
    for each of `layers`; `prediction` if it is asked for, as text; `problem`, why an item has no features, else null.

    Args:
        model: whose features; `model.batch_size` items at a time.
        files: of the modality, with one item each or an item a line; of folders all files, in the order of their names.
        out: written at the end in one step, so that it is whole or not there.
        layers: blocks, see `Model.encode`.
        pool: `mean` or `first`.
        predict: also what a fine-tuned model says.

    Raises:
        DataError: no files, or a file that is not there.
        ConfigError: predictions of a model without a head.
    """
    if predict and model.task is None:
        raise ConfigError("the model is an encoder without a head: leave --predict out, or give a fine-tuned model")
    found = list(_all_files(files))
    schema = _schema(model, layers, pool, predict)
    temporary = out.with_name(f".{out.name}.tmp")
    out.parent.mkdir(parents=True, exist_ok=True)
    rows, problems, first = 0, 0, ""
    try:
        with full_disk_named(out.parent, DataError, "Nothing was written."):
            with pq.ParquetWriter(temporary, schema) as writer, Progress("encode", len(found)) as progress:
                for batch in _batches(_items(model, found, progress), model.batch_size):
                    table = _table(model, batch, schema, layers, pool, predict)
                    writer.write_table(table)
                    rows += len(table)
                    bad = [row for row in table.select(["file", "problem"]).to_pylist() if row["problem"]]
                    problems += len(bad)
                    first = first or "".join(f"{row['file']}: {row['problem']}" for row in bad[:1])
            sync(temporary)
            temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
    return Written(rows, problems, first)


def check_pool(pool: str) -> Pool:
    """A pooling that gives one vector an item. Raises ConfigError for others."""
    if pool not in ("mean", "first"):
        raise ConfigError(f"a row holds one vector, which --pool {pool} does not give: take mean or first")
    return cast(Pool, pool)


_Item = tuple[str, int | None, Any]
"""(file, its line if it holds an item a line, item)."""


def _all_files(given: Iterable[Path]) -> Iterator[Path]:
    before = 0
    for path in given:
        before += 1
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
        elif path.is_file():
            yield path
        else:
            raise DataError(f"{path} is not there: give files, or folders of them")
    if not before:
        raise DataError("There are no files to encode: give some, or a folder of them")


def _items(model: Model, files: Sequence[Path], progress: Progress) -> Iterator[_Item]:
    for file in files:
        if registry.get(model.modality).items_are_lines:
            with file.open(encoding="utf-8", errors="replace") as lines:
                for number, line in enumerate(lines, start=1):
                    if line.strip():
                        yield str(file), number, line.rstrip("\r\n")
        else:
            yield str(file), None, file
        progress.advance()


def _batches(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


def _schema(model: Model, layers: Sequence[int] | None, pool: Pool, predict: bool) -> pa.Schema:
    vector = pa.list_(pa.float32())  # lists of a fixed size cannot be read again where one is null
    fields = [pa.field("file", pa.string())]
    fields += [pa.field("line", pa.int64())] if registry.get(model.modality).items_are_lines else []
    fields += [pa.field(name, vector) for name in _columns(layers)]
    fields += [pa.field("prediction", pa.string())] if predict else []
    fields.append(pa.field("problem", pa.string()))
    about = {"modality": model.modality, "width": model.width, "pool": pool, "source": model.about.get("source")}
    return pa.schema(fields, metadata={"d2v": json.dumps(about)})


def _columns(layers: Sequence[int] | None) -> list[str]:
    return ["embedding"] if layers is None else [f"layer_{layer}" for layer in layers]


def _table(
    model: Model,
    items: Sequence[_Item],
    schema: pa.Schema,
    layers: Sequence[int] | None,
    pool: Pool,
    predict: bool,
) -> pa.Table:
    """A batch; if an item cannot be read, each of them on its own."""
    raw = [item for _, _, item in items]
    try:
        rows = _rows(model, raw, layers, pool, predict)
    except DataError as error:
        if len(items) > 1:
            parts = [_table(model, [item], schema, layers, pool, predict) for item in items]
            return pa.concat_tables(parts).combine_chunks()
        rows = [{"problem": str(error)}]
    for row, (file, line, _) in zip(rows, items, strict=True):
        row |= {"file": file, "line": line}
    return pa.Table.from_pylist(rows, schema=schema)


def _rows(
    model: Model, raw: list[Any], layers: Sequence[int] | None, pool: Pool, predict: bool
) -> list[dict[str, Any]]:
    inputs, columns = model.to_inputs(raw), _columns(layers)
    found = [one[None] if layers is None else one for one in model.features(inputs, layers, pool)]
    rows: list[dict[str, Any]] = [dict(zip(columns, one, strict=True)) for one in found]
    if predict:
        for row, said in zip(rows, model.predictions(inputs), strict=True):
            row["prediction"] = said if isinstance(said, str) else json.dumps(_rounded(said))
    return rows


def _rounded(said: Any) -> Any:
    """Numbers with as many digits as float32 has."""
    if isinstance(said, dict):
        return {name: _rounded(value) for name, value in said.items()}
    return float(np.format_float_positional(np.float32(said)))
