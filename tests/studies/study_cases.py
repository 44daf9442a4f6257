"""A study small enough to run whole in seconds, models with known answers, and executors without processes."""

from concurrent.futures import Executor, Future
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import torch

from shapewright.studies.problem.linear_physics import FLOW_PHYSICS, PHYSICS
from shapewright.studies.problem.setup import Setup, build_setup
from shapewright.studies.run.pipeline import Run
from shapewright.studies.run.workspace import Workspace
from shapewright.studies.schema.loader import load_study
from shapewright.surrogate.mgno.operator import OperatorConfig
from shapewright.surrogate.models.shape_descriptors import DESCRIPTORS
from shapewright.surrogate.models.shape_operator import ShapeOperatorConfig
from shapewright.surrogate.models.shape_operator_file import (
    ShapeOperatorCard,
    make_operator,
    save_shape_operator,
    sizes_of,
)

EVERY = {**PHYSICS, **FLOW_PHYSICS}
TINY_OPERATOR = ShapeOperatorConfig(OperatorConfig(width=4, hidden=4, modes=(3, 3), layers=1), fields=2, nodes=12)

TINY = """\
name: tiny
geometry:
  family: closed_bar
  options: {control_points: 6, start: ellipse}
  thickness: 0.5
  mesh_size: 0.4
physics:
  name: poisson
  source: {u: 2.0}
  dirichlet:
    - {on: wall, u: 0.0}
objective: {maximize: torsional_constant}
constraints:
  - {quantity: area, equals: 3.0}
  - {quantity: jacobian, at_least: 0.1}
sampling: {designs: 6, held_out: 3, tangents: 1, workers: 1}
surrogate: {grid: [12, 12], width: 4, hidden: 4, modes: 3, layers: 1}
training: {steps: 30, batch: 2, check_every: 10, checkpoint_every: 10}
optimizer: {starts: 2, max_iterations: 15}
"""


def write_tiny(folder: Path, *changes: tuple[str, str]) -> Path:
    """The tiny study as a file, with texts replaced."""
    text = TINY
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = folder / "tiny.yaml"
    path.write_text(text)
    return path


@cache
def setup_of(*overrides: str) -> Setup:
    """The tiny study with overrides, built once."""
    return build_setup(load_study(write_tiny(Path(mkdtemp(prefix="tiny-"))), overrides))


def tiny_run(folder: Path, *overrides: str, report=lambda *progress: None) -> Run:
    """The tiny study as a run in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    setup = setup_of(*overrides)
    return Run(setup, Workspace(folder), "cpu", report)


class InlineExecutor(Executor):
    """Works at once, in the caller's thread; counts what it was given."""

    def __init__(self, workers: int = 1) -> None:
        self.submitted = 0

    def submit(self, function, /, *arguments, **options):
        self.submitted += 1
        future = Future()
        try:
            future.set_result(function(*arguments, **options))
        except Exception as error:
            future.set_exception(error)
        return future


class Analytic:
    """A model f(theta) in torch, differentiated by autograd; keeps the batches that it was asked for."""

    def __init__(self, function) -> None:
        self.function = function
        self.batches = []

    def evaluate(self, theta):
        self.batches.append(theta.copy())
        variable = torch.from_numpy(theta).requires_grad_()
        values = torch.stack([self.function(design) for design in variable])
        (gradients,) = torch.autograd.grad(values.sum(), variable)
        return values.detach().numpy()[:, None], gradients.numpy()[:, None]


def geometric(setup: Setup, quantity: str) -> Analytic:
    """A geometric quantity as objective."""
    return Analytic(lambda design: setup.quantity(quantity, design))


def quadratic(centre) -> Analytic:
    """|theta - centre|^2 + 1."""
    target = torch.as_tensor(np.asarray(centre, dtype=float))
    return Analytic(lambda design: ((design - target) ** 2).sum() + 1)


def write_tiny_operator(path: Path, name: str = "poisson_2d", reach: float = 100.0) -> Path:
    """An untrained operator for all shapes whose card reaches over descriptors from 0 to ``reach``."""
    torch.manual_seed(0)
    card = ShapeOperatorCard(
        trained_for={"operator": name, "sizes": sizes_of(TINY_OPERATOR)},
        training={},
        population={"trained": [], "meshes": 0, "unseen": []},
        limits={descriptor: [0.0, reach] for descriptor in DESCRIPTORS},
        parameters={parameter: [0.0, 0.49] for parameter in EVERY[name].parameters},
        held_out={},
        hardware={"processor": "none"},
        seconds=0.0,
    )
    save_shape_operator(path, make_operator(EVERY[name], TINY_OPERATOR), card)
    return path
