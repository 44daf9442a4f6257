"""A page that shows a solid to turn, with numbered faces: one file, which needs no network."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from shapewright.app.inspection.picture import face_colour
from shapewright.app.inspection.wording import sizes
from shapewright.geometries.cad.facets import Facets
from shapewright.geometries.cad.selection import colour_name, direction_name
from shapewright.geometries.cad.solid import Solid
from shapewright.geometries.files import written_whole
from shapewright.geometries.mesh.simplex import Array

TEMPLATE = Path(__file__).with_name("page.html")


def write_page(solid: Solid, facets: Sequence[Facets], lines: Sequence[Array], path: Path, regions: str) -> None:
    """Write the page; ``regions`` is shown on it to be copied."""
    text = TEMPLATE.read_text(encoding="utf-8")
    for mark, value in {
        "TITLE": escape(solid.path.name),
        "SUMMARY": escape(_summary(solid)),
        "REGIONS": escape(regions),
        "SCENE": json.dumps(scene(solid, facets, lines)).replace("</", "<\\/"),
    }.items():
        text = text.replace(f"[[{mark}]]", value)
    with written_whole(path) as part:
        part.write_text(text, encoding="utf-8")


def _summary(solid: Solid) -> str:
    extent = " × ".join(f"{b - a:.5g}" for a, b in zip(solid.low, solid.high, strict=True))
    found = f"{len(solid.faces)} faces, {extent} {solid.unit}, volume {solid.volume:.6g} {solid.unit}³"
    return ". ".join([found, *(f"Refused: {fault}" for fault in solid.faults), *solid.warnings])


def scene(solid: Solid, facets: Sequence[Facets], lines: Sequence[Array]) -> dict[str, object]:
    """What the page draws: corners of triangles and edges about the middle of the part, in its size, and the faces."""
    middle, half = (np.add(solid.low, solid.high) / 2, (solid.size or 1.0) / 2)
    corners = [(own.points[own.triangles.ravel()] - middle) / half for own in facets]
    segments = [np.repeat((line - middle) / half, 2, axis=0)[1:-1] for line in lines]
    return {
        "corners": _packed(np.concatenate(corners)),
        "counts": [len(own) for own in corners],
        "segments": _packed(np.concatenate(segments) if segments else np.zeros((0, 3))),
        "faces": [
            {
                "number": face.number,
                "kind": face.kind.replace("_", "-") + (", hollow" if face.hollow else ""),
                "direction": "" if (along := face.axis or face.normal) is None else direction_name(along),
                "size": sizes(face, solid.size),
                "area": f"{face.area:.5g}",
                "name": face.name or (colour_name(face.colour) if face.colour else ""),
                "colour": face_colour(face.number),
            }
            for face in solid.faces
        ],
    }


def _packed(points: Array) -> str:
    return base64.b64encode(points.astype("<f4").tobytes()).decode()
