"""Deformed CAD, measured: shipped parts, gmsh's example t20 and STEP files of a folder, deformed by 8 % of their size.

Run as ``python -m benchmarks.three_d --cad [--only PART ...] [--public FOLDER]``. For each part three random designs of
a lattice of 4 rows along its longest side, equally wide ones along the others, each control point moved by up to 8 % of
the size along each axis; a design with det grad F below 0.3 is taken back by tenths until it is not. The row holds the
worst of the three. It is written into ``benchmarks/results/three_d.json`` as soon as it is there, and all of them as a
table into ``cad_parts.md``; rows of other cases and methods stay.

``accepted`` means: OpenCASCADE finds the re-read solid valid, all faces that stay are where they were, and the nodes of
the moved mesh lie within 1e-5 of the part's size of its faces. A part that is refused is a row with the reason.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from shapewright.app.provenance import provenance
from shapewright.geometries.cad.compare import ReadBack, distances, read_back
from shapewright.geometries.cad.deform import TOLERANCE, deform
from shapewright.geometries.cad.shipped import SHIPPED, shipped_part
from shapewright.geometries.cad.solid import Solid, chosen, inspect_step
from shapewright.geometries.cad.solid_mesher import MeshOptions, SolidMesh, mesh_solid
from shapewright.geometries.cad.step import CadError, measure_of, write_step
from shapewright.geometries.design.free_form import free_form
from shapewright.geometries.design.kept_faces import WIDTH, zones_around
from shapewright.geometries.design.lattice import Lattice
from shapewright.geometries.design.solid_map import SolidMap, pulled_back
from shapewright.geometries.family.effort import forcing
from shapewright.geometries.family.outlines import ShapeError
from shapewright.geometries.mesh.integration import cell_points
from shapewright.geometries.mesh.mesh import MeshError
from shapewright.studies.files import write_json, write_text

RESULTS = Path(__file__).resolve().parent / "results"
T20 = Path(sys.prefix) / "share" / "doc" / "gmsh" / "tutorials" / "t20_data.step"
LIMIT = 0.08
"""Of the motion of a control point, over the size of the part."""
ROWS = 4
"""Of the lattice along the longest side."""
LEAST_JACOBIAN = 0.3
CELLS = (16, 24, 36)
"""Cells along the diagonal of a part; the finer ones where a curved cell folds."""
DESIGNS = 3
MOST_NODES = 400
"""Boundary nodes whose distance from the re-read CAD is found."""
COLUMNS = (
    "case", "method", "dofs", "objective", "gap_to_fem_alone", "fem_solves", "seconds", "peak_mib",
    "moved_mesh_against_cad", "cad_deviation", "accepted",
)  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """One design of a part; distances are over the size of the part.

    Attributes:
        least_jacobian: least det grad F at nodes and quadrature points.
        largest_motion: of a node.
        poles: of all new surfaces.
        fit: largest error of a curve or surface.
        cad_deviation: largest distance of a boundary node of the moved mesh from its face in the file.
        kept_distance: largest change of a face that stays.
        volume_difference: of the moved mesh, as measured on both meshes and the original CAD, from the re-read CAD.
        fresh_nodes: of a fresh mesh of the re-read CAD.
        fresh_volume_difference: of its volume from that of the CAD.
        pulled_back: largest distance of a node of the pulled-back mesh, moved again, from the fresh one.
        kilobytes: of the file.
        seconds: of the processor, on one thread, to deform the CAD.
        valid: whether all is as it should be.
    """

    least_jacobian: float
    largest_motion: float
    poles: int
    fit: float
    cad_deviation: float
    kept_distance: float
    volume_difference: float
    fresh_nodes: int
    fresh_volume_difference: float
    pulled_back: float
    kilobytes: float
    seconds: float
    valid: bool


def measure(path: Path) -> dict[str, Any]:
    """The row of a part."""
    solid = chosen(inspect_step(path), None)
    row: dict[str, Any] = dict.fromkeys(COLUMNS) | {"case": path.stem, "method": "cad", "faces": len(solid.faces)}
    if solid.faults:
        return row | {"accepted": False, "refused": "; ".join(solid.faults)}
    for cells in CELLS:
        try:
            found = list(_designs(solid, cells))
            break
        except (CadError, ShapeError) as error:
            return row | {"accepted": False, "refused": str(error)}
        except MeshError as error:  # a curved cell that folds
            said = str(error)
    else:
        return row | {"accepted": False, "refused": said}
    worst = {key: max(getattr(one, key) for one in found) for key in asdict(found[0])}
    worst["least_jacobian"] = min(one.least_jacobian for one in found)
    valid = all(one.valid for one in found)
    return row | worst | {
        "seconds": round(worst["seconds"], 2),
        "moved_mesh_against_cad": worst["volume_difference"],
        "valid": valid,
        "accepted": valid and worst["cad_deviation"] <= TOLERANCE,
        "kept": len(kept_faces(solid)),
        "cells_along_diagonal": cells,
        "warnings": list(solid.warnings),
    }


def kept_faces(solid: Solid) -> tuple[int, ...]:
    """The bores, but no more than leave some freedom."""
    bores = [face for face in solid.faces if face.kind == "cylinder" and face.hollow and (face.turn or 0) > 179]
    small = [face for face in bores if face.radius is not None and face.radius < 0.1 * solid.size]
    return tuple(face.number for face in small[:4])


def _designs(solid: Solid, cells: int) -> Iterator[Measured]:
    options = MeshOptions(solid.size / cells)
    mesh = mesh_solid(solid.cad, {}, options)
    nodes = torch.from_numpy(mesh.mesh.nodes)
    extent = np.subtract(solid.high, solid.low)
    x, y, z = (max(2, 1 + round((ROWS - 1) * share)) for share in (extent / extent.max()).tolist())
    lattice = Lattice(solid.low, solid.high, (x, y, z), LIMIT * solid.size)
    form = free_form(lattice, zones_around(solid.cad, kept_faces(solid), WIDTH * solid.size), nodes)
    for seed in range(DESIGNS):
        generator = torch.Generator().manual_seed(seed)
        unit = torch.rand(len(form.parameters), generator=generator, dtype=torch.float64)
        yield _design(solid, SolidMap(form, mesh.mesh), mesh, options, (2 * unit - 1) * LIMIT * solid.size)


def _tame(mapped: SolidMap, theta: torch.Tensor) -> torch.Tensor:
    """The design, or the largest share of it by tenths whose det grad F is large enough."""
    inside = cell_points(mapped.mesh, mapped.reference_nodes).points.flatten(0, -2)
    for tenths in range(10, 0, -1):
        design = tenths / 10 * theta
        if float(mapped.form.determinants(design, inside).min()) >= LEAST_JACOBIAN:
            return design
    return theta / 10


def _design(
    solid: Solid, mapped: SolidMap, mesh: SolidMesh, options: MeshOptions, theta: torch.Tensor
) -> Measured:
    form, theta = mapped.form, _tame(mapped, theta)
    least = mapped.check(theta)
    moved = mapped.nodes(theta).numpy()

    def move(points: np.ndarray) -> np.ndarray:
        return form.moved(theta, torch.from_numpy(points)).numpy()

    began = time.process_time()
    found = deform(solid.cad, move, kept_faces(solid))
    seconds = time.process_time() - began
    with TemporaryDirectory() as folder:
        path = Path(folder) / "part.step"
        write_step(found.cad, path, solid.unit)
        again, kilobytes = read_back(path, solid.unit, solid.cad, found), path.stat().st_size / 1024
    volumes = [_volume(mesh, nodes) for nodes in (mesh.mesh.nodes, moved)]
    expected = volumes[1] / volumes[0] * measure_of(solid.cad)
    fresh = mesh_solid(again.cad, {}, options)
    try:
        back = pulled_back(form, theta, fresh.mesh)
    except ShapeError as error:
        raise MeshError(str(error)) from error
    return Measured(
        least_jacobian=least,
        largest_motion=float(np.linalg.norm(moved - mesh.mesh.nodes, axis=1).max()) / solid.size,
        poles=found.poles,
        fit=found.deviation / solid.size,
        cad_deviation=_deviation(again, mesh, moved) / solid.size,
        kept_distance=again.kept_distance / solid.size,
        volume_difference=abs(expected / again.volume - 1),
        fresh_nodes=len(fresh.mesh.nodes),
        fresh_volume_difference=abs(_volume(fresh, fresh.mesh.nodes) / again.volume - 1),
        pulled_back=float(np.abs(back.nodes(theta).numpy() - fresh.mesh.nodes).max()) / solid.size,
        kilobytes=round(kilobytes, 1),
        seconds=seconds,
        valid=again.valid and again.kept and again.kept_distance <= 1e-9 * solid.size,
    )


def _volume(mesh: SolidMesh, nodes: np.ndarray) -> float:
    return float(cell_points(mesh.mesh, torch.from_numpy(nodes)).weights.sum())


def _deviation(again: ReadBack, mesh: SolidMesh, moved: np.ndarray) -> float:
    """Largest distance of boundary nodes, middles of edges too, from the faces that they lie on."""
    nodes, first = np.unique(mesh.mesh.facets, return_index=True)
    owner = mesh.facet_faces[first // mesh.mesh.facets.shape[1]]
    some = np.arange(0, len(nodes), 1 + len(nodes) // MOST_NODES)
    return float(distances(again.cad, again.numbers[owner[some] - 1], moved[nodes[some]]).max())


def parts(public: Path | None) -> dict[str, Path]:
    """Files by name: the shipped parts, gmsh's example, and those of a folder."""
    found = {name: shipped_part(name) for name in SHIPPED}
    if T20.is_file():
        found[T20.stem] = T20
    if public is not None:
        found |= {path.stem: path for path in sorted(public.iterdir()) if path.suffix.lower() in (".stp", ".step")}
    return found


