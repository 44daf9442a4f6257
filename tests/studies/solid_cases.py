"""A study of a solid that is solved in seconds: a beam with a hole, held at one end and loaded at the other."""

from __future__ import annotations

from functools import cache

from shapewright.geometries.cad.shipped import shipped_part
from shapewright.studies.problem.solid_setup import SolidSetup, build_solid_setup
from shapewright.studies.schema.loader import load_study
from shapewright.studies.schema.solid_study import SolidStudyModel

BEAM = f"""\
name: beam
geometry:
  cad: {shipped_part("cantilever")}
  length_unit: mm
  regions:
    wall: {{plane: {{x: 0}}}}
    tip: {{plane: {{x: 100}}, count: 1}}
    hole: {{cylinder: {{radius: 6.0, axis: y}}}}
  keep: [hole]
  lattice: {{points: [4, 1, 2], move: [z], limit: 0.06}}
  mesh_size: 30.0
  curvature: 6
physics:
  name: elasticity
  coefficients: {{youngs_modulus: 210e3, poisson_ratio: 0.3, reference_stress: 20}}
  dirichlet: [{{on: wall, u: 0, v: 0, w: 0}}]
cases:
  down: {{natural: [{{on: tip, traction: [0, 0, -1]}}]}}
  pull: {{natural: [{{on: tip, pressure: -3}}], source: {{w: -1.0e-4}}}}
objective: {{minimize: {{worst: compliance}}}}
constraints:
  - {{quantity: volume, at_most: initial}}
optimizer: {{restarts: 1}}
validation: {{refinements: 2, discretization_error: 0.1, moved_mesh: 0.02}}
"""


HEAT = BEAM.replace(BEAM[BEAM.index("physics:"):BEAM.index("constraints:")], """\
physics:
  name: poisson
  coefficients: {conductivity: 0.2}
  source: 1.0e-3
  dirichlet: [{on: wall, u: 20}]
  natural: [{on: rest, u: 2.0e-4 * (20 - u)}, {on: hole, u: 0.01}]
objective: {minimize: integral}
""")
"""The same beam, heated inside and in its hole, cooled at one end and by the air around it."""


def written(folder, text=BEAM):
    """The file of a study in a folder."""
    path = folder / "beam.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def changed(folder, *pairs):
    """The file of a study with texts replaced, pair by pair."""
    text = BEAM
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return written(folder, text)


def load(path, overrides=()):
    return load_study(path, list(overrides), SolidStudyModel)


@cache
def beam(folder) -> SolidSetup:
    return build_solid_setup(load(written(folder)))
