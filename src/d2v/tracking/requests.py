"""From the requests to a served model to its inputs, or to a refusal that says what to send instead."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd
from mlflow.exceptions import INVALID_PARAMETER_VALUE, MlflowException

from d2v.data.batch import Inputs
from d2v.errors import ConfigError, DataError
from d2v.modalities import registry
from d2v.modalities.base import Modality
from d2v.modalities.long_items import WAYS, Cuts, Long, TooLong, check_long, inputs_of
from d2v.modalities.requests import Limits, higher
from d2v.progress import log

BATCH_ITEMS = 4
"""Decoded and computed at a time, so that a request of many long recordings takes the memory of these."""
LONG = "D2V_SERVE_LONG"
"""Variable of the server: cut, windows or error."""


class RequestRefused(MlflowException):
    """A request that cannot be answered: HTTP status 400. Its body is the reason alone, where MLflow would put the
    whole request before it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, error_code=INVALID_PARAMETER_VALUE)
        self.reason = reason

    def serialize_as_json(self) -> str:
        """The body of the response."""
        return json.dumps({"error_code": self.error_code, "message": self.reason})


@dataclass(frozen=True)
class Requests:
    """Reads the requests to one model.

    Attributes:
        modality: what its items are.
        config: its config.json.
        limits: of a request.
        long: what is done with items that are longer than the encoder takes.
    """

    modality: Modality
    config: dict[str, Any]
    limits: Limits
    long: Long = "cut"

    @classmethod
    def from_environment(cls, config: dict[str, Any], environment: Mapping[str, str]) -> Requests:
        """Requests to the model of a config.json, as the variables D2V_SERVE_* of the server say. Raises ConfigError
        for wrong values."""
        long = environment.get(LONG, "cut")
        if long not in WAYS:
            raise ConfigError(f"{LONG}={long!r} is no way to treat long items: set it to one of {', '.join(WAYS)}")
        limits = Limits.from_environment(environment)
        return cls(registry.get(config["modality"]), config, limits, check_long(long))

    def batches(self, table: pd.DataFrame) -> Iterator[Inputs]:
        """The table's items in order, a few at a time, as `batches_of_rows` gives them."""
        self._check(len(table), table.columns)
        yield from self.batches_of_rows(table.astype(object).where(table.notna(), None).to_dict("records"))

    def batches_of_rows(
        self, rows: Sequence[Mapping[Any, Any]], numbers: Sequence[int] | None = None
    ) -> Iterator[Inputs]:
        """Items in order, a few at a time. What is cut off is said in the server's log, a line a request.

        Args:
            rows: cells by column, None or left out where one is empty.
            numbers: of the items, for messages; else they count from 0.

        Raises:
            RequestRefused: an item that cannot be used, with its number from 0; too many items, or none.
        """
        self._check(len(rows), {column for row in rows for column in row})
        cuts, numbered = Cuts(), list(zip(numbers or range(len(rows)), rows, strict=True))
        for start in range(0, len(rows), BATCH_ITEMS):
            batch = numbered[start : start + BATCH_ITEMS]
            inputs = self._together({number: self._read(number, row) for number, row in batch})
            cuts.add(inputs)
            yield inputs
        if line := cuts.said(f"{LONG}=windows reads all of them, {LONG}=error refuses them"):
            log(line)

    def _check(self, items: int, columns: Container[str]) -> None:
        first = self.modality.request.columns[0]
        if first not in columns or not items:
            raise RequestRefused(
                f'The request has no items, or no column "{first}": send {{"dataframe_records": [{{"{first}": ...}}]}}'
            )
        if items > self.limits.items:
            raise RequestRefused(
                f"The request has {items:,} items, above max_items {self.limits.items:,}: send it in several "
                f"requests, or {higher('items')}"
            )

    def _read(self, number: int, row: Mapping[Any, Any]) -> Any:
        with _numbered(number):
            cells = {column: row.get(column) for column in self.modality.request.columns}
            return self.modality.request.read(cells, self.limits)

    def _together(self, items: Mapping[int, Any]) -> Inputs:
        try:
            return inputs_of(self.modality, list(items.values()), self.config, self.long)
        except DataError:
            for number, item in items.items():  # which of them is it?
                with _numbered(number):
                    inputs_of(self.modality, [item], self.config, self.long)
            raise


@contextmanager
def _numbered(number: int) -> Iterator[None]:
    try:
        yield
    except TooLong as error:
        raise RequestRefused(
            f"Item {number} (from 0) has {error.cut_off:,} tokens more than the encoder takes: send a shorter one"
        ) from error
    except DataError as reason:
        raise RequestRefused(f"Item {number} (from 0) cannot be used: {reason}") from reason
