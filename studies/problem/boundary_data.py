"""Sources and boundary conditions of a study, as functions by component."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from shapewright.geometries.fields.problem import Function
from shapewright.studies.schema.loader import BoundaryValueStudy
from shapewright.studies.schema.named import Tagged, formula, known_component, known_tag
from shapewright.studies.schema.physics import BoundaryCondition

Given = float | str | Callable[..., Any]
"""A number, a formula or a Python function."""


def sources_of(
    study: BoundaryValueStudy,
    key: str,
    source: Given | Mapping[str, Given],
    components: tuple[str, ...],
    names: Iterable[str],
) -> dict[str, Function]:
    """Component -> source given under ``key``; a bare value is that of the only component.

    Raises:
        StudyError: names file, line and key.
    """
    if not isinstance(source, Mapping):
        if len(components) > 1:
            raise study.error(key, f"'{source}'", f"one entry per component: {', '.join(components)}")
        source = {components[0]: source}
    for name in source:
        known_component(study, f"{key}.{name}", name, components)
    return {name: formula(study, f"{key}.{name}", value, names) for name, value in source.items()}


def boundary_conditions_of(
    study: BoundaryValueStudy,
    family: Tagged,
    section: str,
    entries: Iterable[BoundaryCondition],
    components: tuple[str, ...],
    names: Iterable[str],
) -> list[tuple[str, str, Function]]:
    """(component, region, value) of all entries under the key ``section``, in their order.

    Raises:
        StudyError: names file, line and key.
    """
    conditions: list[tuple[str, str, Function]] = []
    for index, entry in enumerate(entries):
        key = f"{section}.{index}"
        for tag in entry.tags:
            known_tag(study, f"{key}.on", tag, family.tags)
            for component, value in entry.values.items():
                known_component(study, f"{key}.{component}", component, components)
                conditions.append((component, tag, formula(study, f"{key}.{component}", value, names)))
    return conditions
