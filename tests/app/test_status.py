"""Promise: `status` shows of every stage whether it is done, and if not, why; it changes nothing in the folder."""

import json
import shutil

import pytest
from rich.console import Console
from typer.testing import CliRunner

from shapewright.app import cli
from shapewright.app.cli import Exit
from shapewright.studies.files import read_sealed, write_sealed
from shapewright.studies.run import engines
from shapewright.studies.run.status import reasons
from tests.studies.operator_cases import write_operator
from tests.studies.study_cases import InlineExecutor, write_tiny


def call(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def wide_and_inline(monkeypatch):
    monkeypatch.setattr(cli, "console", Console(width=240))
    monkeypatch.setattr(engines, "local_executor", InlineExecutor)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The tiny study, sampled and trained: its file and its folder."""
    folder = tmp_path_factory.mktemp("trained")
    study = write_tiny(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "local_executor", InlineExecutor)
        assert call("train", study, "--out", folder / "out").exit_code == Exit.OK
    return study, folder / "out"


@pytest.fixture
def folder(trained, tmp_path):
    shutil.copytree(trained[1], tmp_path / "out")
    return tmp_path / "out"


def states(folder):
    result = call("status", folder, "--json")
    assert result.exit_code == Exit.OK, result.output
    return {stage["stage"]: stage for stage in json.loads(result.stdout)["stages"]}


def told(folder):
    return {name: (stage["state"], stage["why"]) for name, stage in states(folder).items()}


def test_what_is_done_and_what_is_missing(trained):
    _, folder = trained
    left = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    found = states(folder)
    assert {name: stage["state"] for name, stage in found.items()} == {
        "sample": "done", "train": "done", "optimize": "missing", "export": "missing", "validate": "missing",
    }  # fmt: skip
    sizes = {file["name"]: file["bytes"] for file in found["sample"]["files"]}
    assert sizes == {name: (folder / name).stat().st_size for name in ("designs.npz", "held_out.npz", "reference.npz")}
    assert found["train"]["seconds"] >= 0
    assert found["optimize"]["seconds"] is None
    table = call("status", folder).stdout
    assert "tiny: stages in" in table
    (line,) = [line for line in table.splitlines() if line.startswith("│ train ")]
    assert "│ done " in line
    assert "surrogate.safetensors (" in line
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == left


def test_why_a_stage_is_stale(trained, folder):
    study, _ = trained
    assert call("sample", study, "--out", folder, "--set", "training.steps=40").exit_code == Exit.OK
    assert told(folder)["sample"] == ("done", [])
    assert told(folder)["train"] == ("stale", ["training.steps: 30 -> 40"])
    assert told(folder)["optimize"] == ("missing", [])
    assert "training.steps: 30 -> 40" in call("status", folder).stdout
    record = read_sealed(folder / ".stages" / "train.json")
    del record["inputs"]
    write_sealed(folder / ".stages" / "train.json", record)
    (why,) = told(folder)["train"][1]
    assert why.startswith("its inputs have changed")


def test_a_file_that_was_changed_or_removed(folder):
    whole = (folder / "designs.npz").read_bytes()
    (folder / "designs.npz").write_bytes(b"0" * len(whole))
    (folder / "reference.npz").unlink()
    found = told(folder)
    assert found["sample"] == ("damaged", ["designs.npz is not as it was left", "reference.npz is not as it was left"])
    assert found["train"] == ("stale", ["it needs sample, which is damaged"])
    table = call("status", folder).stdout
    assert "designs.npz (" in table
    assert "reference.npz (gone)" in table


def test_weights_that_cannot_be_opened_are_told(trained, folder, tmp_path):
    study, _ = trained
    weights = tmp_path / "shipped.safetensors"
    shutil.copy(folder / "surrogate.safetensors", weights)
    shipped = ("--set", f"surrogate.weights={weights}")
    assert call("optimize", study, "--out", folder, *shipped).exit_code == Exit.OK
    assert told(folder) == {"optimize": ("done", []), "export": ("missing", []), "validate": ("missing", [])}
    weights.unlink()
    (why,) = told(folder)["optimize"][1]
    assert why.startswith("it needs surrogate, which is not usable (")
    assert "there is no such file" in why


def test_the_folder_of_an_operator_study(tmp_path):
    study = write_operator(tmp_path)
    out = tmp_path / "out"
    assert call("learn", study, "--out", out, "--set", "training.steps=4").exit_code == Exit.OK
    assert told(out) == {"learn": ("done", [])}
    resolved = (out / "resolved.yaml").read_text()
    (out / "resolved.yaml").write_text(resolved.replace("strength*(1 + x)", "strength"))
    assert told(out) == {"learn": ("stale", ["physics.source.u: strength*(1 + x) -> strength"])}


@pytest.mark.parametrize(("name", "found"), [("nothing", "found no folder"), ("", "found no resolved.yaml in it")])
def test_what_is_no_output_folder_is_named(tmp_path, name, found):
    result = call("status", tmp_path / name)
    assert result.exit_code == Exit.BAD_INPUT
    assert result.stderr == (
        f"error: {tmp_path / name}: {found}; expected the output folder of a study, such as out/torsion\n"
    )


def test_differences_of_inputs_are_told_by_key():
    before = {"": {"a": {"b": [1, 2]}}, "hash": "0" * 16, "list": [1], "gone": 1}
    now = {"": {"a": {"b": [1, 3]}}, "hash": "1" * 16, "list": [1, 2], "gone": None, "new": "x"}
    assert reasons(before, now) == ("a.b.1: 2 -> 3", "hash: has changed", "list: [1] -> [1, 2]", "gone: 1 -> none",
                                    "new: none -> x")  # fmt: skip
    assert reasons(before, before) == ("the format of its files is another now",)
    many = reasons({"x": dict.fromkeys("abcdefghijkl", 0)}, {"x": dict.fromkeys("abcdefghijkl", 1)})
    assert len(many) == 9
    assert many[-1] == "and 4 more"
