"""What all models of study files share: types of values, errors of cross-checks, and the base of sections."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, InstanceOf, PlainSerializer, Strict
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError, PydanticSerializationUnexpectedValue

from shapewright.geometries.family.family import Family
from shapewright.geometries.fields.problem import Functional, Physics
from shapewright.studies.schema.fingerprint import object_text


def _as_text(value: Any) -> str:
    if isinstance(value, float | int | str | list | tuple | dict | BaseModel):  # what another part of a union writes
        raise PydanticSerializationUnexpectedValue(f"{type(value).__name__}: plain data, no object")
    return object_text(value)


AsText = PlainSerializer(_as_text, return_type=str)
"""What stands for a Python object in keys of stages and in digests: its name and a hash of all that it does."""
FunctionObject = Annotated[SkipJsonSchema[Callable[..., Any]], AsText]
FamilyObject = Annotated[SkipJsonSchema[InstanceOf[Family]], AsText]
PhysicsObject = Annotated[SkipJsonSchema[InstanceOf[Physics]], AsText]
FunctionalObject = Annotated[SkipJsonSchema[InstanceOf[Functional]], AsText]
"""Objects that a study made in Python may hold where a file has a name or a formula."""

Formula = float | Annotated[str, Field(min_length=1, json_schema_extra={"format": "formula"})] | FunctionObject
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


def schema_text(model: type[BaseModel], description: str = "") -> str:
    """What a file with the JSON Schema of a model holds; ``description`` is added to the model's own."""
    schema = model.model_json_schema()
    if description:
        schema["description"] = f"{schema['description']} {description}"
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps(head | schema, indent=2, ensure_ascii=False) + "\n"


class Section(BaseModel):
    """Base of all sections of a study file."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
