"""Stresses at the nodes: what the displacements imply, in pascals, and where the largest is."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from shapewright.app.report.data import NodalFields
from shapewright.app.report.field_figures import peak_text
from shapewright.app.report.report import _derived
from shapewright.solvers.physics.catalogue import HYPERELASTICITY, PLANE_STRAIN
from shapewright.studies.problem.derived_fields import derived_arrays
from shapewright.studies.problem.setup import build_setup
from shapewright.studies.schema.loader import load_study

PLATE = Path(__file__).parents[2] / "studies" / "plate_hole.yaml"


def test_stresses_of_a_uniform_strain():
    """Hooke's law of a plate of steel stretched along x, sheared, and shortened along y."""
    steel = "physics.coefficients={youngs_modulus: 2.1e11, poisson_ratio: 0.3}"
    setup = build_setup(load_study(PLATE, ("geometry.mesh_size=1.5", "surrogate.weights=null", steel)))
    nodes = setup.shape_map.nodes(setup.initial).numpy()
    x, y = nodes.T
    fields = np.stack([2e-3 * x + 1e-3 * y, -5e-4 * y], -1)
    arrays = derived_arrays(setup, nodes, fields, "fem")
    xx, yy = (2.1e11 / 0.91 * (a + 0.3 * b) for a, b in ((2e-3, -5e-4), (-5e-4, 2e-3)))
    xy = 2.1e11 / 2.6 * 1e-3
    known = {
        "stress_xx_fem": xx,
        "stress_yy_fem": yy,
        "stress_xy_fem": xy,
        "von_mises_fem": np.sqrt(xx**2 - xx * yy + yy**2 + 3 * xy**2),
    }
    assert arrays.keys() == known.keys()
    for name, value in known.items():
        np.testing.assert_allclose(arrays[name], value, rtol=1e-9)


def test_stresses_of_rubber_are_the_slopes_of_its_energy():
    """Cauchy's stress P F^T / J with P by autograd; at small strain von Mises' stress is that of plane strain."""
    given = {"youngs_modulus": 2.0, "poisson_ratio": 0.4}
    for size in (1.0, 1e-6):
        slopes = size * torch.tensor([0.2, 0.1, -0.15, 0.3], dtype=torch.float64)
        slopes.requires_grad_()
        q = dict(zip(("u_x", "u_y", "v_x", "v_y"), slopes, strict=True)) | given
        energy = HYPERELASTICITY.functional("strain_energy").integrand(torch, q)
        (first,) = torch.autograd.grad(energy, slopes)
        gradient = torch.eye(2, dtype=torch.float64) + slopes.detach().reshape(2, 2)
        cauchy = first.reshape(2, 2) @ gradient.T / torch.det(gradient)
        found = {d.name: float(d.value(torch, q).detach()) for d in HYPERELASTICITY.derived}
        assert [found["stress_xx"], found["stress_xy"], found["stress_yy"]] == pytest.approx(
            [float(cauchy[0, 0]), float(cauchy[0, 1]), float(cauchy[1, 1])], rel=1e-6
        )
    strain = {"u_x": 0.2, "u_y": 0.0, "v_x": 0.0, "v_y": -0.2}  # of equal volume, where both laws have one pressure
    q = {name: torch.tensor(1e-6 * value, dtype=torch.float64) for name, value in strain.items()} | given
    mises = [
        float(next(d for d in physics.derived if d.name == "von_mises").value(torch, q))
        for physics in (HYPERELASTICITY, PLANE_STRAIN)
    ]
    assert mises[0] == pytest.approx(mises[1], rel=1e-5)


def test_the_report_shows_von_mises_stress_with_its_peak():
    points = np.array([[0.0, 0], [2, 0], [0, 1], [1, 0], [1, 0.5], [0, 0.5]])
    cells = np.arange(6)[None]
    at = NodalFields(points, cells, {"von_mises_fem": np.array([1.0, 2.0, 3e8, 4.0, 5.0, 6.0])})
    finished = SimpleNamespace(
        at_start=at,
        at_optimum=at,
        study=SimpleNamespace(geometry=SimpleNamespace(length_unit="mm")),
        derived=tuple(d for d in PLANE_STRAIN.derived if d.shown),
    )
    ((heading, text, figures),) = _derived(finished)
    assert heading == "von Mises stress"
    assert "3e+08 Pa at (0, 1) mm at the optimum" in text
    assert len(figures) == 2
    assert peak_text("start", at, at.values["von_mises_fem"], "Pa", "mm") in text
    finished.at_start = NodalFields(points, cells, {})  # of a folder made before there were stresses
    assert _derived(finished) == []
