"""A study of a front small enough to run whole in seconds."""

from pathlib import Path

from tests.studies.study_cases import write_tiny

OBJECTIVES = """\
objectives:
  - maximize: torsional_constant
  - maximize: {name: second_moment, integrand: "y**2"}
front: {points: 4}
"""
TRAINED = """\
sampling: {designs: 6, held_out: 3, tangents: 1, workers: 1}
surrogate: {grid: [12, 12], width: 4, hidden: 4, modes: 3, layers: 1}
training: {steps: 30, batch: 2, check_every: 10, checkpoint_every: 10}
optimizer: {starts: 2, max_iterations: 15}
"""


def write_front(folder: Path, *changes: tuple[str, str]) -> Path:
    """The tiny study with two objectives as a file, with texts replaced."""
    loosened = "validation: {discretization_error: 0.01}\n"
    given = ("objective: {maximize: torsional_constant}\n", OBJECTIVES), (TRAINED, loosened)
    path = write_tiny(folder, *given)
    text = path.read_text()
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path.write_text(text)
    return path
