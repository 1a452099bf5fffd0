"""Lengths of a run's phases: a number of updates, or a share of the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True)
class Length:
    """Checks what a recipe wrote: an integer counts updates, a float above 0 and at most 1 is a share of the run.

    Attributes:
        least: fewest updates.
    """

    least: int

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def check(self, value: Any) -> int | float:
        """The length; whole numbers become integers.

        Raises:
            ValueError: it is neither.
        """
        try:
            number = float(value)
            if isinstance(value, float) and 0.0 < number <= 1.0:
                return number
            if number == int(number) and number >= self.least:
                return int(number)
        except (TypeError, ValueError, OverflowError):
            pass
        raise ValueError(
            f"give a number of updates from {self.least} on, such as 500, or a share of the run, such as 0.1 "
            "(1.0: all of it)"
        )


Updates = Annotated[int | float, Length(0)]
"""Updates from 0 on, or a share of the run."""
PositiveUpdates = Annotated[int | float, Length(1)]
"""Updates from 1 on, or a share of the run."""


def updates_of(length: int | float, max_updates: int) -> int:
    """The updates that a length stands for.

    Args:
        length: a number of updates, or a share of the run as a float of at most 1.
        max_updates: of the run.

    Example:
        >>> updates_of(0.05, 4000), updates_of(200, 4000)
        (200, 200)
    """
    return max(1, round(length * max_updates)) if isinstance(length, float) else length
