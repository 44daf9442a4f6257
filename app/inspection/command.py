"""Solids, faces, tolerances and faults of a STEP file: printed, drawn, and a first choice of regions to copy."""

from __future__ import annotations

from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.table import Table
from ruamel.yaml import YAML

from shapewright.app.inspection.wording import number, sizes
from shapewright.geometries.cad.selection import colour_name, direction_name
from shapewright.geometries.cad.solid import Solid, StepContents, chosen, inspect_step
from shapewright.geometries.cad.starter import starter_regions
from shapewright.geometries.files import written_whole


@dataclass(frozen=True)
class Drawn:
    """Files of an inspection."""

    picture: Path
    page: Path
    regions: Path


def inspect_part(console: Console, path: Path, unit: str | None, wanted: int | None, folder: Path) -> bool:
    """Print what a STEP file holds, draw the solid, and write regions to begin with; whether nothing is refused.

    Args:
        console: to print on.
        path: of the STEP file.
        unit: of all lengths; None for the file's own.
        wanted: number of the solid; None for the only one.
        folder: for the picture, the page and the regions.

    Raises:
        PartError: the file holds nothing to inspect.
    """
    contents = inspect_step(path, unit)
    _print_solids(console, contents)
    if wanted is None and len(contents.solids) > 1:
        _say(console, f"refused as it is: {len(contents.solids)} solids; write `solid: n` in the study, and see one by"
                      " --solid n")  # fmt: skip
        return False
    solid = chosen(contents, wanted)
    print_faces(console, solid)
    for warning in solid.warnings:
        _say(console, f"warning: {warning}")
    for fault in solid.faults:
        _say(console, f"refused: {fault}")
    drawn = draw(solid, folder)
    text = drawn.regions.read_text()
    _say(console, f"Regions to begin with (rename, join and leave out; {drawn.regions}):\n\n{text}")
    _say(console, f"Drawn in {drawn.picture} and, to turn in a browser, {drawn.page}.")
    if not solid.faults:
        _say(console, "Nothing of it is refused.")
    return not solid.faults


def draw(solid: Solid, folder: Path) -> Drawn:
    """Write the picture, the page and the regions of a solid."""
    from shapewright.app.inspection.page import write_page
    from shapewright.app.inspection.picture import write_picture
    from shapewright.geometries.cad.facets import edge_lines, facets_of

    folder.mkdir(parents=True, exist_ok=True)
    drawn = Drawn(folder / "faces.png", folder / "faces.html", folder / "regions.yaml")
    facets, lines = facets_of(solid.cad), edge_lines(solid.cad)
    with written_whole(drawn.regions) as part:
        part.write_text(regions_yaml(solid))
    write_picture(facets, lines, drawn.picture)
    write_page(solid, facets, lines, drawn.page, drawn.regions.read_text())
    return drawn


def regions_yaml(solid: Solid) -> str:
    """The part of a study's ``geometry`` that names this file and its faces."""
    regions = starter_regions(solid.faces, solid.size)
    geometry: dict[str, object] = {"cad": solid.path.name, "length_unit": solid.unit}
    if solid.number > 1:
        geometry["solid"] = solid.number
    lines = ["geometry:", *(f"  {key}: {_flow(value)}" for key, value in geometry.items()), "  regions:"]
    for region in regions:
        faces = f"face{'s' if len(region.faces) > 1 else ''} {', '.join(map(str, region.faces))}"
        lines.append(f"    {region.name}: {_flow(region.query)}  # {faces}")
    return "\n".join(lines) + "\n"


def _flow(value: object) -> str:
    """YAML in one line."""
    yaml, text = YAML(), StringIO()
    yaml.default_flow_style = True
    yaml.width = 10_000
    yaml.dump(value, text)
    return text.getvalue().removesuffix("...\n").strip()


def _print_solids(console: Console, contents: StepContents) -> None:
    own = "" if contents.unit == contents.file_unit else f" (the file is in {contents.file_unit})"
    _say(console, f"{contents.path}: lengths in {contents.unit}{own}")
    table = Table("solid", "faces", "volume", "from", "to", "tolerance / size", "refused", title="Solids")
    for solid in contents.solids:
        corners = (", ".join(number(x, solid.size) for x in corner) for corner in (solid.low, solid.high))
        table.add_row(
            str(solid.number),
            str(len(solid.faces)),
            f"{solid.volume:.4g}",
            *corners,
            f"{solid.tolerance / (solid.size or 1.0):.1e}",
            "yes" if solid.faults else "no",
        )
    if contents.solids:
        console.print(table)
    if contents.sheets:
        _say(console, f"{contents.sheets} faces bound no solid and are left out.")
    if not contents.solids:
        chosen(contents, None)


def print_faces(console: Console, solid: Solid) -> None:
    """The table of faces of a solid."""
    names, colours = (any(getattr(face, key) for face in solid.faces) for key in ("name", "colour"))
    columns = ["face", "kind", "area", "centroid", "direction", "size", *["name"] * names, *["colour"] * colours]
    table = Table(*columns, title=f"Faces of solid {solid.number}")
    for face in solid.faces:
        direction = face.axis or face.normal
        table.add_row(
            str(face.number),
            face.kind.replace("_", "-") + {True: ", hollow", False: "", None: ""}[face.hollow],
            f"{face.area:.5g}",
            ", ".join(number(x, solid.size) for x in face.centroid),
            "" if direction is None else ("axis " if face.axis else "normal ") + direction_name(direction),
            sizes(face, solid.size),
            *[face.name] * names,
            *["" if face.colour is None else colour_name(face.colour)] * colours,
        )
    console.print(table)


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)

