"""What every modality promises, for every objective that it has a recipe for.

A modality brings one file, `tests/modalities/<name>/contract_case.py`, with a `CASE`. `test_contract.py` walks the
registry and holds each modality to all `CHECKS`, one file of them for each idea; none of them knows what the data is.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.modalities.contract import data, files, masks, padding, recipes, serving, shapes, teacher, training
from tests.modalities.contract.case import Case, Prepared, find_case, make_prepared
from tests.modalities.contract.subject import Subject

__all__ = ["CHECKS", "Case", "Prepared", "Subject", "find_case", "make_prepared"]

CHECKS: tuple[Callable[[Subject], None], ...] = (
    *recipes.CHECKS,
    *data.CHECKS,
    *shapes.CHECKS,
    *masks.CHECKS,
    *padding.CHECKS,
    *teacher.CHECKS,
    *training.CHECKS,
    *serving.CHECKS,
    *files.CHECKS,
)
