"""Promise: losses without solutions are least, and their slope zero, at what the finite-element solver finds."""

from functools import partial

import numpy as np
import pytest
import torch

from shapewright.geometries.mesh.integration import cell_points
from shapewright.geometries.mesh.stiffness import weighted_stiffness
from shapewright.solvers.physics.catalogue import PHYSICS, Dirichlet
from shapewright.surrogate.training.physics_loss import FLOOR, WeakResidual, energy
from tests.surrogate.problem_cases import case, nodal_quantities, poisson, squeezed

CASES = {
    "poisson": poisson,
    "nonlinear_poisson": partial(poisson, "nonlinear_poisson"),
    "plane_strain": partial(squeezed, "plane_strain"),
    "hyperelasticity": squeezed,
}
WITH_ENERGY = [name for name in CASES if PHYSICS[name].energy is not None]


def solved(of, count=2, points_per_side=4):
    """Instances, quadrature, and nodal solutions (B, N, c)."""
    solutions = of.solve(of.population.draw(count, seed=3))
    shape_map, theta = of.lift.shape_map, solutions.instances.theta
    return solutions.instances, cell_points(shape_map.mesh, shape_map.nodes(theta), points_per_side), solutions.fields


def disturbance(of, like, seed=0):
    """A nodal function (B, N, c) that vanishes at prescribed nodes."""
    noise = torch.randn(like.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return noise * of.lift.factor.sign() * like.abs().mean()


@pytest.mark.parametrize("name", CASES)
def test_the_weak_residual_of_a_solution_is_zero(name):
    of = CASES[name]()
    instances, quadrature, fields = solved(of)
    residual = WeakResidual(of.data, of.lift)
    exact = residual(nodal_quantities(of, instances, quadrature, fields), quadrature)
    wrong = fields + 0.01 * disturbance(of, fields)
    near = residual(nodal_quantities(of, instances, quadrature, wrong), quadrature)
    print(f"{name}: {exact.max():.1e} at the solution, {near.min():.1e} with one per cent of noise")
    assert (exact < 1e-5 * near).all()


def test_for_a_linear_equation_it_is_the_squared_energy_norm_of_the_error():
    """To rounding on the reference design; elsewhere within the stretch of the map."""
    of = poisson()
    drawn = of.population.draw(3, seed=1)
    theta = torch.stack([of.lift.shape_map.family.reference, *drawn.theta[1:]])
    instances = of.population.instances(theta, {k: drawn.parameters[k] for k in ("level", "strength")})
    solutions = of.solve(instances)
    nodes = of.lift.shape_map.nodes(theta)
    quadrature = cell_points(of.lift.shape_map.mesh, nodes, 3)  # the rule by which the stiffness is formed
    error = 0.3 * disturbance(of, solutions.fields)
    q = nodal_quantities(of, instances, quadrature, solutions.fields + error)
    found = WeakResidual(of.data, of.lift)(q, quadrature)
    for b in range(3):
        mesh = of.lift.shape_map.mesh.moved(nodes[b].numpy())
        stiffness = weighted_stiffness(mesh, lambda x: np.ones(x.shape[:-1]))
        exact = error[b, :, 0].numpy() @ (stiffness @ error[b, :, 0].numpy())
        print(f"loss {found[b]:.6g}, squared energy norm {exact:.6g}")
        assert float(found[b]) == pytest.approx(exact, rel=1e-6 if b == 0 else 0.6)


def test_each_equation_has_its_own_weight():
    of = CASES["plane_strain"]()
    instances, quadrature, fields = solved(of)
    q = nodal_quantities(of, instances, quadrature, fields + 0.1 * disturbance(of, fields))
    total = {
        (u, v): WeakResidual(of.data, of.lift, {"u": lambda ops, q, u=u: u * q["load"], "v": lambda ops, q, v=v: v})(
            q, quadrature
        )
        for u, v in ((1, 0), (0, 1), (2, 3))
    }
    torch.testing.assert_close(2 * total[1, 0] + 3 * total[0, 1], total[2, 3])
    plain = WeakResidual(of.data, of.lift)(q, quadrature)
    torch.testing.assert_close(total[1, 0] / instances.parameters["load"] + total[0, 1], plain)


def test_an_equation_without_flux_is_measured_in_l2():
    """div of (x, 0) is one: at no flow but this the pressure's part is the area."""
    zero = tuple(Dirichlet(c, tag, lambda ops, q: 0.0) for c in "uv" for tag in ("lid", "wall"))
    of = case("stokes", "cavity", zero)
    instances = of.population.draw(2, seed=0)
    nodes = of.lift.shape_map.nodes(instances.theta)
    quadrature = cell_points(of.lift.shape_map.mesh, nodes)
    fields = torch.stack([nodes[..., 0], *(2 * [torch.zeros_like(nodes[..., 0])])], -1)
    only = {name: lambda ops, q, w=weight: w for name, weight in (("u", 0.0), ("v", 0.0), ("p", 1.0))}
    found = WeakResidual(of.data, of.lift, only)(nodal_quantities(of, instances, quadrature, fields), quadrature)
    torch.testing.assert_close(found, quadrature.weights.sum((-1, -2)))


def test_the_pressure_of_an_enclosed_flow_may_have_any_level():
    zero = tuple(Dirichlet(c, tag, lambda ops, q: 0.0) for c in "uv" for tag in ("lid", "wall"))
    of = case("stokes", "cavity", zero)
    instances = of.population.draw(1, seed=0)
    quadrature = cell_points(of.lift.shape_map.mesh, of.lift.shape_map.nodes(instances.theta))
    fields = torch.rand(1, len(of.lift.factor), 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    level = torch.tensor([0.0, 0.0, 5.0], dtype=torch.float64)
    residual = WeakResidual(of.data, of.lift)
    found = [residual(nodal_quantities(of, instances, quadrature, f), quadrature) for f in (fields, fields + level)]
    torch.testing.assert_close(*found)


def slope_ratio(of):
    """Norm of the energy's slope in the free nodal values at the solution, over that with one per cent of noise."""
    instances, quadrature, fields = solved(of)
    slopes = []
    for at in (fields, fields + 0.01 * disturbance(of, fields)):
        leaf = at.clone().requires_grad_()
        total = energy(of.data, nodal_quantities(of, instances, quadrature, leaf), quadrature).sum()
        (slope,) = torch.autograd.grad(total, leaf)
        slopes.append((slope * of.lift.factor.sign()).norm())
    return float(slopes[0] / slopes[1])


@pytest.mark.parametrize("name", [name for name in WITH_ENERGY if name != "nonlinear_poisson"])
def test_the_energy_is_stationary_at_the_solution(name):
    ratio = slope_ratio(CASES[name]())
    print(f"{name}: slope at the solution {ratio:.1e} of that with one per cent of noise")
    assert ratio < 1e-4


def test_an_energy_of_transformed_test_functions_is_stationary_as_the_mesh_is_refined():
    """Kirchhoff's: its test functions A'(u) w are no finite-element functions, so the two differ by a mesh error."""
    ratios = [slope_ratio(poisson("nonlinear_poisson", size)) for size in (0.5, 0.25)]
    print(f"slope at the solution {ratios} of that with one per cent of noise")
    assert ratios[0] < 0.02
    assert ratios[1] < 0.3 * ratios[0]


@pytest.mark.parametrize("name", WITH_ENERGY)
def test_the_energy_is_least_at_the_solution(name):
    of = CASES[name]()
    instances, quadrature, fields = solved(of)

    def of_fields(nodal):
        return energy(of.data, nodal_quantities(of, instances, quadrature, nodal), quadrature)

    for seed in range(5):
        for size in (0.01, 0.1):
            assert (of_fields(fields + size * disturbance(of, fields, seed)) > of_fields(fields)).all()


def rays():
    """Quantities of displacement gradients t G, for shares t (B,) and random G that invert the solid on the way."""
    generator = torch.Generator().manual_seed(1)
    gradients = torch.randn(40, 4, generator=generator, dtype=torch.float64)
    return gradients[((1 + gradients[:, 0]) * (1 + gradients[:, 3]) - gradients[:, 1] * gradients[:, 2]) < -0.2]


def density(gradients):
    """(B,) continued energy density of displacement gradients (B, 4): one point each with weight one."""
    of = squeezed()
    quadrature = cell_points(of.lift.shape_map.mesh, of.lift.shape_map.reference_nodes[None])
    ones = torch.ones(len(gradients), 1, 1, dtype=torch.float64)
    quadrature = type(quadrature)(**(vars(quadrature) | {"weights": ones}))
    names = ("u_x", "u_y", "v_x", "v_y")
    q = dict(zip(names, gradients[:, None].unbind(-1), strict=True))
    q |= {"youngs_modulus": 1.0, "poisson_ratio": 0.49, "u": 0.0, "v": 0.0, "source_u": 0.0, "source_v": 0.0}
    return energy(of.data, q, quadrature)


def volume(gradients):
    return (1 + gradients[:, 0]) * (1 + gradients[:, 3]) - gradients[:, 1] * gradients[:, 2]


def floor_shares(gradients):
    """(B,) share of each gradient at which the volume ratio is FLOOR, the only root of a quadratic in (0, 1)."""
    a, b = gradients[:, 0] * gradients[:, 3] - gradients[:, 1] * gradients[:, 2], gradients[:, 0] + gradients[:, 3]
    roots = [np.roots([float(q), float(p), 1 - FLOOR]) for q, p in zip(a, b, strict=True)]
    return torch.tensor([min(r.real for r in root if abs(r.imag) < 1e-12 and 0 < r.real < 1) for root in roots])


def test_the_barrier_is_continuous():
    gradients = rays()
    share = floor_shares(gradients)[:, None]
    assert len(share) > 5
    inside, outside = density((1 - 1e-7) * share * gradients), density((1 + 1e-7) * share * gradients)
    torch.testing.assert_close(inside, outside, rtol=1e-5, atol=0)


def test_no_inversion_ever_pays():
    """Beyond the floor the energy grows along every ray, from the density at the floor on."""
    gradients = rays()
    share = floor_shares(gradients)[:, None]
    at_floor = density(share * gradients)
    beyond = torch.stack([density((share + t * (1 - share)) * gradients) for t in torch.linspace(0.01, 1, 12)])
    assert (beyond > at_floor).all()
    assert (beyond.diff(dim=0) > 0).all()
    assert (volume(gradients) < 0).all()


def test_the_slope_of_the_barrier_is_its_own_and_leads_back():
    gradients = rays().requires_grad_()
    (slope,) = torch.autograd.grad(density(gradients).sum(), gradients)
    at, step = gradients.detach(), 1e-5
    for axis, shift in enumerate(step * torch.eye(4, dtype=torch.float64)):
        difference = (density(at + shift) - density(at - shift)) / (2 * step)
        torch.testing.assert_close(slope[:, axis], difference, rtol=1e-5, atol=1e-6)
    assert torch.isfinite(slope).all()
    assert ((slope * at).sum(-1) > 0).all()


def test_a_point_has_no_say_in_the_energy_of_another():
    gradients = rays()
    whole = density(gradients)
    alone = torch.cat([density(gradients[k : k + 1]) for k in range(len(gradients))])
    torch.testing.assert_close(whole, alone)
    still = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)  # admissible, and no slope to divide by
    (slope,) = torch.autograd.grad(density(torch.cat([still, gradients])).sum(), still)
    assert torch.isfinite(slope).all()


def test_a_physics_without_energy_is_refused():
    zero = (Dirichlet("u", "wall", lambda ops, q: 0.0),)
    of = case("stokes", "cavity", zero)
    quadrature = cell_points(of.lift.shape_map.mesh, of.lift.shape_map.reference_nodes[None])
    with pytest.raises(ValueError, match=r"training\.loss is 'energy', but the physics has none"):
        energy(of.data, {}, quadrature)
