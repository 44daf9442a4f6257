"""Checks of a finished folder of a solid: files, certificate and CAD against each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from shapewright.geometries.cad.solid_checks import boundary_deviation, volume_and_centroid
from shapewright.geometries.cad.step import CadError
from shapewright.studies.certify.model import CertificateError
from shapewright.studies.certify.solid_certificate import options_at, solve_fresh
from shapewright.studies.certify.solid_digest import cad_digest, solid_digest
from shapewright.studies.certify.solid_export import ExportedSolid
from shapewright.studies.certify.solid_model import SolidCertificate, read_solid_certificate
from shapewright.studies.files import sha256
from shapewright.studies.problem.solid_setup import SolidSetup, build_solid_setup
from shapewright.studies.run.solid_run import CERTIFICATE, EXPORT, OPTIMIZE, STAGES
from shapewright.studies.run.stage import Results, Run
from shapewright.studies.run.verify import Finding
from shapewright.studies.run.workspace import Workspace
from shapewright.studies.schema.loader import RESOLVED, load_study
from shapewright.studies.schema.solid_study import SolidStudyModel

SAME_VOLUME = 1e-9
"""Relative difference of a volume that is measured again."""
SAME_SOLUTION = 1e-6
"""Relative difference of an objective that is solved again: gmsh's mesh may differ in its last digits."""


def verify_solid(folder: Path, resolve: bool = False) -> list[Finding]:
    """Findings about a folder; with ``resolve`` the coarsest mesh of the certificate is made and solved again.

    Raises:
        StudyError: its study cannot be read.
        CertificateError: it has no certificate, or one that was edited.
    """
    certificate = read_solid_certificate(folder / CERTIFICATE)
    setup = build_solid_setup(load_study(folder / RESOLVED, (), SolidStudyModel))
    workspace = Workspace(folder)
    return [*_files(workspace, certificate), *_study(setup, certificate), *_cad(setup, workspace, certificate),
            *(_solved(setup, workspace, certificate) if resolve else ())]  # fmt: skip


def _files(workspace: Workspace, certificate: SolidCertificate) -> Iterator[Finding]:
    for stage in STAGES:
        record = workspace.record(stage.name)
        changed = ["no record"] if record is None else workspace.changed(record)
        yield Finding(f"stage {stage.name}", not changed, ", ".join(changed) or "its files are as it left them")
    for name, digest in certificate.files.items():
        path = workspace.path(name)
        same = path.is_file() and sha256(path) == digest
        yield Finding(name, same, "the file of the certificate" if same else "gone, or not the one certified")


def _study(setup: SolidSetup, certificate: SolidCertificate) -> Iterator[Finding]:
    same = solid_digest(setup.study) == certificate.study
    yield Finding("study", same, "the one certified" if same else "not the one certified")
    same = cad_digest(setup.study) == certificate.cad_input
    yield Finding("CAD of the part", same, "the one certified" if same else "not the one certified")
    failed = [check.name for check in certificate.checks if not check.satisfied]
    failed += [row.name for row in certificate.constraints if not row.satisfied]
    consistent = certificate.accepted == (not failed)
    yield Finding("verdict", consistent, certificate.verdict if consistent else f"{certificate.verdict} But: {failed}")


def _exported(setup: SolidSetup, workspace: Workspace) -> ExportedSolid:
    record = workspace.record(EXPORT.name)
    if record is None:
        raise CertificateError(f"{workspace.folder}: has no record of the export; run `shapewright run` again")
    return EXPORT.read(Run(setup, workspace), Results(), record)


def _cad(setup: SolidSetup, workspace: Workspace, certificate: SolidCertificate) -> Iterator[Finding]:
    try:
        exported = _exported(setup, workspace)
    except CadError as error:
        yield Finding("CAD", False, str(error))
        return
    volume, _ = volume_and_centroid(exported.cad)
    same = abs(volume - certificate.cad.volume) <= SAME_VOLUME * certificate.cad.volume
    yield Finding("CAD volume", same, f"read back {volume:.9g}, certified {certificate.cad.volume:.9g}")
    optimum = OPTIMIZE.read(Run(setup, workspace), Results(), None)
    nodes = setup.on_mesh(optimum.mesh).shape_map.nodes(torch.from_numpy(optimum.theta)).numpy()
    deviation = boundary_deviation(exported.cad, optimum.mesh, nodes) / setup.size
    allowed = setup.study.model.validation.cad_deviation
    yield Finding("CAD against the design", deviation <= allowed, f"{deviation:.2g} of the size, allowed {allowed:.2g}")


def _solved(setup: SolidSetup, workspace: Workspace, certificate: SolidCertificate) -> Iterator[Finding]:
    level = solve_fresh(setup, *_exported(setup, workspace).mesh(options_at(setup, 0))).level
    name = setup.problem.objective.name
    again, before = level.values[name], certificate.levels[0].values[name]
    same = abs(again - before) <= SAME_SOLUTION * abs(before)
    yield Finding("finite elements", same, f"{name} solved again {again:.8g}, certified {before:.8g}")
