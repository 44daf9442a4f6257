"""Promise: whatever happens to the files of an output folder, the same command makes anew what it needs, and the same.

A file is cut, emptied, filled with noise of the same size, or holds well-formed data of the wrong kind.
"""

import json
import shutil

import numpy as np
import pytest

from shapewright.studies.files import read_sealed, write_sealed
from shapewright.studies.run import engines, pipeline
from shapewright.studies.run.pipeline import infill
from shapewright.studies.run.workspace import Workspace
from tests.studies.operator_cases import write_operator
from tests.studies.study_cases import InlineExecutor, tiny_run

TUNED = (
    "optimizer.method=trust_region", "optimizer.kkt_tolerance=1e-2", "optimizer.starts=1",
    "infill={steps: 4, share: 0.5, margin: 10.0}",
)  # fmt: skip


def cut(content):
    return content[: len(content) // 2]


def noise(content):
    return np.random.default_rng(0).bytes(len(content))


def wrong_types(content):
    try:
        return json.dumps({name: [1] for name in json.loads(content)}).encode()
    except ValueError:
        return content.replace(b"1", b"1e999")


JUNK = (cut, noise, wrong_types, lambda content: b"", lambda content: b"null", lambda content: b"[]")


@pytest.fixture(scope="module", autouse=True)
def inline():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "local_executor", InlineExecutor)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """All but CAD and certificate, which are dear."""
    folder = tmp_path_factory.mktemp("finished")
    run = tiny_run(folder, *TUNED)
    run.workspace.path(".stages").mkdir()
    return infill(run), folder


def spoil(folder, turn):
    """Another kind of junk in each file, in turn; samples and solutions are among them."""
    invalid = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    for index, path in enumerate(invalid):
        path.write_bytes(JUNK[(index + turn) % len(JUNK)](path.read_bytes()))
    return invalid


@pytest.mark.parametrize("turn", [0, 1])
def test_junk_in_every_file(finished, tmp_path, turn):
    folder = tmp_path / "out"
    shutil.copytree(finished[1], folder)
    invalid = spoil(folder, turn)
    assert {".stages", "out"} < {path.parent.name for path in invalid}
    assert {"centres", "samples"} < {part for path in invalid for part in path.parts}
    assert infill(tiny_run(folder, *TUNED)) == finished[0]
    for name in ("designs.npz", "held_out.npz", "optimum.json", "history.csv", "shapes.json"):
        assert (folder / name).read_bytes() == (finished[1] / name).read_bytes(), name


def test_a_sample_of_another_design_is_solved_again(finished, tmp_path):
    """Files that were swapped would teach wrong answers."""
    folder = tmp_path / "out"
    shutil.copytree(finished[1], folder)
    (folder / ".stages" / "sample.json").unlink()
    one, other = sorted(folder.glob("samples/*-designs/*.npz"))[:2]
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    pipeline.sample(tiny_run(folder, *TUNED))
    assert (folder / "designs.npz").read_bytes() == (finished[1] / "designs.npz").read_bytes()


def test_records_that_were_edited_are_told(tmp_path):
    workspace = Workspace(tmp_path)
    write_sealed(tmp_path / "a.json", {"key": "k", "numbers": (1, 2.5, float("inf"))})
    assert read_sealed(tmp_path / "a.json") == {"key": "k", "numbers": [1, 2.5, None]}
    whole = (tmp_path / "a.json").read_text()
    (tmp_path / "a.json").write_text(whole.replace("2.5", "2.6"))
    assert read_sealed(tmp_path / "a.json") is None
    workspace.path(".stages").mkdir()
    workspace.path(".stages/stage.json").write_text('{"key": "k", "files": {}, "seconds": 1}')  # of an earlier version
    assert workspace.finished("stage", "k") is not None
    workspace.path(".stages/stage.json").write_text('{"key": ["k"], "files": 3}')
    assert workspace.finished("stage", "k") is None


def test_the_files_of_an_operator_study(tmp_path):
    from shapewright.studies.problem.operator_setup import load_operator_study
    from shapewright.studies.run.operator_run import run_operator_study

    study = load_operator_study(write_operator(tmp_path), ("training.solutions=2",))
    folder = tmp_path / "out"
    (folder / ".stages").mkdir(parents=True)
    card = run_operator_study(study, Workspace(folder), "cpu")[2]
    spoil(folder, 1)
    again = run_operator_study(study, Workspace(folder), "cpu")[2]
    assert again.squared_relative_error == card.squared_relative_error
