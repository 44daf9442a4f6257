"""``shapewright.run`` of a Python program: what the command of the same name does, on a study value."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shapewright.app.provenance import provenance
from shapewright.geometries.family.effort import forcing
from shapewright.studies.certify.front_model import FrontResult
from shapewright.studies.certify.model import Certificate
from shapewright.studies.certify.solid_model import SolidCertificate
from shapewright.studies.problem.jumps import JumpWarning, jumps
from shapewright.studies.problem.operators import open_operator
from shapewright.studies.problem.setup import build_setup
from shapewright.studies.problem.surrogates import choose_device
from shapewright.studies.run import pipeline
from shapewright.studies.run.kinds import load
from shapewright.studies.run.resolved import claim_folder
from shapewright.studies.run.stage import Report, silent
from shapewright.studies.run.workspace import Workspace
from shapewright.studies.schema.solid_study import SolidStudyModel
from shapewright.studies.schema.study import StudyModel
from shapewright.studies.schema.value import Study
from shapewright.studies.schema.yaml_source import StudyError


@contextmanager
def opened(
    study: Study[StudyModel],
    workspace: Workspace,
    device: str,
    report: Report,
    overwrite: bool = False,
    *,
    searches: bool = True,
) -> Iterator[pipeline.Run]:
    """A study in its locked output folder, its stages ready to run; arguments and errors as of :func:`run`.

    Where it is to search, a model that the study leaves open is chosen now.
    """
    objects = [".".join(map(str, key)) for key in study.objects()]
    stages = [stage.name for stage in pipeline.design_stages(study.model)]
    if objects and ("sample" in stages or study.model.engine is not None):
        expected = "a file, 'my_file.py:Name', and formulas as text, which processes can read; or optimizer on fem"
        raise study.error(objects[0], "a Python object in a study whose samples other processes solve", expected)
    with forcing(study.force), workspace.lock():
        claim_folder(study, workspace, overwrite)
        current = pipeline.Run(build_setup(study), workspace, device, report)
        current = pipeline.decided(current) if searches else current
        _tell_of_operator(current)
        for text in jumps(current.setup):
            warnings.warn(text, JumpWarning, stacklevel=4)
        pipeline.write_resolved(current, provenance(device, study.model.training.seed))
        yield current


def _tell_of_operator(current: pipeline.Run) -> None:
    """Open the operator of a study, if it names one, and report what it is and how new the study is to it.

    Raises:
        StudyError: the study lies outside the operator's card.
    """
    setup = current.setup
    choice = setup.study.model.operator
    if choice is not None:
        operator = open_operator(setup, choice, current.device)
        current.report("sample, train", 1, 1, f"skipped: operator {operator.name} needs neither samples nor training")
        text = f"{operator.name}, gradient {choice.gradient}; start: {operator.outside(setup.initial)}"
        current.report("operator", 1, 1, text)


def run(
    study: Study[StudyModel] | Study[SolidStudyModel] | str | Path,
    folder: str | Path,
    *,
    device: str = "auto",
    overwrite: bool = False,
    report: Report = silent,
) -> Certificate | FrontResult | SolidCertificate:
    """Everything of a study: sample, train or take weights or an operator, optimize, export, validate, report.

    Of a study with two objectives: all designs of the front, each with its CAD and its certificate.

    What is finished in the folder is reused. ``report.html`` needs a study that YAML can hold: one with Python objects
    gets none.

    Args:
        study: loaded from a file, or made in Python; or the file.
        folder: of the results.
        device: auto, cpu or cuda.
        overwrite: whether results of another study there are replaced.
        report: called with stage, done, total and a text.

    Raises:
        StudyError: names the key; also where Python objects would have to reach processes that solve samples.
        WorkspaceError: the folder cannot be used.
        OptimizationError: no start led to a valid design.
    """
    if isinstance(study, str | Path):
        study = load(study)
    if not isinstance(study, Study):
        raise StudyError(f"study: found {type(study).__name__}; expected a Study or the name of its file")
    if not isinstance(folder, str | Path):
        raise StudyError(f"folder: found {type(folder).__name__}; expected the name of a folder")
    if isinstance(study.model, SolidStudyModel):
        from shapewright.app.solid import run_solid_study

        return run_solid_study(study, Path(folder), overwrite, report)
    with opened(study, Workspace(Path(folder)), choose_device(device), report, overwrite) as current:
        return finish(current)


def finish(current: pipeline.Run) -> Certificate | FrontResult:
    """All stages of a study that is open, and its report if YAML can hold it."""
    study, folder = current.setup.study, current.workspace.folder
    if study.model.front is None:
        certificate = pipeline.certificate_of(current)
        if not any(study.objects()):
            from shapewright.app.report.report import write_report

            write_report(folder)
        return certificate
    front = pipeline.front_of(current)
    if not any(study.objects()):
        from shapewright.app.report.front_report import write_front_report
        from shapewright.app.report.report import write_report

        certified = [folder / point.folder for point in front.points if point.certified]
        for done, own in enumerate(certified, start=1):
            current.report("report", done - 1, len(certified), "")
            write_report(own)
        write_front_report(folder)
        current.report("report", len(certified), len(certified), "")
    return front
