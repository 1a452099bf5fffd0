"""How fast files become a store and a store becomes batches, beside what others would use for it."""

from d2v.bench.input.cases import CASES
from d2v.bench.input.suite import Options, by_case, measure_input
from d2v.bench.input.tables import to_markdown

__all__ = ["CASES", "Options", "by_case", "measure_input", "to_markdown"]
