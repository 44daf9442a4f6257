"""What all models of study files share: types of values, errors of cross-checks, and the base of sections."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, Strict
from pydantic_core import PydanticCustomError

Formula = float | Annotated[str, Field(min_length=1, json_schema_extra={"format": "formula"})]
Name = Annotated[str, Field(min_length=1)]
Names = Annotated[tuple[Name, ...], Strict(False), Field(min_length=1)]
Interval = Annotated[tuple[float, float], Strict(False)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
GridSize = Annotated[int, Field(ge=8)]


def fault(key: str, message: str) -> PydanticCustomError:
    """Error of a cross-check that belongs to the entry ``key`` below the model that found it."""
    return PydanticCustomError("study", "{message}", {"message": message, "key": key})


def plain(value: Any, key: str = "") -> Any:
    """Pass data of finite numbers, texts, true/false, lists and mappings; refuse the rest by its key."""
    if isinstance(value, dict | list):
        for entry, item in value.items() if isinstance(value, dict) else enumerate(value):
            plain(item, f"{key}.{entry}".lstrip("."))
    elif not isinstance(value, str | int) and not (isinstance(value, float) and math.isfinite(value)):
        raise fault(key, f"found {value}; expected a finite number, text, true or false, or a list of these")
    return value


class Section(BaseModel):
    """Base of all sections of a study file."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
