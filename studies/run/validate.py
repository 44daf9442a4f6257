"""Stages ``export`` and ``validate``: the optimum as CAD, and its certificate by finite elements."""

from __future__ import annotations

import time

from shapewright.studies.certify.certificate import certify
from shapewright.studies.certify.digest import sources_of
from shapewright.studies.certify.export import Exported, export_cad
from shapewright.studies.certify.model import VERSION, Certificate, read_certificate, write_certificate
from shapewright.studies.files import sha256, write_text
from shapewright.studies.problem.setup import Setup
from shapewright.studies.run.infill import INFILL
from shapewright.studies.run.robust import COMPARE
from shapewright.studies.run.sample import physical_inputs
from shapewright.studies.run.search import OPTIMIZE, search_inputs
from shapewright.studies.run.stage import Inputs, Output, Results, Run, Stage
from shapewright.studies.run.train import SURROGATE
from shapewright.studies.run.workspace import Record

CAD_VERSION = 1
"""Of how CAD is written: files of another version are made anew."""
CERTIFICATE = "certificate.json"
CARD = "surrogate.card.json"
FIELD_FILES = ("optimum.vtu", "initial.vtu", "optimum.msh")


def _export_inputs(run: Run[Setup], results: Results) -> Inputs:
    return {
        "parameters": results[OPTIMIZE].theta.tolist(),
        **physical_inputs(run.setup),
        "geometry.thickness": run.setup.study.model.geometry.thickness,
    }


def _export(run: Run[Setup], results: Results, key: str) -> Output:
    run.report("export", 0, 1, "")
    exported = export_cad(run.setup, results[OPTIMIZE].theta, run.workspace.folder)
    run.report("export", 1, 1, "")
    return Output(exported.files, {"exported": exported.as_data()})


def _exported(run: Run[Setup], results: Results, record: Record | None) -> Exported:
    assert record is not None
    return Exported.of_data(record.content["exported"])


EXPORT = Stage("export", (OPTIMIZE,), _export_inputs, _export, _exported, CAD_VERSION)
"""CAD of the optimum; the files stay as they are, byte for byte, as long as they are of this design and whole."""


def _validate_inputs(run: Run[Setup], results: Results) -> Inputs:
    surrogate, tuned, found = results.get(SURROGATE), results.get(INFILL), results[OPTIMIZE]
    return {
        "study and files": sources_of(run.setup.study, None if surrogate is None else surrogate.path),
        "optimum.step": sha256(run.workspace.path("optimum.step")),  # the certificate is of this file, byte for byte
        "parameters": found.theta.tolist(),
        **physical_inputs(run.setup),
        **search_inputs(run.setup),
        "optimum": found.as_data(),
        "infill": None if tuned is None else tuned.as_data(),
    }


def _validate(run: Run[Setup], results: Results, key: str) -> Output:
    started = time.monotonic()
    run.report("validate", 0, 1, "")
    surrogate = results.get(SURROGATE)
    found, exported, folder = results[OPTIMIZE], results[EXPORT], run.workspace.folder
    model, correlation = (None, None) if surrogate is None else (surrogate.model, surrogate.correlation)
    certificate = certify(run.setup, found.theta, exported, folder, model, correlation)
    solves = {name: count + found.fem_solves.get(name, 0) for name, count in certificate.fem_solves.items()}
    inputs = _validate_inputs(run, results)
    certificate = certificate.with_run(
        infill=inputs["infill"],
        exit=inputs["optimum"]["exit"],
        fem_solves=solves,
        timings=_seconds(results) | {"validate": round(time.monotonic() - started, 3)},
        sources=inputs["study and files"],
        files={name: sha256(run.workspace.path(name)) for name in (*exported.files, *FIELD_FILES)},
    )
    write_certificate(run.workspace.path(CERTIFICATE), certificate)
    run.report("validate", 1, 1, "")
    return Output((CERTIFICATE, *FIELD_FILES))


def _seconds(results: Results) -> dict[str, float]:
    """Seconds of the stages that led to this design; of the training those of all its runs."""
    return {stage: record.content.get("total", record.seconds) for stage, record in results.records.items()}


def _certificate(run: Run[Setup], results: Results, record: object) -> Certificate:
    return read_certificate(run.workspace.path(CERTIFICATE))


VALIDATE = Stage(
    "validate", (SURROGATE, OPTIMIZE, INFILL, EXPORT, COMPARE), _validate_inputs, _validate, _certificate, VERSION
)


def leave_card(run: Run[Setup], results: Results) -> None:
    """The card of the surrogate or operator that searched, for the report; none where finite elements did it alone."""
    surrogate = results.get(SURROGATE)
    if surrogate is None:
        run.workspace.path(CARD).unlink(missing_ok=True)
    else:
        write_text(run.workspace.path(CARD), surrogate.card.as_json() + "\n")
