"""Sizes of meshes, solids and networks that a study asks for, refused where they are out of proportion."""

from __future__ import annotations

import reprlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapewright.geometries.family.effort import MOST_BYTES, estimated_nodes, forced, in_words, mesh_fault
from shapewright.geometries.family.family import Family
from shapewright.studies.schema.learning import Surrogate
from shapewright.studies.schema.loader import PlanarStudy, Study, StudyError
from shapewright.studies.schema.study import StudyModel
from shapewright.surrogate.mgno.network_size import estimated_training_bytes

THICKNESSES = 1e-6, 1e4
"""Least and largest thickness of a solid in sizes of its section."""


def refuse_effort(study: Study[StudyModel], family: Family) -> None:
    """Refuse meshes of the study, the certificate's included, that are larger than without ``--force``."""
    geometry, validation = study.model.geometry, study.model.validation
    coarsest = "geometry.mesh_size" if validation.mesh_size is None else "validation.mesh_size"
    finest = (validation.mesh_size or geometry.mesh_size) / 2.0 ** min(validation.refinements - 1, 1000)
    points = family.control_points(family.reference).numpy()
    for key, size, which in (
        ("geometry.mesh_size", geometry.mesh_size, ""),
        (coarsest, finest, f"on the finest of {validation.refinements} validation.refinements, "),
    ):
        found = mesh_fault(family, points, size)
        if found:
            raise StudyError(f"{study.location(key)}: {key}: {which}{found}")
    _refuse_thickness(study, family, points)
    refuse_large_network(study, estimated_nodes(family, points, geometry.mesh_size))


def _refuse_thickness(study: PlanarStudy, family: Family, points: NDArray[np.float64]) -> None:
    """Refuse a solid so thin or so long beside its section that no CAD program could tell its faces apart."""
    thickness = study.model.geometry.thickness
    size = float(np.ptp(points[family.loop_slices[family.part]], axis=0).max())
    least, most = (share * size for share in THICKNESSES)
    if thickness is not None and not least <= thickness <= most:
        raise study.error(
            "geometry.thickness", f"{thickness:g}", f"{least:.3g} to {most:.3g}, beside a part of size {size:.3g}"
        )


def refuse_large_network(study: PlanarStudy, points: float) -> None:
    """Refuse a network that takes more memory in training than is taken without ``--force``.

    Raises:
        StudyError: names the size that makes it so large, the estimate and the limit.
    """
    model = study.model.surrogate

    def bytes_of(size: Surrogate) -> float:
        return estimated_training_bytes(
            _as_real(size.width),
            _as_real(size.hidden),
            _as_real(size.modes_per_axis),
            _as_real(size.layers),
            _as_real(size.grid),
            _as_real(size.radius),
            _as_real(study.model.training.batch),
            points,
        )

    expected = bytes_of(model)
    if expected <= MOST_BYTES or forced():
        return
    names = ("width", "hidden", "modes", "layers", "grid", "radius")
    usual = {name: type(model).model_fields[name].default for name in names}
    culprit = min(usual, key=lambda name: bytes_of(model.model_copy(update={name: usual[name]})))
    key = f"surrogate.{culprit}"
    raise StudyError(
        f"{study.location(key)}: {key}: found {reprlib.repr(getattr(model, culprit))}: training such a"
        f" network takes about {in_words(expected)} of memory; the limit is {in_words(MOST_BYTES)}: make it smaller, or"
        " give --force to go on"
    )


def _as_real(count: Any) -> Any:
    """A whole number, or each of several, as a real one: in a file it may have any number of digits."""
    return tuple(map(_as_real, count)) if isinstance(count, tuple) else float(min(count, 10**30))
