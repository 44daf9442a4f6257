"""Section of a study file about a front: the best designs for two objectives, from one end to the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from shapewright.studies.schema.base import Positive, Section, fault


class Front(Section):
    """The designs of which none is better in both objectives."""

    points: Annotated[int, Field(ge=2)] = 20
    """Designs on the front, the optimum of each objective alone included."""
    tolerance: Positive = 1e-3
    """Relative violation that counts as satisfied of the limit on one objective under which the other is optimized.

    The limit is checked on fresh meshes of the exported CAD: let this be no less than the error of geometry.mesh_size.
    """
    certificates: Literal["all", "ends"] = "all"
    """Designs with a whole certificate: all; or the two ends. The other
    designs then have CAD and the KKT residual by finite elements, and no errors of the mesh."""
    share: bool = True
    """Whether a search knows the finite-element solutions of the designs before it. It needs the trust region."""


def of_front(data: dict[str, Any], objective: type[Section]) -> dict[str, Any]:
    """Data of a study with what its `objectives` imply, if it has any: `objective` is the first of them.

    The search is by the trust region on finite elements, where solutions of one design serve the next, unless the
    study says otherwise.

    Raises:
        PydanticCustomError: both are given, or a front without objectives.
    """
    objectives = data.get("objectives")
    if objectives is None:
        if data.get("front") is not None:
            raise fault("front", "found it without objectives; expected objectives: [{...}, {...}] beside it")
        return data
    if data.get("objective") is not None:
        raise fault("objectives", "found it beside objective; expected one of them")
    first = objectives[0] if isinstance(objectives, list | tuple) and objectives else None
    data = data | {"objective": first if _valid(first, objective) else {"minimize": "none"}}
    if data.get("front") is None:
        data["front"] = {}
    optimizer = data.get("optimizer", {})
    if isinstance(optimizer, Mapping):
        by_itself = {"method": "trust_region"} if data.get("model") in (None, "fem") else {}
        data["optimizer"] = {"starts": 1, **({} if {"on", "method"} & optimizer.keys() else by_itself), **optimizer}
    if data.get("model") is None and not {"on", "method"} & optimizer.keys():
        data["model"] = "fem"
    return data


def _valid(value: Any, model: type[Section]) -> bool:
    """Whether an objective is right by itself; what is wrong with it is told once, where it stands."""
    try:
        model.model_validate(value)
    except ValidationError:
        return False
    return True


def without_first_objective(data: dict[str, Any]) -> dict[str, Any]:
    """Data of a study as a file has them: `objectives` and `front` where there are any, else `objective`."""
    unused = ("objective",) if data.get("objectives") is not None else ("objectives", "front")
    return {k: v for k, v in data.items() if k not in unused and (k != "scatter" or v is not None)}
