"""Deformed solids: valid CAD that reads back, kept faces as they were, everything else where the map takes it."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from OCP.BRepCheck import BRepCheck_Analyzer
from OCP.Geom import Geom_CylindricalSurface, Geom_Plane, Geom_SphericalSurface
from OCP.gp import gp_Ax3, gp_Dir, gp_Pnt

from shapewright.geometries.cad.compare import distances, match_faces, read_back
from shapewright.geometries.cad.deform import TOLERANCE, Deformed, deform
from shapewright.geometries.cad.faces import box_of, describe, faces_of
from shapewright.geometries.cad.originals import fit_box
from shapewright.geometries.cad.shipped import SHIPPED
from shapewright.geometries.cad.solid_mesher import MeshOptions, mesh_solid
from shapewright.geometries.cad.spline_fit import Axis, Fit, FitError, fit_all
from shapewright.geometries.cad.step import CadError, CadShape, measure_of, write_step
from shapewright.geometries.design.solid_map import pulled_back
from shapewright.geometries.family.outlines import ShapeError
from shapewright.geometries.mesh.integration import cell_points
from tests.geometries.solids import KEPT, SIZES, design, form, part, solid_map, solid_mesh

PARTS = pytest.mark.parametrize("name", SHIPPED)
SEED = 3


def images(name: str, seed: int = SEED, share: float = 1.0):
    """The map of a design of a part, for arrays."""
    theta = design(form(name), seed, share)
    return lambda points: form(name).moved(theta, torch.from_numpy(points)).numpy()


@cache
def deformed(name: str) -> Deformed:
    """A part deformed by up to 8 % of its size."""
    return deform(part(name), images(name), KEPT[name])


def size_of(cad: CadShape) -> float:
    low, high = box_of(cad.shape)
    return float(np.linalg.norm(high - low)) / cad.factor


@PARTS
def test_the_file_holds_a_valid_solid_with_the_kept_faces_as_they_were(name, tmp_path):
    """And the nodes of the moved mesh lie on its faces, within the tolerance of the fits."""
    found, path = deformed(name), tmp_path / "part.step"
    write_step(found.cad, path, "mm")
    again = read_back(path, "mm", part(name), found)
    assert again.valid
    assert again.kept
    assert again.kept_distance < 1e-9 * size_of(part(name))
    assert set(KEPT[name]) <= set(found.kept)
    assert len(found.kept) < len(faces_of(part(name).shape))
    assert found.deviation < TOLERANCE * size_of(part(name))
    mesh = solid_mesh(name)
    moved = solid_map(name).nodes(design(form(name), SEED)).numpy()
    assert again.volume == pytest.approx(_volume(mesh.mesh, moved), rel=8e-3)  # the coarse mesh is not exact
    some = np.arange(0, len(mesh.mesh.facets), 1 + len(mesh.mesh.facets) // 25)
    numbers = again.numbers[mesh.facet_faces[some] - 1]
    corners = moved[mesh.mesh.facets[some, 0]]
    assert distances(again.cad, numbers, corners).max() < TOLERANCE * size_of(part(name))


def _volume(mesh, nodes: np.ndarray) -> float:
    return float(cell_points(mesh, torch.from_numpy(nodes)).weights.sum())


@pytest.mark.parametrize("name", ["link", "ball"])
def test_volume_of_the_deformed_cad_is_the_integral_of_the_determinant(name):
    """Against quadrature of det grad F over the undeformed part, on a mesh that knows nothing of the new CAD."""
    size = 0.5 * SIZES[name]
    points = cell_points(mesh := mesh_solid(part(name), {}, MeshOptions(size)).mesh, torch.from_numpy(mesh.nodes))
    theta = design(form(name), SEED)
    values = form(name).determinants(theta, points.points.flatten(0, -2)).reshape(points.weights.shape)
    expected = float((points.weights * values).sum() / points.weights.sum()) * measure_of(part(name))
    assert measure_of(deformed(name).cad) == pytest.approx(expected, rel=5e-4)


def test_the_identity_keeps_every_surface():
    found = deform(part("turned"), lambda points: points)
    assert found.kept == tuple(range(1, 9))
    assert found.poles == 0
    assert found.deviation == 0.0
    assert measure_of(found.cad) == pytest.approx(measure_of(part("turned")), rel=1e-12)


def test_an_affine_map_has_its_volume_and_centroids():
    """Degree 5 holds the image of a plane exactly, and a turned cylinder to the tolerance."""
    matrix = np.array([[1.1, 0.2, 0.0], [0.0, 0.9, 0.1], [-0.1, 0.0, 1.2]])
    found = deform(part("cantilever"), lambda points: points @ matrix.T + [1.0, 2.0, 3.0])
    assert BRepCheck_Analyzer(found.cad.shape).IsValid()
    assert measure_of(found.cad) == pytest.approx(np.linalg.det(matrix) * measure_of(part("cantilever")), rel=1e-6)
    plane = describe(faces_of(part("cantilever").shape)[0], 1, 1.0)
    moved = describe(faces_of(found.cad.shape)[0], 1, 1.0)
    assert moved.centroid == pytest.approx(tuple(matrix @ plane.centroid + [1.0, 2.0, 3.0]), abs=1e-4)


def test_a_tighter_tolerance_is_met_with_more_poles():
    tight = deform(part("link"), images("link"), tolerance=1e-6)
    assert tight.deviation < 1e-6 * size_of(part("link"))
    assert tight.poles > deformed("link").poles


def test_a_part_in_metres_is_deformed_as_in_millimetres(tmp_path):
    """Coordinates 1024 times those of the study: the map is asked in metres."""
    from shapewright.geometries.cad.shipped import shipped_part
    from shapewright.geometries.cad.step import read_step

    cad = read_step(shipped_part("cantilever"), "m", 1024.0)
    found = deform(cad, lambda points: images("cantilever")(1000 * points) / 1000, KEPT["cantilever"])
    assert KEPT["cantilever"][0] in found.kept
    assert measure_of(found.cad) == pytest.approx(1e-9 * measure_of(deformed("cantilever").cad), rel=1e-6)
    write_step(found.cad, tmp_path / "part.step", "m")
    assert read_back(tmp_path / "part.step", "m", cad, found).valid


def test_a_face_that_must_stay_but_moves_is_refused():
    with pytest.raises(CadError, match="face 1 must stay, but the map moves its edges; it needs a keep zone around it"):
        deform(part("cantilever"), images("cantilever"), (1,))


def test_a_map_that_is_too_wild_for_the_fit_names_the_face():
    def kinked(points: np.ndarray) -> np.ndarray:
        jump = np.where(points[:, :1] + points[:, 1:2] > 50.123, 0.5, 0.0)
        return points + np.array([0.0, 0.0, 1.0]) * jump

    with pytest.raises(CadError, match=r"(edge|face) \d+.* would need more than 200 spans of a B-spline: the error is"):
        deform(part("cantilever"), kinked)


def test_faces_are_found_again_whatever_their_order():
    cad = part("bracket")
    assert match_faces(cad, cad).tolist() == list(range(1, 13))
    with pytest.raises(CadError, match="the solid read back has 7 faces; 12 were written"):
        match_faces(cad, part("cantilever"))
    with pytest.raises(CadError, match=r"face \d+ was not found in the solid read back"):
        match_faces(deformed("bracket").cad, cad)


def test_a_fresh_mesh_is_pulled_back():
    """At the design itself its nodes are those of the fresh mesh; nodes on kept faces do not move."""
    name = "cantilever"
    theta = design(form(name), SEED)
    fresh = mesh_solid(deformed(name).cad, {"kept": KEPT[name]}, MeshOptions(SIZES[name]))
    mapped = pulled_back(form(name), theta, fresh.mesh)
    torch.testing.assert_close(mapped.nodes(theta), torch.from_numpy(fresh.mesh.nodes), rtol=0, atol=1e-10)
    kept = np.unique(fresh.mesh.facets_on("kept"))
    assert np.array_equal(mapped.mesh.nodes[kept], fresh.mesh.nodes[kept])
    assert _volume(mapped.mesh, mapped.mesh.nodes) == pytest.approx(measure_of(part(name)), rel=2e-3)
    with pytest.raises(ShapeError, match=r"inverse of the deformation|pulled-back mesh"):
        pulled_back(form(name), -8 * theta, fresh.mesh)


def test_parameters_on_which_a_face_is_fitted():
    """One period of a whole turn, all of a thread of two turns, and a little more along a cylinder and of a plane."""
    axes = gp_Ax3(gp_Pnt(0, 0, 0), gp_Dir(0, 0, 1))
    cylinder, turn = Geom_CylindricalSurface(axes, 3.0), 2 * np.pi
    assert fit_box(cylinder, (0.5, 0.5 + turn * (1 + 1e-9), 0.0, 10.0)) == (0.5, 0.5 + turn, -0.1, 10.1)
    assert fit_box(cylinder, (-6.1, 6.1, 0.0, 10.0)) == (-6.1, 6.1, -0.1, 10.1)
    assert fit_box(cylinder, (0.0, 1.0, 0.0, 10.0)) == (0.0, 1.0, -0.1, 10.1)
    assert fit_box(Geom_Plane(axes), (0.0, 1.0, 0.0, 10.0)) == (-0.01, 1.01, -0.1, 10.1)
    assert fit_box(Geom_SphericalSurface(axes, 3.0), (0.0, turn, -np.pi / 2, 1.0))[2:] == (-np.pi / 2, 1.0)


def test_fits_of_order_six():
    """Interpolation of degree 5 at Greville points: halving all spans takes the error down by 2^6."""
    errors = []
    for spans in (4, 8, 16):
        axis = Axis(tuple(np.linspace(0, 1, spans + 1)), (1,) * (spans - 1))
        fit = Fit("curve", (axis,), lambda t: np.concatenate([np.sin(6 * t), t, t**2], 1), 1e9, np.zeros((0, 1)))
        fit_all([fit], lambda points: points)
        errors.append(fit.error)
    assert np.log2(np.array(errors[:-1]) / errors[1:]) == pytest.approx(6, abs=0.8)


def test_a_corner_is_kept_by_a_multiple_knot():
    """A curve that is only continuous at 1/2 is fitted exactly where the knot says so, and not at all otherwise."""
    def corner(t: np.ndarray) -> np.ndarray:
        return np.concatenate([t, abs(t - 0.5), 0 * t], 1)

    for multiplicity in (5, 1):
        fit = Fit("curve", (Axis((0.0, 0.5, 1.0), (multiplicity,)),), corner, 1e-12, np.zeros((0, 1)))
        if multiplicity == 5:
            fit_all([fit], lambda points: points)
            assert fit.error < 1e-14
            assert fit.at(np.array([[0.25]]))[0] == pytest.approx([0.25, 0.25, 0.0])
        else:
            fit.update(fit.points())
            assert not fit.done
            assert len(fit.axes[0].breaks) > 3


def test_too_many_spans():
    fit = Fit("curve", (Axis((0.0, 1.0), ()),), lambda t: np.concatenate([t > 0.3] * 3, 1), 1e-6, np.zeros((0, 1)))
    with pytest.raises(FitError, match="curve would need more than 200 spans"):
        fit_all([fit], lambda points: points)
