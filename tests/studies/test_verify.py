"""Promise: `verify` finds a finished folder in order, and names whatever was tampered with in it, whoever forged what.

A forger who also forges the hashes is found by the certificate's own numbers, by the CAD, or by solving again.
"""

import json
import shutil

import pytest
import torch

from shapewright.geometries.cad.step import part_shape, write_step
from shapewright.geometries.mesh.mesh import MeshError
from shapewright.studies.certify.digest import study_digest
from shapewright.studies.certify.model import (
    CHANGES,
    SCHEMA_FILE,
    VERSION,
    CertificateError,
    json_schema_text,
    read_certificate,
)
from shapewright.studies.files import sha256, write_json
from shapewright.studies.run.pipeline import validate, write_resolved
from shapewright.studies.run.verify import contradictions, verify
from shapewright.studies.run.workspace import Workspace
from shapewright.studies.schema.loader import load_study
from tests.studies.study_cases import setup_of, tiny_run, write_tiny

FEM = ("optimizer.on=fem", "optimizer.starts=1", "optimizer.max_iterations=60")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    run = tiny_run(folder, *FEM)
    with run.workspace.lock():
        write_resolved(run, {"seed": 0})
        assert validate(run)["accepted"]
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "out")
    return tmp_path / "out"


def differing(folder, resolve=False):
    return {finding.what: finding.text for finding in verify(folder, resolve) if not finding.ok}


def forge(folder, edit):
    """Edit the certificate, and forge the record that holds its hash."""
    path = folder / "certificate.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    workspace = Workspace(folder)
    record = workspace.record("validate")
    workspace.finish(record, list(record.files))


def swap_step(folder, stretch):
    """Another design's STEP file, of the same kind, with all hashes of it forged."""
    setup = setup_of(*FEM)
    theta = torch.tensor(list(json.loads((folder / "optimum.json").read_text())["parameters"].values()))
    theta = theta.double() * (1 + stretch * torch.tensor([1.0, -1.0] * 3, dtype=torch.float64))
    shape = part_shape(setup.family, setup.family.control_points(theta).numpy(), 0.5)
    write_step(shape, folder / "optimum.step", "m")
    workspace = Workspace(folder)
    record = workspace.record("export")
    workspace.finish(record, list(record.files))
    forge(folder, lambda c: c["files"].update({"optimum.step": sha256(folder / "optimum.step")}))


def of_version_5(content):
    """The certificate as the version before named its entries; its sentences had other words."""
    content["version"] = 5
    content["familiarity"] = content.pop("novelty")
    content["part"]["corners"] = [{"place": [0.0, 1.0], "angle": 90.0}]
    content["verdict"] = "Accepted, in other words"


def test_a_certificate_of_an_older_version_is_compared_in_what_both_have(folder):
    forge(folder, of_version_5)
    assert differing(folder) == {}
    assert verify(folder)[0].text == (
        f"is of version 5, older than this program's {VERSION}; what both versions have is compared"
    )
    with pytest.raises(CertificateError, match="version: found version 5"):
        read_certificate(folder)
    forge(folder, lambda c: c["objective"].update(improvement=0.9))
    assert "objective.improvement is 0.9" in differing(folder)["numbers"]


def test_a_finished_folder_is_in_order_and_stays_so_when_it_is_moved(whole, folder):
    assert differing(whole, resolve=True) == {}
    found = verify(folder)
    assert {finding.what for finding in found} >= {
        "certificate.json", "optimum.step", "optimum.brep", "optimum.stl", "optimum.vtu", "stage export",
        "stage validate", "numbers", "resolved.yaml", "optimum.json", "constraints", "CAD",
    }  # fmt: skip
    assert all(finding.ok for finding in found)
    assert {path.name for path in folder.iterdir()} == {path.name for path in whole.iterdir()}


@pytest.mark.parametrize("name", ["optimum.step", "optimum.brep", "optimum.stl", "optimum.vtu", "optimum.msh"])
def test_a_changed_file_is_named(folder, name):
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    found = differing(folder)
    assert "SHA-256 differs" in found[name]
    (folder / name).unlink()
    assert differing(folder)[name] == "there is no such file"


