"""Promise: the data is that of the solver, the same whoever computes it and however often it is broken off."""

import signal
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest
import torch
from scipy.stats import qmc

from shapewright.geometries.design.measures import jacobian, valid_designs
from shapewright.solvers.errors import SolveError
from shapewright.solvers.fem.solver import FemSolver
from shapewright.studies.problem import samples
from shapewright.studies.problem.samples import (
    LEAST_JACOBIAN,
    SamplingError,
    draw_designs,
    random_directions,
    solve_design,
)
from shapewright.studies.run import sampling
from shapewright.studies.run.engines import local_executor
from shapewright.studies.run.sampling import Designs, Solved, solve_designs
from tests.studies.study_cases import InlineExecutor, setup_of


@pytest.fixture(scope="module")
def setup():
    return setup_of()


@pytest.fixture(scope="module")
def designs(setup):
    return Designs(draw_designs(setup, 5, 0), random_directions(setup, 5, 2, 0))


@pytest.fixture(scope="module")
def data(setup, designs, tmp_path_factory):
    return solve_designs(setup.study, designs, tmp_path_factory.mktemp("inline"), InlineExecutor())


def test_designs_are_valid_within_their_bounds_and_the_same_for_a_seed(setup):
    theta = draw_designs(setup, 70, 3)
    bounds = setup.family.bounds
    assert theta.shape == (70, 6)
    assert ((theta >= bounds[:, 0]) & (theta <= bounds[:, 1])).all()
    assert valid_designs(setup.shape_map, theta, LEAST_JACOBIAN).all()
    assert torch.equal(theta, draw_designs(setup, 70, 3))
    assert torch.equal(theta[:20], draw_designs(setup, 20, 3))  # more designs keep those there are
    assert not torch.equal(theta, draw_designs(setup, 70, 4))


def test_designs_fill_the_box_better_than_chance(setup):
    bounds = setup.family.bounds.numpy()
    unit = (draw_designs(setup, 128, 0).numpy() - bounds[:, 0]) / (bounds[:, 1] - bounds[:, 0])
    random = np.random.default_rng(0).random(unit.shape)
    assert qmc.discrepancy(unit) < 0.7 * qmc.discrepancy(random)


def test_a_box_of_bad_shapes_is_refused(setup, monkeypatch):
    monkeypatch.setattr(samples, "valid_designs", lambda shape_map, theta, least: np.zeros(len(theta), dtype=bool))
    said = r"tiny.yaml:\d+: geometry.bounds: only 0 of 20\d+ designs .* valid shapes; .*narrow geometry.bounds"
    monkeypatch.setattr(samples, "jacobian", lambda shape_map, theta: torch.ones(len(theta)))
    with pytest.raises(SamplingError, match=said):
        draw_designs(setup, 3, 0)


def test_rare_valid_designs_are_found():
    """None among the first 64, where a bar of 16 free points has one in three hundred."""
    wide = "geometry.options={control_points: 16, lower: 0.2, upper: 1.7}"
    setup = setup_of(wide, "geometry.mesh_size=0.5")
    theta = draw_designs(setup, 2, seed=0)
    assert theta.shape == (2, 16)
    assert (jacobian(setup.shape_map, theta) > LEAST_JACOBIAN).all()
    first = setup.family.bounds[:, 0] + 1.5 * torch.from_numpy(qmc.Sobol(16, seed=0).random(64))
    assert not len(valid_designs(setup.shape_map, first[:0]))
    assert not valid_designs(setup.shape_map, first).any()


def test_directions_have_unit_length_in_scaled_parameters(setup):
    directions = random_directions(setup, 4, 3, 0)
    span = setup.family.bounds[:, 1] - setup.family.bounds[:, 0]
    assert directions.shape == (4, 3, 6)
    assert (directions / span).norm(dim=-1).numpy() == pytest.approx(1.0)


def test_directions_along_axes_move_one_parameter_and_no_parameter_twice_before_all():
    setup = setup_of("sampling.directions=axes")
    span = setup.family.bounds[:, 1] - setup.family.bounds[:, 0]
    unit = random_directions(setup, 50, 8, 0) / span
    np.testing.assert_allclose(unit.sum(-1), 1.0)
    assert ((unit == 0) | (unit - 1).abs().lt(1e-12)).all()
    along = unit.argmax(-1)
    assert all(sorted(row) == list(range(6)) for row in along[:, :6].tolist())
    assert len({tuple(row) for row in along.tolist()}) > 40


def test_values_gradients_and_tangents_agree_with_differences_of_solutions(setup, designs):
    """By solvers that share no state; the step is where truncation and rounding of float32 fields balance."""
    theta, direction = designs[0][0], designs[1][0][:1]
    mesh = setup.shape_map.mesh

    def solve(at):
        moved = mesh.moved(setup.shape_map.nodes(at).numpy())
        solution = FemSolver(setup.problem, moved).solve()
        return solution.values["torsional_constant"], solution.fields["u"]

    sample = solve_design(setup, FemSolver(setup.problem, mesh), theta, direction)
    step = 1e-3
    (above, fields_above), (below, fields_below) = (solve(theta + s * step * direction[0]) for s in (1, -1))
    slope = (above - below) / (2 * step)
    assert sample.values[0] == pytest.approx(solve(theta)[0], rel=1e-12)
    assert sample.gradients[0] @ direction[0].numpy() == pytest.approx(slope, rel=1e-5)
    tangent = (fields_above - fields_below) / (2 * step)
    assert np.linalg.norm(sample.tangents[0] - tangent) < 1e-5 * np.linalg.norm(tangent)


