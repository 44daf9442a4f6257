"""The geometry family of a study, with the study's bounds, start and fixed parameters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from shapewright.geometries.family.catalogue import load_family
from shapewright.geometries.family.effort import forcing
from shapewright.geometries.family.family import Family
from shapewright.geometries.family.fixed import fix_parameters
from shapewright.geometries.family.parts import FamilyError, Parameter
from shapewright.studies.problem.own_files import family_file, text_key
from shapewright.studies.schema.loader import PlanarStudy, StudyError


def families(study: PlanarStudy) -> tuple[Family, Family]:
    """The family with its own bounds and all its parameters; and with those that the study leaves free, and its bounds.

    Raises:
        StudyError: names file, line and key.
    """
    with forcing(study.force):
        return _families(study)


def _families(study: PlanarStudy) -> tuple[Family, Family]:
    geometry = study.model.geometry
    try:
        family = geometry.family
        if isinstance(family, str):
            family = load_family(family, geometry.options, study.folder)
        elif geometry.options:
            raise FamilyError(f"family '{family.name}' takes no option, found {sorted(geometry.options)}")
    except FamilyError as error:
        about_options = "option" in str(error) or str(error).startswith(f"{geometry.family}:")
        key = "geometry.options" if about_options else "geometry.family"
        raise StudyError(f"{study.location(key)}: {key}: {error}") from error
    names = [parameter.name for parameter in family.parameters]
    for section in ("bounds", "initial", "fixed"):
        for name in getattr(geometry, section):
            if name not in names:
                raise study.error(
                    f"geometry.{section}.{name}", f"'{name}'", f"a parameter: {', '.join(names)}"
                )
    changed = []
    for parameter in family.parameters:
        lower, upper = geometry.bounds.get(parameter.name, (parameter.lower, parameter.upper))
        value = geometry.initial.get(parameter.name, min(max(parameter.default, lower), upper))
        try:
            changed.append(
                replace(parameter, lower=lower, upper=upper, default=value, unit=_unit(parameter, study))
            )
        except FamilyError as error:
            is_start = parameter.name in geometry.initial
            key, found = ("initial", str(value)) if is_start else ("bounds", str([lower, upper]))
            raise study.error(f"geometry.{key}.{parameter.name}", found, str(error)) from error
    key = "geometry.fixed" if geometry.fixed else "geometry.bounds"
    try:
        return family, fix_parameters(replace(family, parameters=tuple(changed)), geometry.fixed)
    except FamilyError as error:
        raise StudyError(f"{study.location(key)}: {key}: {error}") from error


def _unit(parameter: Parameter, study: PlanarStudy) -> str:
    return study.model.geometry.length_unit if parameter.unit == "length" else parameter.unit


def geometry_key(study: PlanarStudy) -> dict[str, Any]:
    """What the reference mesh depends on, as plain data."""
    included = {"family", "options", "length_unit", "mesh_size"}
    geometry = study.model.geometry.model_dump(mode="json", include=included)
    options = dict(geometry["options"])
    if geometry["family"] == "closed_bar":
        options.pop("start", None)  # where a search begins changes nothing that is learnt
    key = geometry | {"options": options}
    file = family_file(study)
    if file is not None:  # a family of one's own: its text is what it is
        key["family_text"] = text_key(file)
    return key


def fixed_key(study: PlanarStudy) -> dict[str, Any]:
    """The parameters held fixed, where there are any, as plain data: what is learnt holds for their values alone."""
    fixed = study.model.geometry.fixed
    return {"fixed": dict(sorted(fixed.items()))} if fixed else {}
