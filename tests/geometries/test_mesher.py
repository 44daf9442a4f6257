"""Meshes of designs and of CAD files read back: regions, measures, orientation, sharp tips, files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import gmsh
import numpy as np
import pytest
import torch
from OCP.BRepBuilderAPI import BRepBuilderAPI_Transform
from OCP.gp import gp_Ax2, gp_Dir, gp_Pnt, gp_Trsf, gp_Vec

from shapewright.geometries.cad.mesher import MeshError, mesh_family, mesh_step
from shapewright.geometries.cad.step import CadShape, part_shape, write_step
from shapewright.geometries.family.family import Family
from shapewright.geometries.family.parts import Parameter
from shapewright.geometries.family.spline import Curve, LoopQuadrature
from shapewright.geometries.mesh.integration import facet_points, nodal_weights
from shapewright.geometries.mesh.jacobians import bernstein_jacobians
from shapewright.geometries.mesh.mesh import Mesh
from tests.geometries.shapes import FAMILIES, designs, family, polygon_family
from tests.geometries.test_cad import full_disk

NAMES = pytest.mark.parametrize("name", FAMILIES)
SIZES = {
    "closed_bar": (0.4, 0.2, 0.1),
    "body_in_channel": (0.07, 0.035, 0.0175),
    "nozzle.py:Nozzle": (0.3, 0.15, 0.075),
}


def regions(of: Family, points: torch.Tensor) -> dict[str, float]:
    """Exact length of every boundary region."""
    lengths, start = dict.fromkeys(of.tags, 0.0), 0
    for curve in of.curves:
        own = points[start : start + curve.count]
        lengths[curve.tag] += float(LoopQuadrature((curve,), 24).perimeter(own))
        start += curve.count
    return lengths


def domain_area(of: Family, points: torch.Tensor) -> float:
    """Exact area of the domain: the outer loop's less the holes'."""
    areas = [LoopQuadrature(loop).area(points[rows]) for loop, rows in zip(of.loops, of.loop_slices, strict=True)]
    return float(areas[0] - sum(areas[1:]))


def assert_is_mesh_of(mesh: Mesh, of: Family, points: torch.Tensor, tolerance: float) -> None:
    """Regions, area, orientation, conformity."""
    nodes = torch.from_numpy(mesh.nodes)
    assert mesh.tag_names == of.tags
    for tag, length in regions(of, points).items():
        assert float(facet_points(mesh, nodes, tag, 6).weights.sum()) == pytest.approx(length, rel=tolerance)
    assert float(nodal_weights(mesh, nodes).sum()) == pytest.approx(domain_area(of, points), rel=tolerance)
    assert float(bernstein_jacobians(mesh, nodes).min()) > 0
    assert np.array_equal(np.unique(mesh.cells), np.arange(len(mesh.nodes)))
    edges = {}
    for cell in mesh.cells:
        for k, (i, j) in enumerate(mesh.cell.edges):
            edges.setdefault(frozenset((cell[i], cell[j])), []).append((cell[i], cell[j], cell[3 + k]))
    outer = {found[0] for found in edges.values() if len(found) == 1}
    assert outer == set(map(tuple, mesh.facets))  # each once, in the direction of its cell, with its own middle
    assert all(found[0][2] == found[1][2] for found in edges.values() if len(found) == 2)


@NAMES
def test_meshes_of_the_step_file_read_back(tmp_path, name):
    """At three sizes, of a solid in millimetres: the tolerance is that of curved cells, fourth order."""
    of = family(name)
    points = of.control_points(designs(of, 1, seed=6)[0])
    path = tmp_path / "part.step"
    write_step(part_shape(of, points.numpy(), 0.2), path, "mm")
    for level, size in enumerate(SIZES[name]):
        mesh = mesh_step(path, of, points.numpy(), size, "mm")
        assert_is_mesh_of(mesh, of, points, 3e-3 / 8**level)


@NAMES
def test_the_file_s_mesh_is_the_family_s(tmp_path, name):
    """Of a face in metres: the same curve, so the same boundary nodes wherever gmsh begins."""
    of = family(name)
    points = of.control_points(of.default)
    path = tmp_path / "part.step"
    write_step(part_shape(of, points.numpy()), path, "m")
    size = SIZES[name][1]
    ours, theirs = mesh_family(of, points.numpy(), size), mesh_step(path, of, points.numpy(), size, "m")
    assert_is_mesh_of(ours, of, points, 1e-3)
    assert len(theirs.cells) == pytest.approx(len(ours.cells), rel=0.05)


def test_a_part_among_other_holes(tmp_path):
    holes = [[(0.3, 0.3), (0.6, 0.3), (0.6, 0.7), (0.3, 0.7)], [(1.0, 0.35), (1.7, 0.35), (1.7, 0.65), (1.0, 0.65)]]
    of = polygon_family([(0.0, 0.0), (2.0, 0.0), (2.0, 1.0), (0.0, 1.0)], *holes, part=2)
    points = of.control_points(of.default)
    write_step(part_shape(of, points.numpy(), 0.1), tmp_path / "part.step", "m")
    for mesh in (mesh_family(of, points.numpy(), 0.1), mesh_step(tmp_path / "part.step", of, points.numpy(), 0.1, "m")):
        assert_is_mesh_of(mesh, of, points, 1e-9)


def test_regions_of_a_long_thin_domain():
    """Half of a slit: its wall and its axis, far closer to each other than points along them, keep their names."""
    axis, out, wall, entry = Curve("axis", 2, 1), Curve("out", 2, 1), Curve("wall", 7), Curve("in", 2, 1)

    def control_points_at(theta: torch.Tensor) -> torch.Tensor:
        x = torch.tensor([0.0, 20.0, 20.0, 20.0, *np.linspace(20.0, 0.0, 7), 0.0, 0.0])
        y = torch.tensor([0.0, 0.0, 0.0, *[1.0] * 9, 0.0])
        return torch.stack([x.to(theta).expand(*theta.shape[:-1], 13), theta * y.to(theta)], -1)

    of = Family("slit", "", (Parameter("height", 0.05, 0.02, 0.1),), ((axis, out, wall, entry),), control_points_at)
    points = of.control_points(of.default)
    assert_is_mesh_of(mesh_family(of, points.numpy(), 0.5), of, points, 1e-6)


@pytest.mark.parametrize(("scale", "unit"), [(1e-6, "mm"), (1e-6, "m"), (1e-5, "cm"), (5e-4, "m"), (1e6, "m")])
def test_small_and_large_parts(tmp_path, scale, unit):
    """Of 1e-6 to 1e6 length units, in their domain: by the family, by the STEP file, and what is saved."""
    of = family("body_in_channel")
    points = scale * of.control_points(of.default)
    write_step(part_shape(of, points.numpy(), 0.1 * scale), tmp_path / "part.step", unit)
    ours = mesh_family(of, points.numpy(), 0.07 * scale)
    theirs = mesh_step(tmp_path / "part.step", of, points.numpy(), 0.07 * scale, unit, tmp_path / "part.msh")
    for mesh in (ours, theirs):
        assert_is_mesh_of(mesh, of, points, 3e-3)
    at_one = mesh_family(of, of.control_points(of.default).numpy(), 0.07)
    assert len(ours.cells) == pytest.approx(len(at_one.cells), rel=0.05)
    gmsh.initialize(readConfigFiles=False, interruptible=False)
    try:
        gmsh.option.setNumber("General.Terminal", 0)
        gmsh.open(str(tmp_path / "part.msh"))
        saved = gmsh.model.mesh.getNodes()[1].reshape(-1, 3)[:, :2]
    finally:
        gmsh.finalize()
    assert np.abs(np.sort(saved, axis=0) - np.sort(theirs.nodes, axis=0)).max() < 1e-12 * scale


def test_a_power_of_two_changes_no_digit_of_a_mesh():
    """gmsh's model is always of the same size, so that its absolute tolerances see nothing of a part's."""
    of = family("body_in_channel")
    points = of.control_points(of.default).numpy()
    meshes = [mesh_family(of, scale * points, 0.07 * scale).nodes / scale for scale in (1.0, 2.0**-20, 2.0**20)]
    for other in meshes[1:]:
        np.testing.assert_array_equal(other, meshes[0])


@pytest.mark.parametrize("size", [0.07, 0.035, 0.0175])
def test_cells_at_a_sharp_tip_are_not_folded(size):
    """The sharpest body of the box: its tip bends within one edge of a cell, which folds unless it is mended."""
    of = family("body_in_channel")
    theta = of.bounds[:, 1].clone()
    theta[[2, 8]] = of.bounds[[2, 8], 0]
    points = of.control_points(theta)
    mesh = mesh_family(of, points.numpy(), size)
    assert float(bernstein_jacobians(mesh, torch.from_numpy(mesh.nodes)).min()) > 0
    area = float(nodal_weights(mesh, torch.from_numpy(mesh.nodes)).sum())
    assert area == pytest.approx(domain_area(of, points), rel=1e-3)


def test_the_same_mesh_every_time():
    of = family("closed_bar")
    points = of.control_points(of.reference).numpy()
    first, second = (mesh_family(of, points, 0.4) for _ in range(2))
    np.testing.assert_array_equal(first.nodes, second.nodes)
    np.testing.assert_array_equal(first.cells, second.cells)


COUNT_NODES = """
from shapewright.geometries.family.closed_bar import closed_bar
from shapewright.geometries.cad.mesher import mesh_family
bar = closed_bar()
print(len(mesh_family(bar, bar.control_points(bar.reference).numpy(), 0.4).nodes))
"""


def test_what_a_user_configured_for_gmsh_does_not_matter(tmp_path):
    """In a process of its own: gmsh looks for its files once."""
    (tmp_path / ".gmshrc").write_text("Mesh.MeshSizeFactor = 3;\n")
    environment = os.environ | {"HOME": str(tmp_path)}
    command = [sys.executable, "-c", COUNT_NODES]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    of = family("closed_bar")
    assert int(found) == len(mesh_family(of, of.control_points(of.reference).numpy(), 0.4).nodes)


@pytest.mark.parametrize(("name", "content"), [("bad.step", "no CAD"), ("missing.step", None), ("part.txt", "no CAD")])
def test_files_that_are_no_cad(tmp_path, name, content):
    of = family("closed_bar")
    if content:
        (tmp_path / name).write_text(content)
    with pytest.raises(MeshError, match=name):
        mesh_step(tmp_path / name, of, of.control_points(of.default).numpy(), 0.3, "m")
    assert not gmsh.isInitialized()


def write_moved(path: Path, height: float) -> tuple[Family, np.ndarray]:
    """Write a solid of thickness 0.2 that begins at z = height; returns its family and control points."""
    of = family("closed_bar")
    points = of.control_points(of.default).numpy()
    motion = gp_Trsf()
    motion.SetTranslation(gp_Vec(0, 0, height))
    moved = BRepBuilderAPI_Transform(part_shape(of, points, 0.2).in_study_unit(), motion).Shape()
    write_step(CadShape(moved), path, "m")
    return of, points


def test_a_section_may_be_the_upper_face(tmp_path):
    of, points = write_moved(tmp_path / "part.step", -0.2)
    mesh = mesh_step(tmp_path / "part.step", of, points, 0.3, "m")
    assert_is_mesh_of(mesh, of, torch.from_numpy(points), 1e-2)


@pytest.mark.parametrize("height", [1.0, -0.1])
def test_a_file_without_a_section(tmp_path, height):
    """At -0.1 the side, which is not plane, has its centre at z = 0."""
    of, points = write_moved(tmp_path / "part.step", height)
    with pytest.raises(MeshError, match="found 0 plane faces at z = 0; one is the section of the part"):
        mesh_step(tmp_path / "part.step", of, points, 0.3, "m")


def test_msh_file_has_the_regions_by_name(tmp_path):
    of = family("body_in_channel")
    points = of.control_points(of.default).numpy()
    write_step(part_shape(of, points), tmp_path / "part.step", "m")
    mesh = mesh_step(tmp_path / "part.step", of, points, 0.07, "m", tmp_path / "part.msh")
    gmsh.initialize(readConfigFiles=False, interruptible=False)
    try:
        gmsh.option.setNumber("General.Terminal", 0)
        gmsh.open(str(tmp_path / "part.msh"))
        groups = {gmsh.model.getPhysicalName(dim, tag): dim for dim, tag in gmsh.model.getPhysicalGroups()}
        assert groups == {"wall": 1, "outlet": 1, "inlet": 1, "body": 1, "domain": 2}
        assert len(gmsh.model.mesh.getElements(2)[1][0]) == len(mesh.cells)
    finally:
        gmsh.finalize()


def test_a_full_disk_leaves_no_half_msh_file(tmp_path):
    of = family("closed_bar")
    points = of.control_points(of.default).numpy()
    write_step(part_shape(of, points), tmp_path / "part.step", "m")
    with full_disk(), pytest.raises(OSError, match=r"could not be written whole .*part.msh"):
        mesh_step(tmp_path / "part.step", of, points, 0.3, "m", tmp_path / "part.msh")
    assert [file.name for file in tmp_path.iterdir()] == ["part.step"]


def lens() -> Family:
    """A square around a symmetric lens, whose upper and lower side are regions of their own."""
    x = torch.tensor([0.5, 0.3, 0.0, -0.3, -0.5], dtype=torch.float64)
    y = torch.tensor([0.0, 0.25, 0.35, 0.25, 0.0], dtype=torch.float64)
    sides = torch.stack([torch.cat([x, -x]), torch.cat([y, -y])], -1)
    corners = torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=torch.float64)
    rim = torch.cat([corners[[k, (k + 1) % 4]] for k in range(4)])

    def control_points_at(theta: torch.Tensor) -> torch.Tensor:
        size = theta[..., None]
        return torch.cat([rim.to(theta).expand(*theta.shape[:-1], 8, 2), size * sides.to(theta)], -2)

    loops = (tuple(Curve("rim", 2, 1) for _ in range(4)), (Curve("upper", 5), Curve("lower", 5)))
    return Family("lens", "", (Parameter("size", 1.0, 0.5, 1.5),), loops, control_points_at, part=1)


@pytest.mark.parametrize("mirrored", [False, True])
def test_regions_of_a_symmetric_body_are_not_exchanged(tmp_path, mirrored):
    """A file whose edges come in another order and direction describes the same shape; names go by position."""
    of = lens()
    points = of.control_points(of.default).numpy()
    cad = part_shape(of, points, 0.1)
    if mirrored:
        motion = gp_Trsf()
        motion.SetMirror(gp_Ax2(gp_Pnt(0, 0, 0), gp_Dir(0, 1, 0)))
        cad = CadShape(BRepBuilderAPI_Transform(cad.shape, motion).Shape(), cad.factor)
    write_step(cad, tmp_path / "part.step", "m")
    mesh = mesh_step(tmp_path / "part.step", of, points, 0.15, "m")
    assert_is_mesh_of(mesh, of, torch.from_numpy(points), 1e-3)
    for tag, sign in (("upper", 1), ("lower", -1)):
        assert (sign * mesh.nodes[mesh.facets_on(tag)[:, 2], 1] > 0).all()


def test_a_file_of_another_shape_is_refused(tmp_path):
    """The regions of a larger lens, or of none at all, would be named after the nearest curves."""
    of = lens()
    points = of.control_points(of.default).numpy()
    write_step(part_shape(of, of.control_points(1.05 * of.default).numpy()), tmp_path / "part.step", "m")
    with pytest.raises(MeshError, match=r"away from every curve of 'lens': this is not the outline of the design"):
        mesh_step(tmp_path / "part.step", of, points, 0.15, "m")
