"""Meshes of designs and of CAD files read back: regions, measures, orientation, sharp tips, files."""

from __future__ import annotations

import gmsh
import numpy as np
import pytest
import torch

from geometries.cad import part_shape, write_step
from geometries.family import Family
from geometries.integration import bernstein_jacobians, facet_points, nodal_weights
from geometries.mesh import EDGES, TaggedMesh
from geometries.mesher import MeshError, mesh_family, mesh_step
from geometries.spline import LoopQuadrature
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


def assert_is_mesh_of(mesh: TaggedMesh, of: Family, points: torch.Tensor, tolerance: float) -> None:
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
        for k, (i, j) in enumerate(EDGES):
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
    """Walls a twentieth of a cell's length apart keep their names."""
    of = polygon_family([(0.0, 0.0), (20.0, 0.0), (20.0, 0.05), (0.0, 0.05)])
    lines = tuple(type(line)(tag, 2, 1) for line, tag in zip(of.curves, ("axis", "out", "wall", "in"), strict=True))
    named = Family("slit", "", of.parameters, (lines,), of.control_points)
    points = named.control_points(named.default)
    assert_is_mesh_of(mesh_family(named, points.numpy(), 0.5), named, points, 1e-9)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_small_and_large_parts(tmp_path, scale):
    of = family("closed_bar")
    points = scale * of.control_points(of.default)
    write_step(part_shape(of, points.numpy(), 0.1 * scale), tmp_path / "part.step", "m")
    assert_is_mesh_of(mesh_step(tmp_path / "part.step", of, points.numpy(), 0.3 * scale, "m"), of, points, 1e-2)


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


def test_the_same_mesh_every_time_and_whatever_the_user_configured(tmp_path, monkeypatch):
    of = family("closed_bar")
    points = of.control_points(of.reference).numpy()
    first = mesh_family(of, points, 0.4)
    (tmp_path / ".gmshrc").write_text("Mesh.MeshSizeFactor = 3;\n")
    (tmp_path / ".gmsh-options").write_text("Mesh.MeshSizeFactor = 3;\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    second = mesh_family(of, points, 0.4)
    np.testing.assert_array_equal(first.nodes, second.nodes)
    np.testing.assert_array_equal(first.cells, second.cells)


@pytest.mark.parametrize(("name", "content"), [("bad.step", "no CAD"), ("missing.step", None), ("part.txt", "no CAD")])
def test_files_that_are_no_cad(tmp_path, name, content):
    of = family("closed_bar")
    if content:
        (tmp_path / name).write_text(content)
    with pytest.raises(MeshError, match=name):
        mesh_step(tmp_path / name, of, of.control_points(of.default).numpy(), 0.3, "m")
    assert not gmsh.isInitialized()


def test_a_file_without_a_section(tmp_path):
    """A solid that was moved up: there is no face at z = 0."""
    import OCP.BRepBuilderAPI as builder
    from OCP.gp import gp_Trsf, gp_Vec

    of = family("closed_bar")
    points = of.control_points(of.default).numpy()
    up = gp_Trsf()
    up.SetTranslation(gp_Vec(0, 0, 1.0))
    write_step(builder.BRepBuilderAPI_Transform(part_shape(of, points, 0.2), up).Shape(), tmp_path / "part.step", "m")
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
