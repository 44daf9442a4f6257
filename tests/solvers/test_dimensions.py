"""Promise: each physics is written once and right in space too, where no solver of ours checks it yet.

Formulas are evaluated at random quantities by torch, against tensors written out or their own derivatives.
"""

from __future__ import annotations

import math

import pytest
import torch

from shapewright.geometries.fields import names
from shapewright.geometries.fields.problem import ProblemError
from shapewright.solvers.physics.catalogue import PHYSICS
from shapewright.solvers.physics.elasticity import PLANE_STRAIN_LAW, SPATIAL_LAW, elasticity
from shapewright.solvers.physics.hyperelasticity import hyperelasticity
from shapewright.solvers.physics.navier_stokes import navier_stokes
from shapewright.solvers.physics.poisson import nonlinear_poisson, poisson
from shapewright.solvers.physics.stokes import stokes

SPATIAL = {make.__name__: make(dimension=3) for make in
           (poisson, nonlinear_poisson, stokes, navier_stokes, elasticity, hyperelasticity)}  # fmt: skip
EYE = torch.eye(3, dtype=torch.float64)


def random_quantities(physics, seed=0, size=0.2):
    """Every quantity that the physics knows, at 7 points; coefficients have their defaults."""
    generator = torch.Generator().manual_seed(seed)
    q = {name: size * torch.randn(7, generator=generator, dtype=torch.float64) for name in physics.quantities}
    return q | {c.name: torch.tensor(c.default, dtype=torch.float64) for c in physics.coefficients}


def with_gradient(physics, q, gradient):
    """The quantities with the gradient (3, 3) of the vector field."""
    rows = zip(names.vector(3), gradient, strict=True)
    return q | {slope: value for c, row in rows for slope, value in zip(names.derivatives(c, 3), row, strict=True)}


def gradient_of(q):
    """(7, 3, 3) of the vector field."""
    return torch.stack([torch.stack([q[s] for s in names.derivatives(c, 3)], -1) for c in names.vector(3)], -2)


def stacked(by_component):
    """(7, 3, 3) of the rows of the vector field."""
    return torch.stack([torch.stack(list(by_component[c]), -1) for c in names.vector(3)], -2)


def rotation():
    return torch.linalg.matrix_exp(torch.tensor([[0.0, -0.4, 0.3], [0.4, 0.0, -0.7], [-0.3, 0.7, 0.0]]).double())


@pytest.mark.parametrize("name", SPATIAL)
def test_names_and_shapes(name):
    physics, q = SPATIAL[name], random_quantities(SPATIAL[name])
    vector = ("u",) if "poisson" in name else ("u", "v", "w")
    assert physics.components == ((*vector, "p") if "stokes" in name else vector)
    assert physics.coordinates == ("x", "y", "z")
    flux = physics.flux(torch, q)
    assert set(flux) == set(vector)
    assert all(len(row) == 3 and all(part.shape == (7,) for part in row) for row in flux.values())
    assert set(physics.source(torch, q)) <= set(physics.components)
    for functional in physics.functionals:
        value = torch.as_tensor(functional.integrand(torch, q))
        assert value.isfinite().all(), functional.name
        assert value.shape in ((), (7,))
    assert "volume" in {functional.name for functional in physics.functionals}
    assert "per unit depth" not in " ".join(f.description for f in physics.functionals)


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("make", [poisson, elasticity, hyperelasticity, nonlinear_poisson])
def test_the_first_variation_of_the_energy_is_the_flux(make, dimension):
    """d energy / d (derivatives of a component) is its flux; Kirchhoff's energy is tested with A'(u) times as much."""
    physics = make(dimension=dimension)
    q = random_quantities(physics, size=0.1)
    slopes = [s for c in physics.components for s in names.derivatives(c, dimension)]
    asked = [*slopes, *physics.components]
    q |= {name: q[name].clone().requires_grad_() for name in asked}
    found = dict(zip(asked, torch.autograd.grad(physics.energy(torch, q).sum(), [q[n] for n in asked]), strict=True))
    factor = 1 + q["nonlinearity"] * q["u"] ** 2 if make is nonlinear_poisson else 1.0
    for component, row in physics.flux(torch, q).items():
        for slope, part in zip(names.derivatives(component, dimension), row, strict=True):
            torch.testing.assert_close(found[slope], (factor * part).detach(), rtol=1e-12, atol=1e-13)
        if make is not nonlinear_poisson:
            torch.testing.assert_close(found[component], -q[names.source(component)])


