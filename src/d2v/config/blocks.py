"""What all blocks of a recipe are made of."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from d2v.config.renaming import check_one_name, rename_keys

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Positive = Annotated[float, Field(gt=0.0)]
PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]


class Block(BaseModel):
    """One block of a recipe: frozen, no unknown keys, defaults checked too. The text below a field says what it means;
    `docs/config.md` is made of these texts."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    renamed: ClassVar[Mapping[str, str]] = {}
    """Old name -> new name of keys, see `d2v.config.renaming`."""

    @model_validator(mode="before")
    @classmethod
    def _values_are_as_written(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        check_one_name(cls, values)
        values = rename_keys(cls, values)
        for name, field in cls.model_fields.items():
            if _has_bool(values.get(name)) and not {bool, Any} & _types(field.annotation):  # pydantic takes true for 1
                raise ValueError(
                    f"{name} is {values[name]}: give a number, or put a text into quotes (yes, no, on and off are true "
                    "and false in YAML)"
                )
        return values


def _has_bool(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, list | tuple) and any(map(_has_bool, value)))


def _types(annotation: Any) -> set[Any]:
    """All types that an annotation is made of."""
    return {annotation}.union(*map(_types, typing.get_args(annotation)))
