"""The speed of the input path, from files to a store and from a store to batches, beside common libraries."""

from benchmarks.input.cases import CASES
from benchmarks.input.suite import Options, by_case, measure_input
from benchmarks.input.tables import to_markdown

__all__ = ["CASES", "Options", "by_case", "measure_input", "to_markdown"]
