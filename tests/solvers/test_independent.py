"""The same problems solved by scikit-fem, whose assembly, elements and solver share nothing with dolfinx."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import skfem
from skfem.helpers import ddot, div, dot, grad

from shapewright.solvers.fem.solver import FemSolver
from shapewright.solvers.physics.catalogue import STOKES, Dirichlet, Problem
from tests.solvers.solver_cases import CONDUCTION, zero
from tests.solvers.solver_meshes import bulged, mapped_square

DEGREE = 10


def skfem_mesh(mesh, nodes):
    """scikit-fem's curved mesh on the same nodes and, by side, its boundary facets."""
    vertices = mesh.vertices
    corners = np.searchsorted(vertices, mesh.cells[:, :3])
    straight = skfem.MeshTri1(nodes[vertices].T.copy(), corners.T.copy(), sort_t=False)
    grid = skfem.MeshTri2.from_mesh(straight)
    positions = grid.doflocs.copy()
    positions[:, grid.dofs.element_dofs] = nodes[mesh.cells].transpose(2, 1, 0)
    facet_of = {tuple(sorted(f)): k for k, f in enumerate(grid.facets.T)}
    ends = np.searchsorted(vertices, np.sort(mesh.facets[:, :2]))
    facets = np.array([facet_of[tuple(sorted(pair))] for pair in ends])
    sides = {tag: facets[mesh.facet_tags == k] for k, tag in enumerate(mesh.tag_names)}
    return replace(grid, doflocs=positions), sides


def conduction_by_skfem(mesh, nodes):
    """The values of CONDUCTION's functionals, written out by hand."""
    grid, sides = skfem_mesh(mesh, nodes)
    basis = skfem.Basis(grid, skfem.ElementTriP2(), intorder=DEGREE)
    at = {s: skfem.FacetBasis(grid, skfem.ElementTriP2(), facets=sides[s], intorder=DEGREE) for s in sides}

    def conductivity(x):
        return 1 + 0.4 * np.sin(3 * x[0]) * x[1]

    @skfem.BilinearForm
    def stiffness(u, v, w):
        return conductivity(w.x) * dot(grad(u), grad(v)) + 0.7 * u * v

    @skfem.LinearForm
    def load(v, w):
        return 2 * np.exp(-(w.x[0] ** 2)) * w.x[1] * v

    @skfem.BilinearForm
    def robin(u, v, w):
        return 1.5 * u * v

    @skfem.LinearForm
    def ambient(v, w):
        return 1.5 * np.cos(w.x[0]) * v

    @skfem.LinearForm
    def given_flux(v, w):
        return (w.x[0] * w.n[0] + (0.5 + w.x[0] ** 2) * w.n[1]) * v

    matrix = stiffness.assemble(basis) + robin.assemble(at["top"])
    right = load.assemble(basis) + ambient.assemble(at["top"]) + given_flux.assemble(at["bottom"])
    u = basis.zeros()
    left, hot = basis.get_dofs(sides["left"]).all(), basis.get_dofs(sides["right"]).all()
    x, y = basis.doflocs
    u[left] = np.sin(2 * y[left]) + x[left] ** 2
    u[hot] = 0.3
    u = skfem.solve(*skfem.condense(matrix, right, x=u, D=np.union1d(left, hot)))

    @skfem.Functional
    def misfit(w):
        return (w.u - 0.36 + w.x[0] ** 2) ** 2

    @skfem.Functional
    def heat(w):
        return conductivity(w.x) * dot(grad(w.u), w.n) * (1 + w.x[1])

    @skfem.Functional
    def loss(w):
        return w.u**2 * np.exp(w.x[0])

    @skfem.Functional
    def sweep(w):
        return w.x[0] * w.n[0] ** 2

    @skfem.Functional
    def compliance(w):
        return conductivity(w.x) * dot(grad(w.u), grad(w.u))

    @skfem.Functional
    def area(w):
        return 1.0 + 0 * w.x[0]

    return {
        "misfit": misfit.assemble(basis, u=basis.interpolate(u)),
        "heat": heat.assemble(at["left"], u=at["left"].interpolate(u)),
        "loss": loss.assemble(at["top"], u=at["top"].interpolate(u)),
        "sweep": sweep.assemble(at["bottom"]),
        "compliance": compliance.assemble(basis, u=basis.interpolate(u)),
        "area": area.assemble(basis),
    }


def test_conduction_values_agree_with_scikit_fem():
    mesh = mapped_square(5, bulged)
    ours = FemSolver(CONDUCTION, mesh, quadrature_degree=DEGREE).solve().values
    assert ours == pytest.approx(conduction_by_skfem(mesh, mesh.nodes), rel=2e-7)


def test_conduction_gradients_agree_with_differences_of_scikit_fem():
    """Value and gradient of different programs: a mistake they share would have to be made twice."""
    mesh = mapped_square(3, bulged)
    x, y = mesh.nodes.T
    velocity = np.stack([np.sin(2 * y) + x * y, np.cos(x) - y**2], -1)
    step = 1e-4
    ahead = conduction_by_skfem(mesh, mesh.nodes + step * velocity)
    behind = conduction_by_skfem(mesh, mesh.nodes - step * velocity)
    solution = FemSolver(CONDUCTION, mesh, quadrature_degree=DEGREE).solve()
    for name in solution.values:
        difference = (ahead[name] - behind[name]) / (2 * step)
        assert (solution.gradient(name) * velocity).sum() == pytest.approx(difference, rel=2e-5, abs=1e-8), (
            name
        )


def stokes_dissipation_by_skfem(n):
    """Flow between no-slip walls, on scikit-fem's own crossed grid of the straight unit square."""
    grid = skfem.MeshTri.init_sqsymmetric().refined(int(np.log2(n)))
    velocity = skfem.Basis(grid, skfem.ElementVector(skfem.ElementTriP2()), intorder=6)
    pressure = velocity.with_element(skfem.ElementTriP1())

    @skfem.BilinearForm
    def viscous(u, v, w):
        return ddot(grad(u), grad(v))

    @skfem.BilinearForm
    def divergence(u, q, w):
        return -div(u) * q

    a, b = viscous.assemble(velocity), divergence.assemble(velocity, pressure)
    matrix = skfem.bmat([[a, b.T], [b, None]], "csr")
    walls = velocity.get_dofs(lambda x: np.isclose(x[1] * (1 - x[1]), 0)).all()
    inlet = velocity.get_dofs(lambda x: np.isclose(x[0], 0))
    state = np.zeros(matrix.shape[0])
    along = inlet.all(["u^1"])
    state[along] = np.sin(np.pi * velocity.doflocs[1, along]) ** 2 * (1 + velocity.doflocs[1, along])
    state[walls] = 0.0
    fixed = np.union1d(walls, inlet.all())
    state = skfem.solve(*skfem.condense(matrix, np.zeros(len(state)), x=state, D=fixed))
    u = state[: velocity.N]
    return u @ a @ u


def test_stokes_dissipation_agrees_with_scikit_fem_on_another_mesh():
    problem = Problem(
        STOKES,
        dirichlet=(
            Dirichlet("u", "left", lambda ops, q: ops.sin(np.pi * q["y"]) ** 2 * (1 + q["y"])),
            Dirichlet("v", "left", zero),
            *(Dirichlet(c, wall, zero) for wall in ("top", "bottom") for c in "uv"),
        ),
        functionals=(STOKES.functional("dissipation"),),
    )
    ours = FemSolver(problem, mapped_square(14)).solve().values["dissipation"]
    assert ours == pytest.approx(stokes_dissipation_by_skfem(8), rel=2e-4)
