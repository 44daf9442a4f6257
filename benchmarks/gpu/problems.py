"""A study's problem as plain data and arrays, and back, without what reads studies or meshes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu.fields import from_half_changes, restored
from shapewright.geometries.design.shape_map import ShapeMap
from shapewright.geometries.family.catalogue import load_family
from shapewright.geometries.family.fixed import fix_parameters
from shapewright.geometries.fields.names import coordinates
from shapewright.geometries.fields.quantities import FieldSpace
from shapewright.geometries.mesh.mesh import Mesh
from shapewright.solvers.physics.catalogue import PHYSICS, Function, Functional
from shapewright.studies.problem.design_training import DesignProblem, TrainingData
from shapewright.studies.schema.expressions import parse
from shapewright.surrogate.mgno.operator import OperatorConfig
from shapewright.surrogate.models.design_surrogate import DesignSurrogate
from shapewright.surrogate.models.weights_file import MESH_ARRAYS, load_grid, load_surrogate
from shapewright.surrogate.training.derivative_informed import TrainingConfig

BUNDLE_FILE = "bundle.json"


class BundleError(ValueError):
    """A bundle that is not there or cannot be read; the text says how one is made."""


@dataclass(frozen=True)
class Bundle:
    """An opened bundle.

    Attributes:
        folder: where it lies.
        content: of its ``bundle.json``: ``studies`` (name -> problem and notes), ``processor`` that FEM ran on.
    """

    folder: Path
    content: dict[str, Any]

    @property
    def studies(self) -> tuple[str, ...]:
        """Names, torsion first."""
        return tuple(self.content["studies"])

    def note(self, study: str) -> dict[str, Any]:
        """What was measured when the bundle was made: FEM's seconds, errors of rounding, errors of the card."""
        return self.content["studies"][study]

    def problem(self, study: str) -> DesignProblem:
        """The study's problem."""
        return problem_of(self.note(study)["problem"], self._arrays(study))

    def data(self, study: str) -> TrainingData:
        """The study's data, its fields rounded."""
        arrays = self._arrays(study)
        reference = torch.from_numpy(arrays["reference"])
        typical = tuple(torch.from_numpy(arrays[f"typical.{index}"]) for index in range(2))
        return TrainingData(
            restored(arrays, reference, "train."),
            from_half_changes(arrays, reference, "held_out."),
            reference,
            lambda: typical,
            self.note(study)["data_hash"],
        )

    def _arrays(self, study: str) -> dict[str, np.ndarray]:
        with np.load(self.folder / f"{study}.npz") as file:
            return dict(file)


def open_bundle(folder: Path) -> Bundle:
    """The bundle in a folder.

    Raises:
        BundleError: there is none.
    """
    try:
        return Bundle(folder, json.loads((folder / BUNDLE_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise BundleError(f"{folder}: holds no bundle ({error}); `make gpu-bundle` makes one") from error


def open_shipped(problem: DesignProblem, path: Path) -> DesignSurrogate:
    """The shipped surrogate of a problem, in float32 as its file is.

    Raises:
        SurrogateFileError: no such file, or trained for another problem.
    """
    weights, _ = load_surrogate(path, problem.trained_for)
    network = problem.network(grid=load_grid(path, problem.grid, problem.radius))
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


def problem_data(problem: DesignProblem, geometry: Mapping[str, Any], physics: Mapping[str, Any]) -> dict[str, Any]:
    """Plain data of a problem: ``geometry`` has family and options, ``physics`` name, coefficients, source.

    Raises:
        BundleError: a functional that is not one of the physics' own: its formula is not carried.
    """
    names = [functional.name for functional in problem.functionals]
    known = {functional.name for functional in PHYSICS[physics["name"]].functionals}
    if unknown := set(names) - known:
        raise BundleError(f"functional {sorted(unknown)} is none of {physics['name']}; a bundle takes {sorted(known)}")
    operator, training = asdict(problem.operator), asdict(problem.training)
    return {
        "geometry": dict(geometry),
        "physics": dict(physics),
        "functionals": names,
        "regions": {f.name: getattr(f, f.region_as) for f in problem.functionals if f.region_as is not None},
        "tag_names": problem.shape_map.mesh.tag_names,
        "operator": operator,
        "grid": problem.grid,
        "radius": problem.radius,
        "grading_length": problem.grading_length,
        "contrast": problem.contrast,
        "bounds": problem.bounds.tolist(),
        "training": training,
        "fine_tuning": problem.fine_tuning,
        "trained_for": problem.trained_for,
        "training_section": problem.training_section,
        "box": problem.box,
    }


def problem_arrays(problem: DesignProblem) -> dict[str, np.ndarray]:
    """Arrays of a problem."""
    mesh = problem.shape_map.mesh
    arrays = {f"mesh.{name}": getattr(mesh, name) for name in MESH_ARRAYS}
    return arrays | {"extension": problem.shape_map.extension.numpy(), "factor": problem.factor.numpy()}


def problem_of(data: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> DesignProblem:
    """The problem behind :func:`problem_data` and :func:`problem_arrays`."""
    family = load_family(data["geometry"]["family"], data["geometry"]["options"], Path())
    fixed = data["trained_for"].get("fixed", {})
    mesh = Mesh(*(arrays[f"mesh.{name}"] for name in MESH_ARRAYS), tuple(data["tag_names"]))
    operator = data["operator"] | {"modes": tuple(data["operator"]["modes"])}
    known = {functional.name: functional for functional in PHYSICS[data["physics"]["name"]].functionals}
    regions = data["regions"]
    functionals: tuple[Functional, ...] = tuple(
        known[name].at(regions[name]) if name in regions else known[name] for name in data["functionals"]
    )
    return DesignProblem(
        shape_map=ShapeMap(
            fix_parameters(family, fixed), mesh, torch.from_numpy(arrays["extension"]), family if fixed else None
        ),
        space=_space(data["physics"]),
        functionals=functionals,
        factor=torch.from_numpy(arrays["factor"]),
        operator=OperatorConfig(**operator),
        grid=tuple(data["grid"]),
        radius=data["radius"],
        grading_length=data["grading_length"],
        contrast=data["contrast"],
        bounds=torch.tensor(data["bounds"], dtype=torch.float64),
        training=TrainingConfig(**data["training"]),
        fine_tuning=data["fine_tuning"],
        trained_for=data["trained_for"],
        training_section=data["training_section"],
        box=data["box"],
    )


def _space(data: Mapping[str, Any]) -> FieldSpace:
    physics = PHYSICS[data["name"]]
    coefficients: dict[str, Function] = {c.name: parse(c.default, (), c.name) for c in physics.coefficients}
    coefficients |= {name: parse(value, coordinates(2), name) for name, value in data["coefficients"].items()}
    source = data["source"] if isinstance(data["source"], dict) else {physics.components[0]: data["source"]}
    sources = {name: parse(value, coordinates(2), name) for name, value in source.items()}
    return FieldSpace(physics.components, coefficients, sources)


def values_close(found: Tensor, expected: Tensor) -> float:
    """Relative error of a whole tensor."""
    return float((found.double().cpu() - expected.double().cpu()).norm() / expected.double().cpu().norm())
