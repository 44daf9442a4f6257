"""Meshes of solids: closed, right-handed, of the right volume and area, with facets on the faces they name."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from OCP.BRepBuilderAPI import BRepBuilderAPI_Copy
from OCP.BRepPrimAPI import BRepPrimAPI_MakeBox

from shapewright.geometries.cad.faces import describe, faces_of
from shapewright.geometries.cad.shipped import SHIPPED, shipped_part, write_parts
from shapewright.geometries.cad.solid_mesher import MeshOptions, estimated_nodes, mesh_solid
from shapewright.geometries.cad.step import CadError, CadShape, measure_of, read_step
from shapewright.geometries.mesh.integration import cell_points, facet_points
from shapewright.geometries.mesh.jacobians import bernstein_jacobians
from shapewright.geometries.mesh.mesh import MeshError
from tests.geometries.solids import part, solid_mesh

PARTS = pytest.mark.parametrize("name", SHIPPED)


@PARTS
def test_volume_by_cells_and_by_facets_is_that_of_the_cad(name):
    """The divergence theorem needs closed facets that look outwards; the coarse ball misses 0.5 % of its volume."""
    mesh = solid_mesh(name).mesh
    nodes = torch.from_numpy(mesh.nodes)
    assert float(bernstein_jacobians(mesh, nodes).min()) > 0
    volume = float(cell_points(mesh, nodes).weights.sum())
    boundary = facet_points(mesh, nodes)
    by_facets = float((boundary.weights[..., None] * boundary.points * boundary.normals).sum() / 3)
    assert by_facets == pytest.approx(volume, rel=1e-12)
    assert volume == pytest.approx(measure_of(part(name)), rel=5e-3)


@PARTS
def test_facets_have_the_area_of_their_face(name):
    found = solid_mesh(name)
    nodes = torch.from_numpy(found.mesh.nodes)
    areas = facet_points(found.mesh, nodes).weights.sum(-1).numpy()
    for number, face in enumerate(faces_of(part(name).shape), start=1):
        described = describe(face, number, 1.0)
        own = found.facet_faces == number
        assert areas[own].sum() == pytest.approx(described.area, rel=0.02)
        corners = found.mesh.nodes[np.unique(found.mesh.facets[own][:, :3])]
        size = np.ptp(found.mesh.nodes, axis=0).max()
        assert (corners > np.array(described.low) - 1e-6 * size).all()
        assert (corners < np.array(described.high) + 1e-6 * size).all()


def test_a_finer_mesh_is_closer_to_the_ball():
    """Quadratic cells miss the volume of a ball by a power of their size that is near 4."""
    errors = [_ball_error(size) for size in (0.5, 0.25)]
    assert errors[1] < errors[0] / 6
    assert errors[1] < 2e-3


def _ball_error(size: float) -> float:
    mesh = mesh_solid(part("ball"), {}, MeshOptions(size, curvature=0)).mesh
    return abs(float(cell_points(mesh, torch.from_numpy(mesh.nodes)).weights.sum()) - 1)


def test_a_small_part_in_metres_is_meshed_as_in_millimetres():
    """At its own size, 0.1 m, with a model 1024 times as large."""
    cad = read_step(shipped_part("cantilever"), "m", 1024.0)
    mesh = mesh_solid(cad, {"hole": (7,)}, MeshOptions(0.02)).mesh
    assert np.ptp(mesh.nodes, axis=0) == pytest.approx([0.1, 0.02, 0.03])
    hole = mesh.nodes[np.unique(mesh.facets_on("hole")[:, :3])]
    assert np.hypot(hole[:, 0] - 0.05, hole[:, 2] - 0.015) == pytest.approx(0.006)


def test_regions_that_cannot_be():
    cad = part("cantilever")
    for regions, message in (
        ({"a": (1,), "b": (2, 1)}, "face 1 is in the regions 'a' and 'b'; allowed is one"),
        ({"a": (8,)}, "region 'a': face 8; the part has faces 1 to 7"),
        ({"rest": (1,)}, "region 'rest' is the name of"),
    ):
        with pytest.raises(MeshError, match=message):
            mesh_solid(cad, regions, MeshOptions(20.0))


def test_cells_that_fold_are_refused():
    """gmsh's optimization of them ends its process, which is not ours."""
    with pytest.raises(MeshError, match="cells of size 15 are too large for the part: a curved cell folds"):
        mesh_solid(part("turned"), {}, MeshOptions(15.0, curvature=6))


def test_a_mesh_of_too_many_cells_is_refused():
    with pytest.raises(MeshError, match=r"cells of size 0.1 make \d.*e\+0\d nodes or more; the limit is 300000"):
        mesh_solid(part("bracket"), {}, MeshOptions(0.1))
    counted = len(mesh_solid(part("cantilever"), {}, MeshOptions(8.0, curvature=0)).mesh.nodes)
    assert 0.3 * counted < estimated_nodes(part("cantilever"), MeshOptions(8.0)) < counted


def test_two_solids_are_refused():
    from OCP.BRep import BRep_Builder
    from OCP.TopoDS import TopoDS_Compound

    compound, builder = TopoDS_Compound(), BRep_Builder()
    builder.MakeCompound(compound)
    box = BRepPrimAPI_MakeBox(1.0, 1.0, 1.0).Shape()
    for shape in (box, BRepBuilderAPI_Copy(box).Shape()):
        builder.Add(compound, shape)
    with pytest.raises(MeshError, match="gmsh found 2 solids"):
        mesh_solid(CadShape(compound), {}, MeshOptions(0.5))


def test_shipped_parts_are_what_the_script_writes(tmp_path):
    write_parts(tmp_path)
    for name in SHIPPED:
        again = read_step(tmp_path / f"{name}.step", "mm")
        assert measure_of(again) == pytest.approx(measure_of(part(name)), rel=1e-9)
        assert len(faces_of(again.shape)) == len(faces_of(part(name).shape))
    with pytest.raises(CadError, match=r"part 'cube'; those that come with the program are bracket, link"):
        shipped_part("cube")


def test_volumes_of_shipped_parts_by_hand():
    assert measure_of(part("ball")) == pytest.approx(1.0, rel=1e-9)
    assert measure_of(part("cantilever")) == pytest.approx(100 * 20 * 30 - math.pi * 36 * 20, rel=1e-9)
    corner = 4 * 10**2 * (1 - math.pi / 4) * 10  # fillet of 10 mm along 40 mm
    bores = 2 * math.pi * 16 * 12 + math.pi * 36 * 12
    assert measure_of(part("bracket")) == pytest.approx(40 * 12 * (80 + 68) + corner - bores, rel=1e-9)