def test_an_edited_certificate_is_named_by_its_stage(folder):
    path = folder / "certificate.json"
    path.write_text(path.read_text().replace('"study": "tiny"', '"study": "tiny2"'))
    assert differing(folder) == {"stage validate": "certificate.json was changed after the stage wrote it"}


def test_an_edited_study_is_named_but_not_its_description(folder):
    path = folder / "resolved.yaml"
    text = path.read_text()
    path.write_text(text.replace("description: ''", "description: words"))
    assert differing(folder) == {}
    path.write_text(text.replace("kkt_residual: 0.05", "kkt_residual: 0.06"))
    found = differing(folder)
    assert "is not the study that the certificate is of" in found["resolved.yaml"]
    assert "validation.kkt_residual is 0.05 in the certificate, 0.06 in the study" in found["constraints"]


def test_a_tampered_design_is_named(folder):
    path = folder / "optimum.json"
    content = json.loads(path.read_text())
    content["parameters"]["r0"] += 0.01
    path.write_text(json.dumps(content))
    found = differing(folder)
    assert "r0 is " in found["optimum.json"]
    assert found["stage optimize"] == "optimum.json was changed after the stage wrote it"
    forge(folder, lambda c: c["parameters"]["r0"].update(value=content["parameters"]["r0"]))
    found = differing(folder)  # the certificate is now of another design than its CAD and its constraints
    assert "area equals: the design has" in found["constraints"]
    assert "off the design of the certificate" in found["CAD"]


def test_a_swapped_step_is_named_even_with_forged_hashes(folder):
    swap_step(folder, 0.01)
    found = differing(folder)
    assert set(found) == {"CAD"}
    assert "off the design of the certificate" in found["CAD"]
    assert "this is not the outline of the design" in differing(folder, resolve=True)["solved again"]
    (folder / "optimum.step").write_text("no STEP")
    assert "cannot read it as STEP" in differing(folder)["CAD"]


def shift(*keys, by):
    def edit(content):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] += by * abs(content[keys[-1]])

    return edit


def swapped(*keys, to):
    def edit(content):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = to

    return edit


FORGERIES = {
    "objective.fem": shift("objective", "fem", by=0.01),
    "objective.improvement": shift("objective", "improvement", by=0.5),
    "objective.reference": shift("objective", "reference", by=0.5),
    "discretization_error": shift("objective", "discretization_error", by=-0.9),
    "KKT residual": shift("kkt_residual", by=-0.5),
    "check 'KKT residual' has the limit": swapped("design", "checks", 2, "limit", to=0.5),
    "check 'mesh error'": swapped("design", "checks", 0, "value", to=0.5),
    "constraint 'area equals'": shift("constraints", 0, "value", by=1e-3),
    "constraint 'area equals': tolerance": swapped("constraints", 0, "tolerance", to=1.0),
    "accepted is False": swapped("accepted", to=False),
    "design.accepted is False": swapped("design", "accepted", to=False),
    "verdict is": swapped("verdict", to="Accepted with honours"),
}


@pytest.mark.parametrize("what", FORGERIES)
def test_a_forged_number_contradicts_the_others(folder, what):
    forge(folder, FORGERIES[what])
    found = differing(folder)
    assert "numbers" in found
    assert what.partition(":")[0] in found["numbers"]


def test_a_limit_that_was_forged_everywhere_is_not_the_studys(folder):
    def edit(content):
        content["design"]["checks"][2]["limit"] = 0.04
        next(limit for limit in content["limits"] if limit["name"] == "KKT residual")["value"] = 0.04

    forge(folder, edit)
    found = differing(folder)
    assert set(found) == {"constraints"}
    assert "validation.kkt_residual is 0.04 in the certificate, 0.05 in the study" in found["constraints"]


