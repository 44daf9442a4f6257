"""SHA-256 of what a certificate is of: the study, files of one's own, the weights."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from shapewright.studies.certify.model import Sources
from shapewright.studies.files import sha256
from shapewright.studies.problem.own_files import family_file, physics_file
from shapewright.studies.schema.loader import Study
from shapewright.studies.schema.study import PretrainedOperator, StudyModel


def sources_of(study: Study[StudyModel], weights: Path | None) -> dict[str, str | None]:
    """Content of :class:`model.Sources`; ``weights`` are those of the surrogate that searched."""
    family, physics = family_file(study), physics_file(study)
    sources = Sources(
        study=study_digest(study),
        family=None if family is None else sha256(family),
        physics=None if physics is None else sha256(physics),
        weights=None if weights is None else sha256(weights),
    )
    return sources.model_dump(exclude={"physics"} if physics is None else None)


def study_digest(study: Study[StudyModel]) -> str:
    """SHA-256 of what a study says, wherever its files lie and however it is written.

    Description, number of workers and where weights lie are left out, because no result depends on them. So are
    default values, because a key that a later version adds must change nothing.
    """
    excluded: dict[str, bool | set[str]] = {"description": True, "sampling": {"workers"}, "surrogate": {"weights"}}
    data = study.model.model_dump(mode="json", exclude=excluded, exclude_defaults=True)
    data["geometry"]["family"] = Path(data["geometry"]["family"]).name
    data["physics"]["name"] = Path(data["physics"]["name"]).name
    if isinstance(study.model.model, PretrainedOperator):
        data["model"]["operator"] = Path(data["model"]["operator"]).name
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
