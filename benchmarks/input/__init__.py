"""How fast files become a store and a store becomes batches, beside what others would use for it."""

from benchmarks.input.cases import CASES
from benchmarks.input.suite import Options, by_case, measure_input
from benchmarks.input.tables import to_markdown

__all__ = ["CASES", "Options", "by_case", "measure_input", "to_markdown"]
