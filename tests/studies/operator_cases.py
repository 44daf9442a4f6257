"""An operator study small enough to run whole in seconds."""

from pathlib import Path

TINY = """\
kind: operator
name: tiny_operator
geometry:
  family: star_domain
  options: {waves: [3], control_points: 24}
  mesh_size: 0.6
instances:
  level: {uniform: [-1, 1]}
  strength: {normal: [1, 2]}
physics:
  name: poisson
  source: {u: "strength*(1 + x)"}
  dirichlet:
    - {on: wall, u: "level + x*y"}
surrogate: {grid: [8, 8], width: 4, hidden: 4, modes: 2, layers: 1}
training: {steps: 8, batch: 2, points: [40, 60], check_every: 4, checkpoint_every: 2, learning_rate: 1.0e-2}
evaluation: {held_out: 3, mesh_size: 0.5, points: [40, 80]}
"""


def write_operator(folder: Path, *changes: tuple[str, str]) -> Path:
    """The tiny study as a file, with texts replaced."""
    text = TINY
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = folder / "tiny_operator.yaml"
    path.write_text(text)
    return path
