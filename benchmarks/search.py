"""Libraries that hold vectors for search, beside what `d2v index` makes: recall, times, memory and size on disk.

Vectors are those of real items, and where more are wanted than there are items, points between an item and one of its
nearest: clouds as dense as a larger collection has, with no shape but the items' own. Questions are items that are not
among them. Each library builds in one fresh process and is asked in another, which opens what the first one wrote.
faiss and usearch are no dependencies: what is not installed is left out with a line.

Shapes: N vectors, R numbers each, Q questions, k found.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.turns import ROOT, BenchmarkError
from d2v.data.disk import write_json
from d2v.errors import DataError
from d2v.progress import log
from d2v.reporting.tables import Table
from d2v.search import index as product

K, QUESTIONS = 10, 200
ENDS, NEAR = 10_000, 10
"""Items that further vectors lie between, and nearest ones of which one is the other end."""
BLOCK = 2048

Ask = Callable[[np.ndarray], Sequence[int]]


@dataclass(frozen=True)
class Way:
    """One library with its settings.

    Attributes:
        package: that must be installed.
        build: (vectors (N, R), folder) -> writes an index.
        open: (folder, N, R) -> what finds the K nearest rows of a vector.
    """

    package: str
    build: Callable[[np.ndarray, Path], None]
    open: Callable[[Path, int, int], Ask]


# ------------------------------------------------------------------------------------------------ vectors


def vectors_of(model: str, items: Path) -> np.ndarray:
    """(n, R) vectors of length one of the items of a folder or an archive, in an order drawn by lot; in the space to
    search in if the model has one."""
    from d2v.interchange.load import load

    loaded = load(model, device="cpu")
    rows = loaded.encode(items, space="plain" if loaded.search_space is None else "search")
    return unit(rows)[np.random.default_rng(0).permutation(len(rows))]


def clustered(count: int = 20_000, width: int = 128, clusters: int = 500) -> np.ndarray:
    """(count, width) noise around points drawn by lot."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((clusters, width))
    return unit(centres[rng.integers(0, clusters, count)] + 0.7 * rng.standard_normal((count, width)))


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length one, float32."""
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)).astype(np.float32)


def more_of(rows: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """(count, R): the rows themselves, then points between one of the first ENDS of them and one of its NEAR nearest
    among these, of length one."""
    if count <= len(rows):
        return rows[:count]
    ends = rows[:ENDS]
    near = np.concatenate([_nearest(ends[a:b], ends, NEAR + 1)[:, 1:] for a, b in _blocks(len(ends))])
    rng, parts = np.random.default_rng(seed), [rows]
    for start, end in _blocks(count - len(rows)):
        first = rng.integers(0, len(ends), end - start)
        second = near[first, rng.integers(0, NEAR, end - start)]
        share = rng.random((end - start, 1), np.float32)
        parts.append(unit(ends[first] * (1 - share) + ends[second] * share))
    return np.concatenate(parts)


def _blocks(count: int) -> Iterator[tuple[int, int]]:
    return pairwise([*range(0, count, BLOCK), count])


def _nearest(asked: np.ndarray, rows: np.ndarray, k: int) -> np.ndarray:
    """(Q, k) rows of the largest products, the largest first."""
    best_v, best_i = np.zeros((len(asked), 0), np.float32), np.zeros((len(asked), 0), np.int64)
    for start in range(0, len(rows), 16 * BLOCK):
        products = asked @ rows[start : start + 16 * BLOCK].T
        best_v = np.concatenate([best_v, products], axis=1)
        numbers = np.arange(start, start + products.shape[1])
        best_i = np.concatenate([best_i, np.broadcast_to(numbers, products.shape)], axis=1)
        kept = np.argpartition(-best_v, min(k, best_v.shape[1]) - 1, axis=1)[:, :k]
        best_v, best_i = np.take_along_axis(best_v, kept, 1), np.take_along_axis(best_i, kept, 1)
    order = np.argsort(-best_v, axis=1, kind="stable")
    return np.take_along_axis(best_i, order, 1)


# ------------------------------------------------------------------------------------------------ ways


def _d2v_build(rows: np.ndarray, folder: Path) -> None:
    """As `d2v index` writes vectors, without encoding and previews."""
    folder.mkdir(parents=True)
    about = {"format": product.FORMAT, "modality": "vision", "space": "search", "width": rows.shape[1]}
    write_json(folder / product.ABOUT, about | {"fingerprint": "", "model": "", "recall": 1.0})
    index = product.Index(folder, create=True)
    schema = product._schema(rows.shape[1])
    for start in range(0, len(rows), product.WRITTEN_AT_A_TIME):
        some = rows[start : start + product.WRITTEN_AT_A_TIME]
        names = [f"{row:064d}" for row in range(start, start + len(some))]
        columns: dict[str, Any] = {
            "id": names,
            "root": ["/photos"] * len(some),
            "file": [f"/photos/{name}.jpg" for name in names],
        }
        columns |= {"sha256": names, "label": [name[-2:] for name in names], "is_small": [False] * len(some)}
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(some.ravel()), rows.shape[1])
        empty = {one.name: pa.nulls(len(some), one.type) for one in schema if one.name not in columns}
        index._table.add(pa.table(empty | columns | {"vector": vectors}).select(schema.names).cast(schema))
    product._optimize(index)


def _d2v_open(exact: bool = False, where: str | None = None) -> Callable[[Path, int, int], Ask]:
    def opened(folder: Path, count: int, width: int) -> Ask:
        index = product.Index(folder)
        return lambda vector: [int(Path(hit.file).stem) for hit in index.nearest(vector, K, where, exact)]

    return opened


def _faiss_build(kind: str) -> Callable[[np.ndarray, Path], None]:
    def build(rows: np.ndarray, folder: Path) -> None:
        import faiss

        faiss.omp_set_num_threads(os.cpu_count() or 1)
        folder.mkdir(parents=True)
        index = faiss.index_factory(rows.shape[1], kind.format(cells=_cells(len(rows))), faiss.METRIC_INNER_PRODUCT)
        if not index.is_trained:
            index.train(np.ascontiguousarray(rows[:: max(1, len(rows) // 200_000)]))
        for start in range(0, len(rows), 100_000):
            index.add(np.ascontiguousarray(rows[start : start + 100_000]))
        faiss.write_index(index, str(folder / "index"))

    return build


def _faiss_open(folder: Path, count: int, width: int) -> Ask:
    import faiss

    index = faiss.read_index(str(folder / "index"))
    if hasattr(index, "nprobe"):
        index.nprobe = product.PROBED[0]
    return lambda vector: index.search(vector[None], K)[1][0].tolist()


def _usearch_build(dtype: str) -> Callable[[np.ndarray, Path], None]:
    def build(rows: np.ndarray, folder: Path) -> None:
        from usearch.index import Index

        folder.mkdir(parents=True)
        index = Index(ndim=rows.shape[1], metric="cos", dtype=dtype)
        for start in range(0, len(rows), 100_000):
            some = np.ascontiguousarray(rows[start : start + 100_000])
            index.add(np.arange(start, start + len(some)), some)
        index.save(str(folder / "index"))

    return build


def _usearch_open(expansion: int) -> Callable[[Path, int, int], Ask]:
    def opened(folder: Path, count: int, width: int) -> Ask:
        from usearch.index import Index

        index = Index.restore(str(folder / "index"))
        assert index is not None
        index.expansion_search = expansion  # it is not kept in the file
        return lambda vector: index.search(vector, K).keys.tolist()

    return opened


def _cells(count: int) -> int:
    return max(1, min(int(4 * count**0.5), count // 40))


_usearch_f32 = _usearch_build("f32")
WAYS: Mapping[str, Way] = {
    "d2v index": Way("lancedb", _d2v_build, _d2v_open()),
    "d2v index, --exact": Way("lancedb", _d2v_build, _d2v_open(exact=True)),
    "d2v index, --label of 1 in 100": Way("lancedb", _d2v_build, _d2v_open(where="label = '07'")),
    "faiss Flat": Way("faiss", _faiss_build("Flat"), _faiss_open),
    "faiss IVF,Flat": Way("faiss", _faiss_build("IVF{cells},Flat"), _faiss_open),
    "usearch f32, 64": Way("usearch", _usearch_f32, _usearch_open(64)),
    "usearch f32, 256": Way("usearch", _usearch_f32, _usearch_open(256)),
    "usearch bf16, 256": Way("usearch", _usearch_build("bf16"), _usearch_open(256)),
}


# ------------------------------------------------------------------------------------------------ measuring


@contextmanager
def _memory() -> Iterator[dict[str, float]]:
    """The most memory of its own that the process has in here, in MB above what it had before."""
    found, ended = {"mb": 0.0}, threading.Event()
    before = _own_mb()

    def watch() -> None:
        while not ended.wait(0.02):
            found["mb"] = max(found["mb"], _own_mb() - before)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield found
    found["mb"] = max(found["mb"], _own_mb() - before)
    ended.set()
    thread.join()


def _own_mb() -> float:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


def child(way: str, what: str, material: Path, folder: Path) -> dict[str, float]:
    """What one process does: `build`, or `ask`."""
    one, rows = WAYS[way], np.load(material / "vectors.npy", mmap_mode="r")
    if what == "build":
        with _memory() as memory:
            began = time.perf_counter()
            one.build(rows, folder)
            seconds = time.perf_counter() - began
        return {"build_s": seconds, "build_mb": memory["mb"]}
    asked, truth = np.load(material / "questions.npy"), np.load(material / "truth.npy")
    if "label" in way:
        truth = _nearest(asked, rows[7::100], K) * 100 + 7
    right, times = 0, []
    with _memory() as memory:
        ask = one.open(folder, *rows.shape)
        for number, vector in enumerate(asked):
            began = time.perf_counter()
            found = ask(vector)
            times.append(time.perf_counter() - began)
            right += len(set(found) & set(truth[number].tolist()))
    return {"recall": right / truth.size, "query_ms": 1000 * median(times[len(times) // 10 :]), "ask_mb": memory["mb"]}


def measure_search(
    rows: np.ndarray, sizes: Sequence[int], ways: Sequence[str], scratch: Path
) -> dict[tuple[int, str], dict[str, float]]:
    """Figures by number of vectors and way; the last QUESTIONS rows ask and are not among the vectors.

    Raises:
        DataError: too few rows.
        BenchmarkError: a process died.
    """
    if len(rows) < 2 * QUESTIONS + NEAR:
        raise DataError(f"{len(rows)} vectors are too few to measure search: give a folder of {3 * QUESTIONS} items")
    asked, rows = rows[-QUESTIONS:], rows[:-QUESTIONS]
    found: dict[tuple[int, str], dict[str, float]] = {}
    for size in sizes:
        material = scratch / str(size)
        material.mkdir(parents=True, exist_ok=True)
        vectors = more_of(rows, size)
        np.save(material / "vectors.npy", vectors)
        np.save(material / "questions.npy", asked)
        np.save(material / "truth.npy", _nearest(asked, vectors, K))
        del vectors
        built: dict[Callable[..., None], tuple[Path, dict[str, float]]] = {}
        for way in ways:
            if importlib.util.find_spec(WAYS[way].package) is None:
                log(f"search: {WAYS[way].package} is not installed, so {way} is left out")
                continue
            if WAYS[way].build not in built:
                folder = material / f"index-{len(built)}"
                costs = _in_process(way, "build", material, folder)
                built[WAYS[way].build] = folder, costs | {"disk_mb": _disk_mb(folder)}
            folder, costs = built[WAYS[way].build]
            found[size, way] = costs | _in_process(way, "ask", material, folder)
            log(f"search: {size:,} {way}: {found[size, way]}")
        shutil.rmtree(material)
    return found


def _in_process(way: str, what: str, material: Path, folder: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.search", way, what, str(material), str(folder)]
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env=os.environ | {"PYTHONPATH": paths}
    )
    if done.returncode:
        raise BenchmarkError(f"{way} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def _disk_mb(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20


def search_table(found: Mapping[tuple[int, str], Mapping[str, float]]) -> Table:
    """A row a size and way."""
    columns = ("vectors", "way", "recall at 10", "ms a question", "build s", "MB to build", "MB to ask", "MB on disk")
    rows = []
    for (size, way), one in found.items():
        costs = (f"{one[name]:,.0f}" for name in ("build_mb", "ask_mb", "disk_mb"))
        rows.append(
            (f"{size:,}", way, f"{one['recall']:.3f}", f"{one['query_ms']:.2f}", f"{one['build_s']:.1f}", *costs)
        )
    return Table("Vectors for search", columns, tuple(rows), texts=("way",))


if __name__ == "__main__":
    print(json.dumps(child(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))))
