"""A study whose lengths are all multiplied by one factor, its data such that the problem without units is the same."""

import re
from pathlib import Path

import yaml

from shapewright.geometries.design.measures import QUANTITIES
from shapewright.studies.schema.loader import load_study

LENGTH_OPTIONS = ("radius", "length", "height", "width", "center")
"""Options of the shipped families that are lengths."""
UNITLESS_PARAMETERS = r"aspect|d\d+"
DISPLACEMENTS = ("plane_stress", "plane_strain")
"""Physics whose fields are lengths at equal strains."""
POWERS = {"torsion": 4, "stokes_body": 0, "stokes_square": 0, "plate_hole": 0, "ns_body": 1}
"""Power of the length that each shipped objective goes with."""


def write_scaled(source: Path, factor: float, folder: Path, *overrides: str) -> Path:
    """The study of ``source`` with overrides, scaled by ``factor``, as a file in ``folder``; no weights."""
    data = load_study(source, overrides).model.model_dump(mode="json", by_alias=True)
    geometry, physics = data["geometry"], data["physics"]
    geometry["options"] = {k: scaled(v, factor) if k in LENGTH_OPTIONS else v for k, v in geometry["options"].items()}
    for section in ("bounds", "initial"):
        lengths = {name for name in geometry[section] if not re.fullmatch(UNITLESS_PARAMETERS, name)}
        geometry[section] = {k: scaled(v, factor) if k in lengths else v for k, v in geometry[section].items()}
    geometry["mesh_size"] *= factor
    geometry["thickness"] = scaled(geometry["thickness"], factor)
    data["validation"]["mesh_size"] = scaled(data["validation"]["mesh_size"], factor)
    if physics["name"] == "navier_stokes":
        physics["coefficients"]["viscosity"] *= factor  # the same Reynolds number at the same velocity
    names = "xyuv" if physics["name"] in DISPLACEMENTS else "xy"
    for condition in [*physics["dirichlet"], *physics["natural"]]:
        for component in set(condition) - {"on"}:
            condition[component] = in_units(condition[component], names, factor)
    for constraint in data["constraints"]:
        known = QUANTITIES.get(constraint["quantity"])
        power = {"1": 0, "length": 1, "length^2": 2}[known.unit] if known else 0
        for kind in ("equals", "at_least", "at_most"):
            if isinstance(constraint[kind], float):
                constraint[kind] *= factor**power
    data["surrogate"] = {}
    path = folder / f"{data['name']}.yaml"
    path.write_text(yaml.safe_dump(without_nothing(data)))
    return path


def scaled(value, factor):
    """A number, or a list of numbers, times the factor; None stays."""
    if isinstance(value, list):
        return [scaled(entry, factor) for entry in value]
    return None if value is None else value * factor


def in_units(formula, names, factor):
    """A formula of lengths ``names`` with each divided by the factor."""
    if not isinstance(formula, str):
        return formula
    return re.sub(rf"\b([{names}])\b", lambda found: f"({found[1]}/{factor!r})", formula)


def without_nothing(data):
    """Plain data without the keys that are None."""
    if isinstance(data, dict):
        return {k: without_nothing(v) for k, v in data.items() if v is not None}
    return [without_nothing(entry) for entry in data] if isinstance(data, list) else data
