"""Promise: what a GPU machine runs needs neither dolfinx nor gmsh, and writes every result as soon as it has it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.gpu import __main__ as kit
from benchmarks.gpu import training
from benchmarks.gpu.asked import as_asked
from benchmarks.gpu.fields import compressed, from_half_changes, half_changes, restored
from benchmarks.gpu.make_bundle import study_entry
from benchmarks.gpu.problems import BUNDLE_FILE, BundleError, open_bundle
from benchmarks.gpu.profile import record_kernels
from benchmarks.gpu.results import Recorder, read_rows
from benchmarks.gpu.tables import merged, write_tables
from benchmarks.gpu.training import shortened, with_galore
from shapewright.studies.problem.samples import Samples
from shapewright.studies.problem.surrogates import train_surrogate
from shapewright.studies.run.pipeline import sample
from shapewright.surrogate.models.weights_file import read_weights
from shapewright.surrogate.training.dataset import Dataset
from tests.studies.study_cases import tiny_run

ROOT = Path(__file__).resolve().parents[2]
ABSENT = (
    "dolfinx", "dolfinx_solver", "petsc4py", "ufl", "basix", "ffcx", "gmsh", "OCP", "pydantic", "ruamel", "shapely",
    "tensorly", "trimesh", "pyvista", "typer", "jinja2",
)  # fmt: skip
WITHOUT = """
import runpy, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"{{name}} is not on a GPU machine", name=name)

sys.meta_path.insert(0, Absent())
sys.argv = {argv!r}
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    """The tiny study with a bundle of it and its shipped weights, none."""
    folder = tmp_path_factory.mktemp("kit")
    run = tiny_run(folder / "run")
    data, held_out, reference = sample(run)
    entry, arrays = study_entry(run.setup, data, held_out, reference, rank=64)
    bundle = folder / "bundle"
    bundle.mkdir()
    np.savez_compressed(bundle / "tiny.npz", **arrays)
    content = {"processor": "some processor", "torch": torch.__version__, "studies": {"tiny": entry}}
    (bundle / BUNDLE_FILE).write_text(json.dumps(content))
    return run, data, held_out, reference, open_bundle(bundle)


def run_without(module, *arguments):
    program = WITHOUT.format(absent=ABSENT, argv=[module, *map(str, arguments)], module=module)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_a_bundle_gives_back_the_problem_and_the_data(solved):
    run, data, held_out, _, bundle = solved
    given, note = bundle.data("tiny"), bundle.note("tiny")
    assert given.hash == data.hash
    for name in ("theta", "values", "gradients", "directions"):
        assert torch.equal(getattr(given.designs, name), getattr(data, name)), name
    scale = (data.solution - given.reference.float()).square().mean().sqrt()
    error = float((given.designs.solution - data.solution).square().mean().sqrt() / scale)
    assert 0 < error == pytest.approx(note["rounding"]["change"], rel=0.2)
    assert note["rounding"]["change"] < 1e-3
    assert note["rounding"]["held_out"] < 1e-3
    assert torch.allclose(given.held_out.solution, held_out.solution, atol=1e-3)
    assert note["fem_seconds"] > 0
    assert bundle.problem("tiny").trained_for == json.loads(json.dumps(run.setup.trained_for()))


def test_the_bundle_trains_as_the_study_does(solved, tmp_path):
    """Same seed, network, order and stages: the weights differ by the rounding of the fields alone."""
    run, data, held_out, reference, bundle = solved
    expected = train_surrogate(run.setup, Samples(data, held_out, reference), tmp_path / "study.safetensors", "cpu")
    from shapewright.studies.problem.design_training import train_network

    found = train_network(bundle.problem("tiny"), bundle.data("tiny"), tmp_path / "bundle.safetensors", "cpu")
    assert found.held_out.gradient == pytest.approx(expected.held_out.gradient, rel=0.02)
    assert found.trained_for == json.loads(json.dumps(expected.trained_for))
    assert found.data_hash == expected.data_hash
    weights = [read_weights(tmp_path / f"{name}.safetensors")[0] for name in ("study", "bundle")]
    assert weights[0].keys() == weights[1].keys()


