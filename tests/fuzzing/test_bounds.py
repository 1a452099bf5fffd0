"""Memory and output have bounds, whatever small files promise."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PEAK_MB = 1500
WORDS = {
    "npz by lzma": "only stored and deflate are read",
    "npz by bzip2": "only stored and deflate are read",
    "npz of rows that are not there": "promises more images than it holds",
    "npz of rows without pixels": "an image has no pixels",
    "npz of labels that are not there": "promises more labels than it holds",
    "npz with a long header": "a header of 2,147,483,648 bytes",
    "IDX of rows that are not there": "65 lines",
    "IDX of rows without pixels": "an image has no pixels",
    "Parquet of one image in all rows": "are more than vision.ingest.max_item_bytes",
    "Parquet of one text in all rows": "are more than text.ingest.max_item_bytes",
    "Parquet of one label in all rows": "which is no name of a class",
    "Parquet of a text in many rows": "3200 = 1 + 0 + 3199, 0 lines",
    "an image of many pixels": "2 = 1 + 1 + 0",
    "a recording of many samples": "2 = 1 + 1 + 0",
    "a long line of UTF-16": "2 = 1 + 1 + 0",
    "a long row": "2 = 1 + 1 + 0",
    "an open quotation mark": "2 = 1 + 1 + 0",
    "JSON in JSON": "2 = 1 + 1 + 0",
    "JSON array in arrays": "nested deeper than Python reads",
    "JSON array of small objects": "3001 = 1 + 3000 + 0",
    "a packed text of one letter": "+ 1 +",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, int]]:
    """What became of each file, and the peak of memory after it, in a process of its own."""
    command = [sys.executable, "-m", "tests.fuzzing.large_promises", str(tmp_path_factory.mktemp("promises"))]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    content: dict[str, tuple[str, int]] = json.loads(ran.stdout)
    return content


@pytest.mark.parametrize("name", WORDS)
def test_what_becomes_of_a_large_promise(found: dict[str, tuple[str, int]], name: str) -> None:
    assert WORDS[name] in found[name][0]


def test_every_promise_is_judged_and_memory_stays_below_its_bound(found: dict[str, tuple[str, int]]) -> None:
    assert found.keys() == WORDS.keys()
    assert max(peak for _, peak in found.values()) < PEAK_MB