def test_tangents_may_be_left_out(setup, designs):
    solver = FemSolver(setup.problem, setup.shape_map.mesh)
    sample = solve_design(setup, solver, designs[0][0], designs[1][0][:0])
    assert sample.tangents.shape == (0, len(setup.shape_map.mesh.nodes), 1)


def test_processes_give_the_same_data(setup, designs, data, tmp_path):
    with local_executor(1) as executor:
        other = solve_designs(setup.study, designs, tmp_path, executor)
        executor.submit(int).result()
    assert other.hash == data.hash


def test_threads_give_the_same_data(setup, designs, data, tmp_path, monkeypatch):
    """They share one solver and gmsh, neither of which bears two threads at once."""
    monkeypatch.setattr(sampling, "_CACHE", {})
    with ThreadPoolExecutor(4) as executor:
        assert solve_designs(setup.study, designs, tmp_path, executor).hash == data.hash


def test_only_what_is_missing_is_solved(setup, designs, data, tmp_path):
    first = InlineExecutor()
    solve_designs(setup.study, designs, tmp_path, first)
    files = sorted(tmp_path.iterdir())
    assert first.submitted == len(files) == 5
    files[1].unlink()
    whole = files[3].read_bytes()
    files[3].write_bytes(whole[: len(whole) // 2])  # half-written by a machine that lost power
    files[4].write_bytes(b"")
    second, reported = InlineExecutor(), []
    again = solve_designs(setup.study, designs, tmp_path, second, lambda *done: reported.append(done))
    assert second.submitted == 3
    assert reported == [(2, 5), (3, 5), (4, 5), (5, 5)]
    assert again.hash == data.hash
    assert files[3].read_bytes() == whole


def test_an_interrupt_keeps_what_is_done(setup, designs, data, tmp_path):
    def interrupted(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        solve_designs(setup.study, designs, tmp_path, InlineExecutor(), interrupted)
    assert len(list(tmp_path.iterdir())) == 2
    rest = InlineExecutor()
    assert solve_designs(setup.study, designs, tmp_path, rest).hash == data.hash
    assert rest.submitted == 3


class Failing(InlineExecutor):
    """Its third task ends with an error, its own or its design's."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def submit(self, function, /, *arguments):
        if self.submitted == 2:
            self.submitted += 1
            future = Future()
            if isinstance(self.error, SolveError):
                future.set_result([Solved(2, error=str(self.error))])
            else:
                future.set_exception(self.error)
            return future
        return super().submit(function, *arguments)


def test_a_design_that_cannot_be_solved_is_named(setup, designs, tmp_path):
    values = ", ".join(f"{value:.6g}" for value in designs[0][2].tolist())
    with pytest.raises(SamplingError) as caught:
        solve_designs(setup.study, designs, tmp_path, Failing(SolveError("singular")))
    assert str(caught.value) == f"design 2 ({values}) cannot be solved: singular"


def test_a_folded_design_is_named_by_the_solver_itself(setup, designs, tmp_path):
    theta = designs[0].clone()
    theta[1, 0] = -3.0
    with pytest.raises(SamplingError, match=r"^design 1 \(-3, .*\) cannot be solved: .*fold"):
        solve_designs(setup.study, Designs(theta, designs[1]), tmp_path, InlineExecutor())


def test_a_worker_that_is_killed_is_no_riddle(setup, designs, tmp_path):
    with pytest.raises(SamplingError, match=r"a worker process ended before its time .*lower sampling.workers"):
        solve_designs(setup.study, designs, tmp_path, Failing(BrokenProcessPool("terminated abruptly")))


def test_signals_are_as_before(setup, designs, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    solve_designs(setup.study, designs, tmp_path, InlineExecutor())
    assert signal.getsignal(signal.SIGINT) is before
    results = []
    thread = threading.Thread(  # only the main thread may set signals
        target=lambda: results.append(solve_designs(setup.study, designs, tmp_path / "t", InlineExecutor()))
    )
    thread.start()
    thread.join()
    assert len(results) == 1


@pytest.mark.parametrize("name", ["solution", "values", "gradients", "tangents", "directions", "theta"])
def test_a_sample_that_was_edited_is_solved_again(setup, designs, data, tmp_path, name):
    """A number that looks like any other; a file of an earlier version, which carries no digest, is still taken."""
    solve_designs(setup.study, designs, tmp_path, InlineExecutor())
    path = tmp_path / "000001.npz"
    with np.load(path) as arrays:
        content = dict(arrays)
    changed = content[name].copy()
    changed.flat[0] = 1.01 * changed.flat[0] + 1e-3
    np.savez(path, **content | {name: changed})
    again = InlineExecutor()
    found = solve_designs(setup.study, designs, tmp_path, again)
    assert again.submitted == 1
    assert found.hash == data.hash
    np.savez(path, **{key: array for key, array in content.items() if key != sampling.DIGEST})
    before = InlineExecutor()
    assert solve_designs(setup.study, designs, tmp_path, before).hash == data.hash
    assert before.submitted == 0