def test_values_that_were_forged_consistently_are_found_by_solving_again(folder):
    """All values 1 % larger: nothing contradicts anything but the part itself."""

    def edit(content):
        objective = content["objective"]
        for name in ("initial_fem", "fem", "fem_mapped", "fem_extrapolated", "reference"):
            objective[name] *= 1.01
        for level in objective["fem_levels"]:
            level["value"] *= 1.01

    forge(folder, edit)
    assert differing(folder) == {}
    found = differing(folder, resolve=True)
    assert set(found) == {"objective, extrapolated", "objective, finest mesh", "objective, moved mesh"}
    assert "the errors of both together" in found["objective, finest mesh"]


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda c: c.pop("version"), f"version: found no version; expected {VERSION}"),
        (lambda c: c.update(version=3), f"version: found version 3; expected {VERSION}"),
        (lambda c: c["objective"].pop("fem"), "has no entry 'objective.fem'"),
        (lambda c: c.update(more=1), "more: "),
        (lambda c: c["constraints"][0].update(value="much"), "constraints.0.value: "),
        (lambda c: c["files"].update({"optimum.step": "abc"}), "files.optimum.step: "),
    ],
)
def test_a_certificate_that_does_not_follow_its_schema_is_named_by_entry(folder, edit, said):
    content = json.loads((folder / "certificate.json").read_text())
    edit(content)
    write_json(folder / "certificate.json", content)
    (found,) = verify(folder)
    assert not found.ok
    assert said in found.text
    with pytest.raises(CertificateError, match=r"certificate\.json: "):
        read_certificate(folder / "certificate.json")


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100000, "\ud800".encode("utf-8", "surrogatepass")])
def test_junk_in_place_of_a_certificate_is_said(folder, text):
    (folder / "certificate.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    (found,) = verify(folder)
    assert not found.ok


def test_the_schema_in_the_checkout_is_that_of_the_models_and_tells_what_changed():
    current = SCHEMA_FILE.read_text(encoding="utf-8")
    assert current == json_schema_text(), "run python -m shapewright.studies.certify.model"
    schema = json.loads(json_schema_text())
    for number in range(1, VERSION + 1):
        assert f"Version {number}: {CHANGES[number]}" in schema["description"]
    assert schema["properties"]["version"]["const"] == VERSION


def test_every_number_of_a_certificate_survives_writing_and_reading(whole, tmp_path):
    certificate = read_certificate(whole / "certificate.json")
    assert contradictions(certificate) == []
    write_json(tmp_path / "again.json", certificate.as_data())
    assert read_certificate(tmp_path / "again.json") == certificate
    assert (tmp_path / "again.json").read_bytes() == (whole / "certificate.json").read_bytes()


def test_the_study_is_the_same_wherever_it_lies_and_however_it_is_written(tmp_path):
    digest = study_digest(load_study(write_tiny(tmp_path)))
    (tmp_path / "else").mkdir()
    moved = write_tiny(tmp_path / "else", ("mesh_size: 0.4", "mesh_size: 4.0e-1"))
    same = ("description=words", "sampling.workers=7", "validation.kkt_residual=0.05", "surrogate.weights=x.pt")
    assert study_digest(load_study(moved, same)) == digest
    for change in ("validation.kkt_residual=0.06", "constraints.0.tolerance=1e-5", "name=other"):
        assert study_digest(load_study(moved, (change,))) != digest


def test_the_certificate_is_of_the_step_file_byte_for_byte(folder):
    """CAD that was changed is made anew, and with it the certificate."""
    run = tiny_run(folder, *FEM)
    before = read_certificate(folder / "certificate.json")
    swap_step(folder, 0.01)  # hashes and record are forged together, but it is not the outline of the design
    with run.workspace.lock(), pytest.raises(MeshError, match="this is not the outline of the design"):
        validate(run)
    (folder / "optimum.step").write_bytes((folder / "optimum.step").read_bytes() + b"\n")
    with run.workspace.lock():
        validate(run)
    assert differing(folder) == {}
    after = read_certificate(folder / "certificate.json")
    assert after.objective == before.objective
    assert sha256(folder / "optimum.step") == after.files["optimum.step"]
