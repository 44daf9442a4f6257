"""Promise: an optimum's certificate agrees with another finite-element code on the same STEP file to 0.1 %.

scikit-fem on a mesh that gmsh makes here, by calls written out anew: it shares with the certificate the CAD file and
nothing else. Both would be misled by a STEP file that is not the design; its own checks are in ``test_export``.
"""

import math
from pathlib import Path

import gmsh
import numpy as np
import pytest
import skfem
from skfem.helpers import ddot, dot, grad, sym_grad, trace

from shapewright.studies.problem.setup import build_setup
from shapewright.studies.run.pipeline import Run, validate
from shapewright.studies.run.workspace import Workspace
from shapewright.studies.schema.loader import load_study

STUDIES = Path(__file__).parents[2] / "studies"


def meshed(step, size, unit, plate=None):
    """Second-order mesh of the face at z = 0 of a STEP file, or of a square plate of a width with it cut out.

    Cells have the given size on the part's outline and grow by three tenths of the distance from it.
    """
    gmsh.initialize(readConfigFiles=False)
    try:
        gmsh.option.setNumber("General.Terminal", 0)
        gmsh.option.setString("Geometry.OCCTargetUnit", unit)
        occ = gmsh.model.occ
        occ.importShapes(str(step))
        occ.synchronize()
        boxes = {face: gmsh.model.getBoundingBox(*face) for face in gmsh.model.getEntities(2)}
        (face,) = occ.copy([face for face, box in boxes.items() if max(abs(box[2]), abs(box[5])) < 1e-6])
        occ.remove(occ.getEntities(3), recursive=True)
        occ.remove([f for f in occ.getEntities(2) if f != face], recursive=True)
        if plate is not None:
            occ.cut([(2, occ.addRectangle(-plate / 2, -plate / 2, 0, plate, plate))], [face])
        occ.synchronize()
        curves = [tag for _, tag in gmsh.model.getEntities(1) if gmsh.model.getType(1, tag) != "Line"]
        distance, growth = gmsh.model.mesh.field.add("Distance"), gmsh.model.mesh.field.add("MathEval")
        gmsh.model.mesh.field.setNumbers(distance, "CurvesList", curves)
        gmsh.model.mesh.field.setNumber(distance, "Sampling", 400)
        gmsh.model.mesh.field.setString(growth, "F", f"{size} + 0.3 * F{distance}")
        gmsh.model.mesh.field.setAsBackgroundMesh(growth)
        gmsh.option.setNumber("Mesh.MeshSizeExtendFromBoundary", 0)
        gmsh.option.setNumber("Mesh.MeshSizeFromPoints", 0)
        gmsh.model.mesh.generate(2)
        gmsh.model.mesh.setOrder(2)
        tags, points, _ = gmsh.model.mesh.getNodes()
        _, cells = gmsh.model.mesh.getElementsByType(9)
    finally:
        gmsh.finalize()
    used, cells = np.unique(cells, return_inverse=True)
    order = np.argsort(tags)
    rows = order[np.searchsorted(tags, used, sorter=order)]
    return skfem.MeshTri2(points.reshape(-1, 3)[rows, :2].T, cells.reshape(-1, 6).T)


def certified(study, folder, *overrides):
    """The certificate's value at the optimum of a shipped study, found by finite elements, and the STEP file."""
    on_fem = ("optimizer.on=fem", "optimizer.method=slsqp", "optimizer.starts=1")
    run = Run(build_setup(load_study(STUDIES / f"{study}.yaml", (*on_fem, *overrides))), Workspace(folder))
    certificate = validate(run)
    assert certificate["accepted"], certificate["reasons"]
    return certificate["objective"]["fem_extrapolated"], folder / "optimum.step"


def test_torsional_constant_of_the_best_bar(tmp_path):
    ours, step = certified("torsion", tmp_path, "geometry.mesh_size=0.25")
    basis = skfem.Basis(meshed(step, 0.04, "M"), skfem.ElementTriP2(), intorder=6)
    laplace = skfem.BilinearForm(lambda u, v, w: dot(grad(u), grad(v))).assemble(basis)
    load = skfem.LinearForm(lambda v, w: 2.0 * v).assemble(basis)
    stress = skfem.solve(*skfem.condense(laplace, load, D=basis.get_dofs()))
    assert load @ stress == pytest.approx(ours, rel=1e-3)


def test_smooth_peak_of_the_hoop_stress_at_the_best_hole(tmp_path):
    """1/30 log int exp(30 s), with the stress of quadratic displacements."""
    ours, step = certified("plate_hole", tmp_path)
    grid = meshed(step, 0.04, "MM", plate=12.0)
    element, nu = skfem.ElementVector(skfem.ElementTriP2()), 0.3
    basis = skfem.Basis(grid, element, intorder=6)
    outer = grid.facets_satisfying(lambda x: np.abs(x).max(0) > 6 - 1e-6, boundaries_only=True)
    hole = np.setdiff1d(grid.boundary_facets(), outer)

    @skfem.BilinearForm
    def stiffness(u, v, w):
        a, b = sym_grad(u), sym_grad(v)
        return ddot(a, b) / (1 + nu) + nu / (1 - nu**2) * trace(a) * trace(b)

    spring = skfem.BilinearForm(lambda u, v, w: 5e-8 * dot(u, v))
    pull = skfem.LinearForm(lambda v, w: 2 * w.n[0] * v[0] + w.n[1] * v[1])
    edge, rim = (skfem.FacetBasis(grid, element, facets=facets, intorder=8) for facets in (outer, hole))
    moved = skfem.solve(stiffness.assemble(basis) + spring.assemble(edge), pull.assemble(edge))

    @skfem.Functional
    def exponential(w):
        strain, along = sym_grad(w["u"]), np.stack([-w.n[1], w.n[0]])
        stretch = np.einsum("i...,ij...,j...", along, strain, along)
        hoop = stretch / (1 + nu) + nu / (1 - nu**2) * trace(strain)
        return np.exp(30 * hoop)

    theirs = math.log(exponential.assemble(rim, u=rim.interpolate(moved))) / 30
    assert theirs == pytest.approx(ours, rel=1e-3)
