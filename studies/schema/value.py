"""A checked study: what every stage and the Python interface work with, read from a file or made in Python."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from shapewright.studies.schema.base import Section
from shapewright.studies.schema.describe import Key, clipped, found, shown
from shapewright.studies.schema.describe import kind as kind_of
from shapewright.studies.schema.fingerprint import object_keys
from shapewright.studies.schema.messages import Located, key_of, report
from shapewright.studies.schema.python import Arguments, Design, Problem, Quantity
from shapewright.studies.schema.study import StudyModel
from shapewright.studies.schema.yaml_source import StudyError
from shapewright.studies.schema.yaml_text import yaml_of


@dataclass(frozen=True, init=False)
class Study[M: Section]:
    """A checked study whose content is an ``M``: of a design, or of an operator (:mod:`schema.operator_study`).

    Attributes:
        model: its content with all defaults, as pydantic models.
        path: the file it is from; relative paths in it are relative to its folder.
        source: where each key comes from; no part of what makes two studies equal.
        force: whether it may take more than :mod:`family.effort` allows; no part of it either.
    """

    model: M
    path: Path
    source: Located = field(compare=False, repr=False)
    force: bool = field(default=False, compare=False, repr=False)

    def __init__(
        self: Study[StudyModel],
        design: Design,
        problem: Problem,
        *,
        maximize: Quantity | None = None,
        minimize: Quantity | None = None,
        constraints: Mapping[str, Any] | Iterable[Mapping[str, Any]] = (),
        **sections: Any,
    ) -> None:
        """A design study.

        Args:
            design: the parametric shape.
            problem: the boundary-value problem.
            maximize, minimize: the objective under one of them: a functional of the physics by its name, an integral of
                one's own, ``{"name": ..., "integrand": ...}``, or a :class:`Functional`. A front has ``objectives``
                in its place: two of ``{"maximize": ...}`` and ``{"minimize": ...}``.
            constraints: made by :func:`equals`, :func:`at_least` and :func:`at_most`; one, or several in a list.
            sections: further sections of a study file by name, such as ``name="bar"``, ``validation={...}``.

        Raises:
            StudyError: all that is wrong, one line each, with the argument that it stands in.
        """
        for name, value, kind in (("design", design, Design), ("problem", problem, Problem)):
            if not isinstance(value, kind):
                expected = f"a {kind.__name__}(...); shapewright.load(...) reads a file"
                raise StudyError(f"Study({name}): found {kind_of(value)}; expected {expected}")
        path = Path.cwd() / "study.py"
        goals = {"maximize": maximize, "minimize": minimize}
        data = {
            "name": "study",
            "geometry": design.section(),
            "physics": problem.section(path.parent),
            **_goal(goals, "objectives" in sections),
            "constraints": _listed(constraints),
            **sections,
        }
        try:
            model = StudyModel.model_validate(data)
        except ValidationError as error:
            raise StudyError(report(error, data, Arguments(), StudyModel)) from None
        self._set(model, path, Arguments(), False)

    @staticmethod
    def of_model[N: Section](model: N, path: Path, source: Located, force: bool = False) -> Study[N]:
        """A study whose content has been checked."""
        study: Study[N] = Study.__new__(Study)
        study._set(model, path, source, force)
        return study

    def _set(self, model: Section, path: Path, source: Located, force: bool) -> None:
        for name, value in (("model", model), ("path", path), ("source", source), ("force", force)):
            object.__setattr__(self, name, value)

    def forced(self, force: bool = True) -> Study[M]:
        """The study, which may take more than :mod:`family.effort` allows."""
        return self.of_model(self.model, self.path, self.source, force)

    def updated(self, **sections: Any) -> Study[M]:
        """The study with other sections, which have been checked."""
        return self.of_model(self.model.model_copy(update=sections), self.path, self.source, self.force)

    @property
    def folder(self) -> Path:
        """Folder that paths in the study are relative to."""
        return self.path.parent

    def error(self, key: str, found: str, expected: str) -> StudyError:
        """Error of a later stage about ``key`` (such as ``constraints.0.quantity``), with file and line."""
        where = f"{self.location(key)}: {shown(key_of(key))}"
        return StudyError(f"{where}: found {clipped(found, 200)}; expected {expected}")

    def location(self, key: str) -> str:
        """File and line of ``key``, or the override or argument that set it."""
        return self.source.location(key_of(key))[1]

    def to_yaml(self, folder: Path | None = None) -> str:
        """The study as YAML with every default written out; it loads back equal.

        Args:
            folder: where the text will be saved, if not beside the study's file: paths in it are adapted.

        Raises:
            StudyError: it holds Python objects, which no file can.
        """
        objects = list(self.objects())
        if objects:
            where = ", ".join(f"{shown(key)} ({self.source.location(key)[1]})" for key in objects)
            raise StudyError(
                f"{where}: a Python object, which YAML cannot hold; write a formula as text, and give a family or a"
                " physics by its file, 'my_file.py:Name'"
            )
        return yaml_of(self.model, self.folder, folder or self.folder)

    def __str__(self) -> str:
        """The study in a few lines; ``to_yaml`` has all of it."""
        lines = [f"study {getattr(self.model, 'name', '')}"]
        for name in ("geometry", "physics", "objective", "objectives", "constraints", "optimizer"):
            section = getattr(self.model, name, None)
            if section and (text := _told(section)):
                lines.append(f"  {name}: {text}")
        return "\n".join(lines)

    def objects(self) -> Iterator[Key]:
        """Keys of the Python objects that the study holds."""
        yield from object_keys(self.model.model_dump(mode="json"))


def _goal(goals: Mapping[str, Quantity | None], front: bool) -> dict[str, Any]:
    """The objective of a study, which one of a front does not have."""
    given = {key: value for key, value in goals.items() if value is not None}
    return {} if front and not given else {"objective": given}


def _told(section: Any) -> str:
    """What a section of a study sets beside its defaults, clipped to a line."""
    if isinstance(section, Section):
        given = [(name, value) for name, value in section if name in section.model_fields_set]
        given = [(name, value) for name, value in given if value not in (None, (), {})]
        return clipped(", ".join(f"{name} {getattr(value, 'name', value)}" for name, value in given), 110)
    return "; ".join(map(_told, section))


def _listed(constraints: Any) -> list[dict[str, Any]]:
    given = [constraints] if isinstance(constraints, Mapping) and "quantity" in constraints else constraints
    listed = list(given) if isinstance(given, Iterable) and not isinstance(given, str | Mapping) else [given]
    for constraint in listed:
        if not isinstance(constraint, Mapping) or "quantity" not in constraint:
            expected = "conditions such as shapewright.equals('area', 3.0), in a list"
            raise StudyError(f"Study(constraints=...): found {found(constraint)}; expected {expected}")
    return [dict(constraint) for constraint in listed]