def test_fields_of_few_components_survive_and_what_is_lost_is_stated():
    generator = torch.Generator().manual_seed(0)
    shapes = torch.randn(3, 40, 2, generator=generator)
    amounts = torch.randn(30, 3, generator=generator)
    reference = torch.ones(40, 2)
    fields = reference + torch.einsum("sk,knc->snc", amounts, shapes) * torch.tensor([1.0, 1e-3])
    tangents = torch.einsum("stk,knc->stnc", torch.randn(30, 2, 3, generator=generator), shapes)
    theta = torch.zeros(30, 4, dtype=torch.float64)
    data = Dataset(theta, fields, theta[:, :1], theta[:, None], torch.zeros(30, 2, 4, dtype=torch.float64), tangents)
    arrays, lost = compressed(data, reference, 8, "x.")
    back = restored(arrays, reference, "x.")
    assert max(lost.values()) < 1e-3
    scale = (fields - reference).square().mean((0, 1)).sqrt()
    assert float(((back.solution - fields) / scale).abs().max()) < 1e-2
    _, more = compressed(data, reference, 1, "x.")
    assert more["change"] > 0.1  # two components are left out, and it says so
    judging, error = half_changes(data, reference, "h.")
    assert error < 1e-3
    assert from_half_changes(judging, reference, "h.").tangents.shape == (30, 0, 40, 2)


def test_a_shortened_training_keeps_its_proportions_and_says_so(solved):
    problem = with_galore(solved[-1].problem("tiny"))
    assert problem.training.optimizer == "tensor_galore"
    assert problem.training_section["optimizer"] == "tensor_galore"
    from dataclasses import replace

    two = shortened(replace(problem, fine_tuning={"steps": 10, "learning_rate": 1e-3}), 20)
    assert (two.training.steps, two.fine_tuning["steps"]) == (15, 5)
    assert two.training_section["steps"] == 15
    assert two.training_section["fine_tuning"]["steps"] == 5