def run(only: list[str] | None, public: Path | None) -> None:
    """Measure parts, and write each row as soon as it is there."""
    for name, path in parts(public).items():
        if only and name not in only:
            continue
        try:
            with forcing(False):
                row = measure(path)
        except CadError as error:
            said = str(error).replace(f"{path.parent}{os.sep}", "")
            row = dict.fromkeys(COLUMNS) | {"case": name, "method": "cad", "accepted": False, "refused": said}
        row["load"] = os.getloadavg()[1]
        print(json.dumps(row), flush=True)
        results = RESULTS / "three_d.json"
        before = json.loads(results.read_text(encoding="utf-8"))["rows"] if results.is_file() else []
        kept = [other for other in before if (other["case"], other["method"]) != (row["case"], "cad")]
        write_json(results, {"machine": provenance("cpu", 0), "rows": [*kept, row]})
        write_text(RESULTS / "cad_parts.md", table([*kept, row]))


def table(rows: list[dict[str, Any]]) -> str:
    """The rows of parts as Markdown."""
    lines = [
        "# CAD deformed by 8 % of its size",
        "",
        "Written by `python -m benchmarks.three_d --cad`; the worst of three random designs. Lengths over the size.",
        "",
        "| part | faces | kept | det grad F | motion | poles | deviation of the moved mesh | kept faces | volume |"
        " pulled back | kB | CPU s | result |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row["method"] != "cad":
            continue
        if row.get("refused"):
            lines.append(f"| {row['case']} | {row.get('faces', '')} |{' |' * 10} refused: {row['refused']} |")
            continue
        numbers = [
            f"{row['least_jacobian']:.2f}", f"{row['largest_motion']:.3f}", str(row["poles"]),
            f"{row['cad_deviation']:.1e}", f"{row['kept_distance']:.0e}", f"{row['volume_difference']:.0e}",
            f"{row['pulled_back']:.0e}", f"{row['kilobytes']:.0f}", f"{row['seconds']:.1f}",
        ]  # fmt: skip
        verdict = "valid" if row["accepted"] else "not accepted"
        lines.append(f"| {row['case']} | {row['faces']} | {row['kept']} | {' | '.join(numbers)} | {verdict} |")
    return "\n".join(lines) + "\n"