def test_hooke_s_law_is_that_of_the_stiffness_tensor():
    physics = SPATIAL["elasticity"]
    q = random_quantities(physics) | {"youngs_modulus": 2.5, "poisson_ratio": 0.3}
    lame, mu = 2.5 * 0.3 / (1.3 * 0.4), 2.5 / 2.6
    stiffness = lame * torch.einsum("ij,kl->ijkl", EYE, EYE)
    stiffness += mu * (torch.einsum("ik,jl->ijkl", EYE, EYE) + torch.einsum("il,jk->ijkl", EYE, EYE))
    expected = torch.einsum("ijkl,pkl->pij", stiffness, gradient_of(q))
    torch.testing.assert_close(stacked(physics.flux(torch, q)), expected)
    work = torch.einsum("pij,pij->p", expected, gradient_of(q))
    torch.testing.assert_close(physics.functional("compliance").integrand(torch, q), work)


def test_plane_strain_is_a_solid_without_motion_along_it():
    q = random_quantities(SPATIAL["elasticity"])
    still = dict.fromkeys(("w", "w_x", "w_y", "w_z", "u_z", "v_z"), torch.zeros(7, dtype=torch.float64))
    plane, solid = elasticity(2, PLANE_STRAIN_LAW), SPATIAL["elasticity"]
    in_plane, in_space = plane.flux(torch, q), solid.flux(torch, q | still)
    for component, row in in_plane.items():
        for found, expected in zip(row, in_space[component], strict=False):
            torch.testing.assert_close(found, expected)
    von_mises = [next(d for d in p.derived if d.name == "von_mises").value for p in (plane, solid)]
    torch.testing.assert_close(von_mises[0](torch, q), von_mises[1](torch, q | still))


@pytest.mark.parametrize(
    ("strain", "expected"),
    [([1.0, 1.0, 1.0], 0.0), ([1.0, -0.3, -0.3], 1.0), ([1.0, -1.0, 0.0], math.sqrt(3) / 1.3)],
)
def test_von_mises_stress_of_known_states(strain, expected):
    """Hydrostatic, uniaxial, shear; in turned axes the same (Young's modulus 1, Poisson's ratio 0.3)."""
    physics = SPATIAL["elasticity"]
    value = physics.derived[0].value
    tensor = torch.diag(torch.tensor(strain, dtype=torch.float64))
    for gradient in (tensor, rotation() @ tensor @ rotation().mT):
        q = with_gradient(physics, random_quantities(physics), gradient)
        assert float(value(torch, q)) == pytest.approx(expected, abs=1e-7)


def test_names_of_the_stress():
    assert [d.name for d in SPATIAL["elasticity"].derived] == [
        "von_mises", "stress_xx", "stress_yy", "stress_zz", "stress_xy", "stress_xz", "stress_yz",
    ]  # fmt: skip
    assert [d.name for d in PHYSICS["plane_stress"].derived] == ["von_mises", "stress_xx", "stress_yy", "stress_xy"]


def test_the_energy_of_a_turned_body_is_that_of_the_body():
    physics = SPATIAL["hyperelasticity"]
    q = random_quantities(physics)
    turned = rotation() @ (EYE + gradient_of(q)) - EYE
    energy = physics.functional("strain_energy").integrand
    turned_q = with_gradient(physics, q, turned.permute(1, 2, 0))
    torch.testing.assert_close(energy(torch, turned_q), energy(torch, q))
    volume = torch.linalg.det(EYE + gradient_of(q))
    torch.testing.assert_close(physics.admissible(torch, q), volume)


