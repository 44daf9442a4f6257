"""The report of a finished study of a solid: one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from shapewright.app.report.data import ReportError
from shapewright.app.report.solid_pictures import SolidState, before_and_after, coloured, section, turning
from shapewright.geometries.fields.problem import Problem
from shapewright.geometries.fields.quantities import Component, Quantities, field_space
from shapewright.geometries.mesh.jacobians import cell_jacobians, inverse
from shapewright.geometries.mesh.mesh import Mesh
from shapewright.studies.certify.solid_model import SolidCertificate, read_solid_certificate
from shapewright.studies.files import write_text
from shapewright.studies.problem.solid_setup import SolidSetup, build_solid_setup
from shapewright.studies.run.solid_run import CERTIFICATE, FIELDS
from shapewright.studies.schema.loader import RESOLVED, load_study
from shapewright.studies.schema.solid_study import SolidStudyModel

UPPER = 99.5
"""Percentile of a quantity at which its colours end: peaks at edges and supports have no limit."""
MAGNIFIED = 0.08
"""Largest displacement drawn, in diagonals of the part's box."""


def write_solid_report(folder: Path) -> Path:
    """Write ``report.html`` of a finished output folder, whole or not at all.

    Raises:
        ReportError: a file of the folder is missing.
    """
    if not (folder / FIELDS).is_file():
        raise ReportError(f"{folder / FIELDS}: there is no such file; `shapewright run` writes it")
    certificate = read_solid_certificate(folder / CERTIFICATE)
    setup = build_solid_setup(load_study(folder / RESOLVED, (), SolidStudyModel))
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    path = folder / "report.html"
    content = _content(setup, certificate, folder)
    write_text(path, environment.get_template("solid_report.html.j2").render(content))
    return path


def _content(setup: SolidSetup, certificate: SolidCertificate, folder: Path) -> Mapping[str, Any]:
    with np.load(folder / FIELDS) as arrays:
        states = {name: _states(setup.problem, arrays, name) for name in ("initial", "final")}
    cases, shown = list(states["final"]), _shown(setup.problem)
    groups = []
    for case in cases:
        before, after = states["initial"][case], states["final"][case]
        top = float(np.percentile(np.concatenate([before.scalar, after.scalar]), UPPER))
        low = min(0.0, float(np.percentile(np.concatenate([before.scalar, after.scalar]), 100 - UPPER)))
        limits, title = (low, top), shown
        largest = max(float(np.abs(one.displacement).max()) for one in (before, after))
        factor = MAGNIFIED * setup.size / largest if largest > 0 else 0.0
        pictures = [
            ("as it came", coloured(before, title, limits)),
            ("optimum", coloured(after, title, limits)),
            ("section of the optimum", section(after, title, limits, "y")),
        ]
        if factor:
            pictures.append((f"optimum, displacements {factor:.3g} times", coloured(after, title, limits, factor)))
        groups.append((case, pictures))
        view = after, limits
    state, limits = view
    return {
        "certificate": certificate,
        "setup": setup,
        "description": setup.study.model.description,
        "shape": before_and_after(states["initial"][cases[0]], states["final"][cases[0]]),
        "groups": groups,
        "motion": _motion_picture(setup, certificate),
        "frames": turning(state, limits),
        "quantity": shown,
        "moved": _largest_motion(setup, certificate),
    }


def _motion_picture(setup: SolidSetup, certificate: SolidCertificate) -> str:
    """The optimum, coloured by how far its surface moved outwards (red) or inwards (blue)."""
    mesh, theta = setup.shape_map.mesh, torch.tensor(list(certificate.parameters.values()), dtype=torch.float64)
    moved = setup.shape_map.nodes(theta).numpy()
    a, b, c = (moved[mesh.facets[:, k]] for k in range(3))
    across = np.cross(b - a, c - a)
    normals = np.zeros_like(moved)
    for column in mesh.facets.T:
        np.add.at(normals, column, across)
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-300)
    outwards = ((moved - mesh.nodes) * normals).sum(-1)
    largest = float(np.abs(outwards).max()) or 1.0
    state = SolidState(moved, mesh.cells, outwards, np.zeros_like(moved))
    unit = setup.study.model.geometry.length_unit
    return coloured(state, f"outwards, {unit}", (-largest, largest), colours="RdBu_r")


def _largest_motion(setup: SolidSetup, certificate: SolidCertificate) -> float:
    """Largest motion of a node by the design, length unit."""
    theta = torch.tensor(list(certificate.parameters.values()), dtype=torch.float64)
    motion = setup.shape_map.nodes(theta) - setup.shape_map.reference_nodes
    return float(motion.norm(dim=-1).max())


def _shown(problem: Problem) -> str:
    """Name of the quantity that is coloured."""
    found = next((d for d in problem.physics.derived if d.shown), None)
    return problem.physics.fields[0].name if found is None else found.description


def _states(problem: Problem, arrays: Mapping[str, np.ndarray], name: str) -> dict[str, SolidState]:
    """Load case -> what is drawn of it."""
    nodes, cells = arrays[f"{name}_nodes"], arrays[f"{name}_cells"]
    mesh = Mesh(nodes, cells, np.zeros((0, 6), dtype=np.int64), np.zeros(0, dtype=np.int64), ())
    prefix, found = f"{name}_field_", {}
    for key in arrays:
        if key.startswith(prefix):
            field = arrays[key].astype(np.float64)
            vector = field if field.shape[1] == 3 else np.zeros_like(nodes)
            found[key.removeprefix(prefix)] = SolidState(nodes, cells, _nodal(problem, mesh, field), vector)
    return found


def _nodal(problem: Problem, mesh: Mesh, field: np.ndarray) -> np.ndarray:
    """(N,) the quantity that is shown at the nodes, the mean over the cells that share one."""
    derived = next((d for d in problem.physics.derived if d.shown), None)
    if derived is None:
        return field[:, 0]
    at = torch.from_numpy(mesh.nodes)
    slopes = torch.from_numpy(mesh.cell.shape_gradients(mesh.cell.nodes))
    backward = inverse(cell_jacobians(mesh, at, mesh.cell.nodes))  # (M, 10, 3, 3)
    local = torch.from_numpy(field)[torch.from_numpy(mesh.cells)]  # (M, 10, c)
    gradient = torch.einsum("qik,mic,mqkd->mqcd", slopes, local, backward)
    points = at[torch.from_numpy(mesh.cells)]

    def component(k: int) -> Component:
        return Component(lambda: local[..., k], lambda: gradient[..., k, :].unbind(-1))

    fields = {name: component(k) for k, name in enumerate(problem.physics.components)}
    q = Quantities(torch, field_space(problem), points.unbind(-1), fields)
    values = torch.as_tensor(derived.value(torch, q)).expand(mesh.cells.shape).numpy()
    total = np.bincount(mesh.cells.ravel(), values.ravel(), len(mesh.nodes))
    return total / np.bincount(mesh.cells.ravel(), minlength=len(mesh.nodes))
