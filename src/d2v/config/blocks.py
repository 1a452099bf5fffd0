"""What all blocks of a recipe are made of."""

from __future__ import annotations

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

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True)

    renamed: ClassVar[Mapping[str, str]] = {}
    """Old name -> new name of keys, see `d2v.config.renaming`."""

    @model_validator(mode="before")
    @classmethod
    def _old_names_are_known(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        check_one_name(cls, values)
        return rename_keys(cls, values)
