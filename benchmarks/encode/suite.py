"""`python -m benchmarks encode`: folders encoded by this project, by transformers and by another commit, by turns."""

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
) -> list[Pairs]:
    """transformers against this checkout, and another commit against this one.

    Args:
        modalities: names.
        size: of the models.
        dtypes: of the weights and products, such as float32.
        pairs: turns.
        threads: of each process.
        scratch: folder for files, models and results.
        ref: the other commit; None for none.
    """
    before = None if ref is None else checkout(ref, scratch / "before")
    found = []
    for modality in modalities:
        files = write_files(modality, scratch / modality / "files")
        model = write_model(modality, size, scratch / modality / "model", files)
        for dtype in dtypes:

            def way(name: str, at: Path, does: str) -> Way:
                given = (modality, model, files, scratch / f"{modality}.parquet", dtype, threads)  # noqa: B023
                return Way(name, at, ("-m", "benchmarks.encode.ways", does, *map(str, given)))

            now = way("d2v", ROOT, "d2v")
            others = [way("transformers", ROOT, "transformers")]
            others += [] if before is None else [way(f"d2v {ref}", before, "d2v")]
            found += [by_turns(f"{modality} {size} {dtype}", other, now, pairs) for other in others]
    return found