@pytest.mark.slow
def test_a_rehearsal_without_what_a_gpu_machine_lacks(solved, tmp_path):
    out = tmp_path / "out"
    done = run_without(
        "benchmarks.gpu", "--bundle", solved[-1].folder, "--device", "cpu", "--minutes", "2", "--small",
        "--out", out, "--parts", "memory", "operator", "torsion",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = read_rows(out)
    failures = [row for row in rows if row["unit"] in ("failure", "traceback")]
    assert not failures
    assert {"memory", "operator", "training", "run"} == {row["part"] for row in rows}
    _, card = read_weights(out / "tiny.safetensors")
    gradient = next(row["value"] for row in rows if row["case"] == "tiny, gradient")
    assert card["held_out"]["gradient"] == pytest.approx(gradient)
    assert card["training"]["optimizer"] == "tensor_galore"
    assert {file.name for file in out.iterdir()} == {"rows.jsonl", "gpu.md", "gpu.json", "tiny.safetensors"}
    assert "rehearsal" in (out / "gpu.md").read_text().splitlines()[0]
    content = json.loads((out / "gpu.json").read_text())
    assert content["device"] == "cpu"
    assert content["rehearsal"] is True
    assert set(content["rows"][0]) == {"part", "case", "value", "unit"}


def test_a_part_that_fails_is_recorded_and_the_next_goes_on(tmp_path, capsys):
    record = Recorder(tmp_path, "designs")
    with record.guarded("broken"):
        raise ValueError("no such thing")
    record.row("whole", 2.0, "ms")
    rows = read_rows(tmp_path)
    assert [row["unit"] for row in rows] == ["failure", "traceback", "ms"]
    assert "no such thing" in rows[0]["value"]
    assert "test_gpu_kit.py" in rows[1]["value"]
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"part": "designs", "cas')  # cut off in the middle of a line
    assert read_rows(tmp_path) == rows
    write_tables([tmp_path], tmp_path / "tables")
    table = (tmp_path / "tables" / "gpu.md").read_text()
    assert "| whole | 2 | ms |" in table
    assert "no such thing" in table
    assert "Traceback" not in table


def test_tests_for_a_gpu_are_found_and_need_no_finite_elements():
    files = kit.gpu_test_files()
    assert Path("tests/surrogate/test_cuda.py") in files
    assert Path("tests/surrogate/test_training.py") in files
    assert Path("tests/surrogate/test_physics_training.py") not in files  # it solves by finite elements
    collected = run_without("pytest", "-q", "--collect-only", "-m", "gpu", "-p", "no:cacheprovider", *files)
    assert collected.returncode == 0, collected.stdout + collected.stderr


def test_without_a_bundle_it_says_how_one_is_made(tmp_path):
    with pytest.raises(BundleError, match="make gpu-bundle"):
        open_bundle(tmp_path)


def test_a_training_whose_time_is_up_keeps_what_it_has(solved, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "LAST_CALL", 2.0)  # its time is up at its first step
    record = Recorder(tmp_path, "training")
    card = training.train_one(record, solved[-1], "tiny", tmp_path, torch.device("cpu"), 60.0, 0)
    assert card.training["stopped_at"] == ".checkpoint step 1"
    assert read_weights(tmp_path / "tiny.safetensors")[1]["training"] == card.training
    assert "stopped before the end" in read_rows(tmp_path)[0]["beside"]


def test_long_trainings_come_first_and_share_a_gpu_by_twos(solved, monkeypatch):
    steps = {"short": 800, "long": 6900, "middle": 5500}
    monkeypatch.setattr(training, "wanted_steps", lambda bundle, name: steps[name])
    assert training.queues_of(solved[-1], list(steps), True, torch.device("cuda")) == [["long"], ["middle", "short"]]
    assert training.queues_of(solved[-1], list(steps), False, torch.device("cuda")) == [["long"], ["middle"], ["short"]]
    assert training.queues_of(solved[-1], [], True, torch.device("cuda")) == []


def test_the_longest_operators_become_rows(tmp_path):
    values = torch.randn(64, 64)
    record_kernels(Recorder(tmp_path, "profile"), "square", lambda: values @ values, torch.device("cpu"), 2)
    wall, *kernels = read_rows(tmp_path)
    assert wall["case"] == "square, wall time"
    assert wall["value"] > 0
    product = next(row for row in kernels if row["case"] == "square, aten::mm")
    assert product["beside"].endswith("%, 1 times")
    assert 0 < product["value"] < 1e3


def memory_row(grid, optimizer, quantity, value):
    return {"part": "memory", "case": f"width 128, modes 16, {grid} x {grid}, {optimizer}, {quantity}", "value": value,
            "unit": "", "beside": ""}  # fmt: skip


def test_the_figures_asked_stand_beside_those_found():
    rows = [
        memory_row(128, "AdamW", "step", 10.0),
        memory_row(128, "channels in alone, 0.25", "step", 11.0),
        memory_row(512, "AdamW", "step", 10.0),
        memory_row(512, "channels in alone, 0.25", "step", 12.0),
        memory_row(128, "AdamW", "optimizer", 400.0),
        memory_row(128, "channels in alone, 0.25", "optimizer", 101.0),
        {"part": "designs", "case": "stokes_body, float32, batch 1024, rate", "value": 9e3, "unit": "1/s",
         "beside": "FEM 75 a second: 120.0 times"},
    ]  # fmt: skip
    memory, step, rate = as_asked(rows)[-4:-1]
    assert memory.endswith("| at least 75% saved | 74.8% saved | no |")
    assert step.endswith("| at most 1.15 times | 128: 1.10 times, 512: 1.20 times | on 128 |")
    assert rate.endswith("| at least 100 times FEM's | 120.0 times | yes |")
    assert as_asked(rows[:1]) == []


def test_a_later_run_replaces_rows_and_failures_of_the_first():
    def run(device, *rows):
        about = {"part": "run", "case": "about", "value": {"device": device}, "unit": ""}
        return [about, *({"part": "designs", "case": case, "value": value, "unit": unit} for case, value, unit in rows)]

    first = run("A", ("a, bf16", "RuntimeError", "failure"), ("a, float32", 1.0, "ms"), ("b", "lost", "failure"))
    about, rows = merged([first, run("A", ("a, bf16, gradient", 0.5, ""), ("a, float32", 2.0, "ms"))])
    assert about == {"device": "A"}
    assert [(row["case"], row["value"]) for row in rows] == [
        ("a, float32", 2.0), ("b", "lost"), ("a, bf16, gradient", 0.5)
    ]  # fmt: skip
    with pytest.raises(ValueError, match="the runs are of A, B; allowed are runs of one device"):
        merged([first, run("B")])
