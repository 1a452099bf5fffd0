"""`python -m benchmarks encode`: folders by this project, transformers, another commit and onnxruntime, by turns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.encode.material import write_files, write_model
from benchmarks.turns import ROOT, Pairs, Way, by_turns, checkout


def measure_encode(
    modalities: Sequence[str],
    size: str,
    dtypes: Sequence[str],
    pairs: int,
    threads: int,
    scratch: Path,
    ref: str | None = None,
    onnxruntime: Sequence[str] = (),
) -> list[Pairs]:
    """transformers against this checkout, another commit against this one, and torch against onnxruntime.

    Args:
        modalities: names.
        size: of the models.
        dtypes: of the weights and products, such as float32.
        pairs: turns.
        threads: of each process.
        scratch: folder for files, models and results.
        ref: the other commit; None for none.
        onnxruntime: dtypes that onnxruntime computes in, beside torch in float32.
    """
    before = None if ref is None else checkout(ref, scratch / "before")
    found = []
    for modality in modalities:
        files = write_files(modality, scratch / modality / "files")
        model = write_model(modality, size, scratch / modality / "model", files)

        def way(name: str, at: Path, does: str, dtype: str) -> Way:
            given = (modality, model, files, scratch / f"{modality}.parquet", dtype, threads)  # noqa: B023
            return Way(name, at, ("-m", "benchmarks.encode.ways", does, *map(str, given)))

        for dtype in onnxruntime:
            torch, other = (
                way(name, ROOT, name, kind) for name, kind in (("d2v", "float32"), ("d2v-onnxruntime", dtype))
            )
            found.append(by_turns(f"{modality} {size} onnxruntime {dtype}", torch, other, pairs))
        for dtype in dtypes:
            now = way("d2v", ROOT, "d2v", dtype)
            others = [way("transformers", ROOT, "transformers", dtype)]
            others += [] if before is None else [way(f"d2v {ref}", before, "d2v", dtype)]
            found += [by_turns(f"{modality} {size} {dtype}", other, now, pairs) for other in others]
    return found
