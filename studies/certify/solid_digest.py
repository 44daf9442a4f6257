"""SHA-256 of what the certificate of a solid is of: the study and the CAD file that the part came from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from shapewright.studies.problem.equations import physics_key
from shapewright.studies.problem.solid_setup import cad_key
from shapewright.studies.schema.loader import Study
from shapewright.studies.schema.solid_study import SolidStudyModel


def solid_digest(study: Study[SolidStudyModel]) -> str:
    """SHA-256 of what a study says, wherever its files lie; its description and default values are left out."""
    data = study.model.model_dump(mode="json", exclude={"description"}, exclude_defaults=True)
    data["geometry"]["cad"] = Path(data["geometry"]["cad"]).name
    data["physics"]["name"] = Path(data["physics"]["name"]).name
    data |= physics_key(study)
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def cad_digest(study: Study[SolidStudyModel]) -> str:
    """Hash of the CAD file."""
    return cad_key(study)
