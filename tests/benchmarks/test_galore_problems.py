"""Data of the Tensor-GaLore benchmark are solutions: against dolfinx, exact flows, orders, the energy balance."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import ufl
from mpi4py import MPI

from benchmarks import darcy_flow, vorticity
from benchmarks.vorticity import Flow
from shapewright.solvers.fem.backend import fem, fem_petsc, mesh


def by_dolfinx(medium):
    """Mean pressure in each square of the medium, with quadratic elements on its two halves."""
    n = len(medium)
    grid = mesh.create_unit_square(MPI.COMM_SELF, n, n)
    constants, space = fem.functionspace(grid, ("DG", 0)), fem.functionspace(grid, ("P", 2))
    a = fem.Function(constants)
    place = (constants.tabulate_dof_coordinates()[:, :2] * n).astype(int)
    a.x.array[:] = medium[place[:, 0], place[:, 1]]
    u, v = ufl.TrialFunction(space), ufl.TestFunction(space)
    grid.topology.create_connectivity(1, 2)
    edge = fem.locate_dofs_topological(space, 1, mesh.exterior_facet_indices(grid.topology))
    problem = fem_petsc.LinearProblem(
        a * ufl.inner(ufl.grad(u), ufl.grad(v)) * ufl.dx,
        fem.Constant(grid, 1.0) * v * ufl.dx,
        bcs=[fem.dirichletbc(0.0, edge, space)],
        petsc_options_prefix="darcy_",
        petsc_options={"ksp_type": "preonly", "pc_type": "lu"},
    )
    integrals = fem.assemble_vector(fem.form(problem.solve() * ufl.TestFunction(constants) * ufl.dx)).array
    means = np.zeros((n, n))
    np.add.at(means, tuple(place.T), integrals * n**2)
    return means


def on_squares(field, n):
    """Means of a field over n by n squares."""
    k = len(field) // n
    return field.reshape(n, k, n, k).mean((1, 3))


@pytest.mark.parametrize("index", [0, 1])
def test_darcy_pressure_is_that_of_dolfinx(index):
    """On the medium cut finer and finer the finite volumes come to the finite elements' field, square by square."""
    medium = darcy_flow.permeability(2, 32, seed=5)[index]
    truth = on_squares(by_dolfinx(np.kron(medium, np.ones((4, 4)))), 32)
    found = [on_squares(darcy_flow.pressure(np.kron(medium, np.ones((k, k)))), 32) for k in (1, 2, 4)]
    errors = [np.linalg.norm(field - truth) / np.linalg.norm(truth) for field in found]
    assert errors[0] < 0.02
    assert errors[1] < 0.75 * errors[0]
    assert errors[2] < 0.5 * errors[1]


def test_darcy_order_in_a_smooth_medium():
    def mean_pressure(n):
        x = (np.arange(n) + 0.5) / n
        return darcy_flow.pressure(np.exp(np.sin(3 * x)[:, None] * np.cos(2 * x))).mean()

    coarse, middle, fine = (mean_pressure(n) for n in (16, 32, 64))
    assert math.log2((coarse - middle) / (middle - fine)) == pytest.approx(2, abs=0.1)


def test_darcy_samples_are_seeded_and_of_two_values_that_do_not_depend_on_the_resolution():
    coarse, fine = darcy_flow.permeability(3, 32, seed=7), darcy_flow.permeability(3, 64, seed=7)
    assert set(np.unique(fine)) == set(darcy_flow.PERMEABILITIES)
    assert np.mean(fine[:, ::2, ::2] != coarse) < 0.05  # only next to interfaces
    first, second = (darcy_flow.samples(2, 32, seed=3) for _ in range(2))
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[1], darcy_flow.samples(2, 32, seed=4)[1])


def test_taylor_green_vortices_decay_exactly():
    flow = Flow(32, 1e-2)
    x, y = flow.points()
    wave = torch.cos(4 * math.pi * x) * torch.cos(4 * math.pi * y)
    decay = math.exp(-1e-2 * 2 * (4 * math.pi) ** 2 * 0.3)
    torch.testing.assert_close(flow.evolve(wave[None], 0.3, 20)[0], decay * wave, rtol=0, atol=1e-13)


def test_time_stepping_is_of_order_four():
    flow, start = Flow(48, 1e-3), 4 * vorticity.initial(1, 48, seed=2)
    truth = flow.evolve(start, 2.0, 640, flow.force())
    errors = [float((flow.evolve(start, 2.0, n, flow.force()) - truth).norm()) for n in (20, 40, 80)]
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert min(orders) == pytest.approx(4, abs=0.3)


@pytest.mark.parametrize("viscosity", [1e-3, 1e-4])
def test_energy_changes_by_what_the_force_puts_in_and_viscosity_takes(viscosity):
    """dE/dt = integral of psi g - nu w^2, integrated in time by Simpson's rule."""
    flow = Flow(64, viscosity)
    force, steps, dt = flow.force(), 40, 0.05
    w, energies, rates = vorticity.initial(1, 64, seed=1), [], []
    for _ in range(steps + 1):
        psi = flow.stream_function(w)
        energies.append(float((psi * w).mean() / 2))
        rates.append(float((psi * force - viscosity * w**2).mean()))
        w = flow.evolve(w, dt, 4, force)
    simpson = dt / 3 * (rates[0] + rates[-1] + 4 * sum(rates[1:-1:2]) + 2 * sum(rates[2:-1:2]))
    assert energies[-1] - energies[0] == pytest.approx(simpson, rel=1e-6)
    assert abs(energies[-1] / energies[0] - 1) > 0.05


def test_vorticity_samples_do_not_depend_on_the_resolution():
    coarse, fine = vorticity.initial(2, 48, seed=1), vorticity.initial(2, 96, seed=1)
    torch.testing.assert_close(fine[:, ::2, ::2], coarse)
    assert float(coarse.mean().abs()) < 1e-15


def test_shipped_steps_and_resolution_of_the_flow_are_fine_enough():
    flow, start = Flow(64, 1e-4), vorticity.initial(1, 64, seed=0)
    found = flow.evolve(start, vorticity.TIME, vorticity.STEPS, flow.force())
    finer = Flow(96, 1e-4)
    truth = finer.evolve(vorticity.initial(1, 96, seed=0), vorticity.TIME, 2 * vorticity.STEPS, finer.force())
    assert float((found[:, ::2, ::2] - truth[:, ::3, ::3]).norm() / truth[:, ::3, ::3].norm()) < 2e-3
