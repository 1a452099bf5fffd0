"""Small files that promise much, each brought through ingest, with what became of it and the memory that it took. Run
as a script in a process of its own, as `test_bounds` does."""

import gzip
import json
import lzma
import re
import resource
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from d2v.data import ingest as ingest_module
from d2v.errors import D2vError
from d2v.modalities import registry
from tests.fuzzing.files import image_file, sound_file

SMALL = {"max_item_bytes": 2**20}


def npy(shape: tuple[int, ...], dtype: str = "|u1", content: bytes = bytes(64), version: int = 1) -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    size = struct.pack("<H", len(header)) if version == 1 else struct.pack("<I", 2**31)
    return b"\x93NUMPY" + bytes([version, 0]) + size + header + content


def npz(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def repeated(path: Path, column: str, value: bytes, rows: int, label: str | None = None) -> Path:
    """A table that holds one value once and promises it in every row."""
    values = {column: value} | ({"label": label} if label else {})
    same = np.zeros(rows, np.int32)
    table = pa.table({name: pa.DictionaryArray.from_arrays(same, [one]) for name, one in values.items()})
    pq.write_table(table, path, compression="zstd", dictionary_pagesize_limit=2**30, store_schema=False)
    return path


IMAGES_NPY = npy((4, 4, 4))
ZEROS = bytes(2**24)
CASES: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "npz by lzma": ("vision", lambda f: npz(f / "a.npz", {"x_train.npy": IMAGES_NPY}, zipfile.ZIP_LZMA)),
    "npz by bzip2": ("vision", lambda f: npz(f / "a.npz", {"x_train.npy": IMAGES_NPY}, zipfile.ZIP_BZIP2)),
    "npz of rows that are not there": ("vision", lambda f: npz(f / "a.npz", {"x.npy": npy((10**12, 4, 4))})),
    "npz of rows without pixels": ("vision", lambda f: npz(f / "a.npz", {"x.npy": npy((10**12, 0, 4))})),
    "npz of labels that are not there": (
        "vision",
        lambda f: npz(f / "a.npz", {"x_train.npy": IMAGES_NPY, "y_train.npy": npy((10**11,), "<i8")}),
    ),
    "npz with a long header": (
        "vision",
        lambda f: npz(f / "a.npz", {"x.npy": npy((4, 4, 4), content=ZEROS, version=2)}),
    ),
    "IDX of rows that are not there": (
        "vision",
        lambda f: written(
            f / "train-images-idx3-ubyte.gz",
            gzip.compress(struct.pack(">HBB3I", 0, 8, 3, 200_000, 4, 4) + bytes(4096) + np.random.bytes(3000)),
        ),
    ),
    "IDX of rows without pixels": (
        "vision",
        lambda f: written(f / "train-images-idx3-ubyte", struct.pack(">HBB3I", 0, 8, 3, 2**31, 0, 4)),
    ),
    "Parquet of one image in all rows": ("vision", lambda f: repeated(f / "a.parquet", "image", bytes(2**24), 128)),
    "Parquet of one text in all rows": ("text", lambda f: repeated(f / "a.parquet", "text", b"x" * 2**24, 128)),
    "Parquet of one label in all rows": (
        "vision",
        lambda f: repeated(f / "a.parquet", "image", image_file("PNG", 1), 1600, "x" * 2**20),
    ),
    "Parquet of a text in many rows": ("text", lambda f: repeated(f / "a.parquet", "text", b"x" * 2**19, 3200)),
    "an image of many pixels": (
        "vision",
        lambda f: written(
            _beside(f, image_file("PNG", 2), "b.png") / "a.png",
            image_file("PNG", 1)[:16] + struct.pack(">II", 2**30, 2**30) + bytes(100),
        ),
    ),
    "a recording of many samples": (
        "speech",
        lambda f: written(
            _beside(f, sound_file("WAV", 2), "b.wav") / "a.wav",
            sound_file("WAV", 1)[:40] + struct.pack("<I", 2**31) + bytes(4000),
        ),
    ),
    "a long line of UTF-16": ("text", lambda f: written(f / "a.txt", ("x" * 2**24 + "\nshort\n").encode("utf-16"))),
    "a long row": ("text", lambda f: written(f / "a.csv", b"text\nfirst\n" + b"x" * 2**24 + b"\nlast\n")),
    "an open quotation mark": ("text", lambda f: written(f / "a.csv", b'text\nfirst\n"' + b"x\n" * 2**22)),
    "JSON in JSON": ("text", lambda f: written(f / "a.jsonl", b"[" * 500_000 + b'\n{"text": "good"}\n')),
    "JSON array in arrays": ("text", lambda f: written(f / "a.json", b"[" * 500_000)),
    "JSON array of small objects": (
        "text",
        lambda f: written(f / "a.json", b'[{"text": "a"}' + b",{}" * 3_000 + b"]"),
    ),
    "a packed text of one letter": ("text", lambda f: written(f / "a.txt.xz", _xz((b"x" * 1023 + b"\n") * 2**12))),
}


def _beside(folder: Path, content: bytes, name: str) -> Path:
    written(folder / name, content)
    return folder


def _xz(content: bytes) -> bytes:
    return lzma.compress(content)


def outcome(modality: str, source: Path, out: Path) -> str:
    one = registry.get(modality)
    config = type_of(one)(source=str(source), **SMALL, **({"document": "line"} if modality == "text" else {}))
    try:
        report = one.ingest(config, out)
    except D2vError as error:
        return f"{type(error).__name__}: {error}"
    lines = (out / ingest_module.QUARANTINE).read_text().count("\n") - 1
    return f"{report.total} = {report.kept} + {report.quarantined} + {report.duplicates}, {lines} lines"


def type_of(modality: Any) -> Any:
    return modality.recipe.model_fields["ingest"].annotation


def peak_mb() -> int:
    """Of this process and of those that it waited for. The system's own count of a process begins with the peak of the
    one that started it, so it is not taken for this one."""
    own = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert own
    return max(int(own[1]), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) // 1024


def main(folder: Path) -> None:
    found = {}
    for number, (name, (modality, make)) in enumerate(CASES.items()):
        own = folder / str(number)
        own.mkdir()
        path = make(own)
        source = own if len(list(own.iterdir())) > 1 else path
        found[name] = (outcome(modality, source, folder / f"corpus {number}"), peak_mb())
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