def test_small_deformation_is_hooke_s():
    """P / h towards sigma as the gradient h G shrinks, with the same two moduli; and no stress at rest."""
    hyper, linear = SPATIAL["hyperelasticity"], SPATIAL["elasticity"]
    q = random_quantities(hyper) | {"poisson_ratio": 0.3}
    gradient, h = gradient_of(q).permute(1, 2, 0), 1e-6
    small = with_gradient(hyper, q, h * gradient)
    expected = stacked(linear.flux(torch, random_quantities(linear) | with_gradient(linear, q, gradient)))
    torch.testing.assert_close(stacked(hyper.flux(torch, small)) / h, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["stokes", "navier_stokes", "elasticity"])
def test_the_stress_is_symmetric(name):
    stress = stacked(SPATIAL[name].traction(torch, random_quantities(SPATIAL[name])))
    torch.testing.assert_close(stress, stress.mT)


def test_flux_and_traction_of_a_flow():
    physics = SPATIAL["stokes"]
    q = random_quantities(physics) | {"viscosity": 0.7}
    slope, pressure = gradient_of(q), q["p"][:, None, None] * EYE
    torch.testing.assert_close(stacked(physics.flux(torch, q)), 0.7 * slope - pressure)
    torch.testing.assert_close(stacked(physics.traction(torch, q)), 0.7 * (slope + slope.mT) - pressure)
    divergence = torch.einsum("pii->p", slope)
    torch.testing.assert_close(physics.source(torch, q)["p"], divergence)
    dissipation = physics.functional("dissipation").integrand(torch, q)
    torch.testing.assert_close(dissipation, 0.7 * (slope**2).sum((1, 2)))
    normal = torch.stack([q[n] for n in names.normal(3)], -1)
    drag = -torch.einsum("pij,pj->pi", stacked(physics.flux(torch, q)), normal)[:, 0]
    torch.testing.assert_close(physics.functional("drag").integrand(torch, q), drag)


def test_convection_and_forces_along_all_coordinates():
    physics = SPATIAL["navier_stokes"]
    q = random_quantities(physics) | {"density": 1.7}
    velocity = torch.stack([q[c] for c in names.vector(3)], -1)
    inertia = -1.7 * torch.einsum("pij,pj->pi", gradient_of(q), velocity)
    source = physics.source(torch, q)
    torch.testing.assert_close(torch.stack([source[c] for c in names.vector(3)], -1), inertia)
    slope = torch.stack([q[s] for s in names.derivatives(names.LIFTING, 3)], -1)
    tested = torch.einsum("pij,pj->pi", stacked(physics.flux(torch, q)), slope)
    for k, (force, c) in enumerate(zip(("drag", "lift", "side_force"), "uvw", strict=True)):
        expected = (inertia[:, k] + q[f"source_{c}"]) * q["lifting"] - tested[:, k]
        torch.testing.assert_close(physics.functional(force).integrand(torch, q), expected)


def test_vorticity_of_a_rigid_rotation_is_twice_its_rate():
    physics = SPATIAL["stokes"]
    rate = torch.tensor([0.3, -0.5, 0.8], dtype=torch.float64)
    turning = torch.linalg.cross(rate.expand(3, 3), EYE, dim=-1).mT  # velocity = rate x position
    q = with_gradient(physics, random_quantities(physics), turning)
    assert [d.name for d in physics.derived] == ["vorticity_x", "vorticity_y", "vorticity_z"]
    assert [float(d.value(torch, q)) for d in physics.derived] == pytest.approx((2 * rate).tolist())


@pytest.mark.parametrize("make", [poisson, stokes, elasticity, hyperelasticity])
def test_other_dimensions_are_refused(make):
    with pytest.raises(ProblemError, match="the dimension of a physics is 4; allowed are 2 and 3"):
        make(dimension=4)


def test_a_law_belongs_to_its_dimension():
    with pytest.raises(ProblemError, match="plane_strain: dimension is 3; allowed is 2"):
        elasticity(3, PLANE_STRAIN_LAW)
    with pytest.raises(ProblemError, match="elasticity: dimension is 2; allowed is 3"):
        elasticity(2, SPATIAL_LAW)
