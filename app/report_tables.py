"""The tables of the report, every number already written for reading."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from app.formatting import (
    NOTHING, capital, digits_for, limit, number, percent, seconds, signed, unit, with_unit, words,
)  # fmt: skip
from app.report_data import Finished
from app.verdict import check_rows, pass_or_fail
from geometries.family import builtin_families
from geometries.quantities import QUANTITIES
from studies.schema import Constraint

RELATIONS = {"equals": "=", "at_least": "≥", "at_most": "≤"}


@dataclass(frozen=True)
class Table:
    """Written cells.

    Attributes:
        columns: headings; one that starts with ``#`` is of numbers, which stand to the right.
        rows: cells, the first of them a name or (name, explanation).
        note: below the table.
    """

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    note: str = ""


def checks_table(finished: Finished) -> Table:
    """Every line of the verdict, constraints among them."""
    rows: list[tuple[Any, ...]] = [
        ((name, meaning), value, required, result)
        for name, meaning, value, required, result in check_rows(finished.certificate["checks"])
    ]
    missed = [found["name"] for _, found in finished.constraints if not found["satisfied"]]
    if finished.constraints:
        met = len(finished.constraints) - len(missed)
        meaning = "Each is in the table of constraints below."
        count = len(finished.constraints)
        rows.append((("Constraints", meaning), f"{met} met", f"all {count}", pass_or_fail(not missed)))
    return Table(("Check", "#Found", "#Required", "Result"), rows)


def constraints_table(finished: Finished) -> Table:
    """Constraints at the start and at the optimum, and what each costs."""
    objective = finished.certificate["objective"]
    rows = []
    for constraint, found in finished.constraints:
        scale = constraint.tolerance * max(1.0, abs(found["target"]))
        start = finished.history[found["name"]][0]
        required = f"{RELATIONS[constraint.kind]} {number(found['target'], 6)}"
        rows.append(
            (
                _quantity(constraint, found["unit"]),
                _snapped(start, scale),
                _snapped(found["value"], scale),
                required,
                signed(found["value"] - found["target"]),
                number(scale, 1),
                pass_or_fail(found["satisfied"]),
                _price(finished, constraint, found),
            )
        )
    price = " per ".join(filter(None, (unit(objective["unit"]), "unit")))
    note = (
        "Tolerance: the violation that still counts as satisfied. Price: by how much the optimal"
        f" {words(objective['name'])} changes, to first order, when the required value is raised by one unit"
        f" (in {price}); a constraint that holds with room to spare has none."
    )
    columns = ("Quantity", "#Start", "#Optimum", "#Required", "#Difference", "#Tolerance", "Result", "#Price")
    return Table(columns, rows, note)


def _quantity(constraint: Constraint, name: str) -> tuple[str, str]:
    known = QUANTITIES.get(constraint.quantity)
    heading = capital(words(constraint.quantity)) + (f" [{unit(name)}]" if unit(name) else "")
    return heading, capital(known.description) if known else ""


def _snapped(value: float, tolerance: float) -> str:
    """A value to six digits, or 0 where it differs from that by far less than matters."""
    return "0" if abs(value) < 1e-2 * tolerance else number(value, 6)


def _price(finished: Finished, constraint: Constraint, found: dict[str, Any]) -> str:
    """The derivative of the optimal objective by the target, from the multiplier of (target - value) or its negative."""
    multiplier = finished.certificate["multipliers"].get(found["name"])
    if multiplier is None:
        return "none"
    return signed(multiplier if constraint.kind == "at_least" else -multiplier, 3)


def parameters_table(finished: Finished) -> Table:
    """Design parameters with their place between the bounds and the objective's slope by finite elements."""
    objective, geometry = finished.certificate["objective"], finished.study.geometry
    families = builtin_families()
    known = families[geometry.family](**geometry.options).parameters if geometry.family in families else ()
    meanings = {parameter.name: capital(parameter.description) for parameter in known}
    rows = []
    for name, entry in finished.certificate["parameters"].items():
        lower, upper = entry["lower"], entry["upper"]
        heading = name + (f" [{unit(entry['unit'])}]" if unit(entry["unit"]) else "")
        rows.append(
            (
                (heading, meanings.get(name, "")),
                number(entry["initial"], 4),
                number(entry["value"], 5),
                f"{number(lower, 4)} to {number(upper, 4)}",
                _track(lower, upper, entry["initial"], entry["value"]),
                "on its bound" if entry["bound_hit"] else "within",
                signed(entry["sensitivity"], 3),
            )
        )
    note = (
        f"Sensitivity: change of the {words(objective['name'])} per unit of the parameter at the optimum"
        f" (in {unit(objective['unit']) or '1'} per unit), by the finite-element adjoint. At a constrained optimum it is not"
        " zero, but balanced by the constraints. In the bar, the open mark is the start and the full one the optimum."
    )
    columns = ("Parameter", "#Start", "#Optimum", "#Bounds", "Place", "Bound", "#Sensitivity")
    return Table(columns, rows, note)


def _track(lower: float, upper: float, start: float, value: float) -> Markup:
    places = [100 * min(1.0, max(0.0, (at - lower) / (upper - lower))) for at in (start, value)]
    return Markup(
        '<span class="track"><i class="open" style="left:{:.1f}%"></i><i style="left:{:.1f}%"></i></span>'
    ).format(*places)


def mesh_table(finished: Finished) -> Table:
    """The objective on refined meshes of the CAD file, with its extrapolation."""
    objective = finished.certificate["objective"]
    name, digits = objective["unit"], digits_for(objective["discretization_error"])
    rows: list[tuple[Any, ...]] = []
    last = None
    for level in objective["fem_levels"]:
        value = level["value"]
        change = NOTHING if last is None else f"{signed(100 * (value - last) / abs(value), 2)} %"
        rows.append((f"{number(level['h'], 3)}", str(level["dofs"]), number(value, digits + 1), change))
        last = value
    final = objective["fem_extrapolated"]
    gap = f"{signed(100 * (final - last) / abs(final), 2)} %" if last is not None and final else NOTHING
    rows.append(("extrapolated to 0", NOTHING, number(final, digits + 1), gap))
    order = objective["observed_order"]
    observed = (
        f"Observed order {number(order, 3)}: the error shrinks like cell size to that power (Richardson extrapolation)."
        if order is not None
        else f"No order observed: {objective.get('extrapolation', 'the values do not converge monotonically')}."
    )
    note = (
        f"{observed} Mesh uncertainty of the finest value: {percent(objective['discretization_error'])}. The meshes are made"
        " afresh from the STEP file read back, with curved cells; the unknowns are those of the finite-element system."
    )
    length = finished.study.geometry.length_unit
    return Table(
        (f"Cell size [{length}]", "#Unknowns", f"#{capital(words(objective['name']))} [{unit(name) or '1'}]", "#Change"),
        rows,
        note,
    )


def surrogate_table(finished: Finished) -> Table | None:
    """Errors of the surrogate on designs it was not trained on, and at the optimum; None without one."""
    card, certificate, judged = finished.card, finished.certificate, finished.study.validation
    if card is None:
        return None
    held_out = card["held_out"]
    rows = [
        (
            (f"Field {name}", "Relative L2 error over the domain"),
            percent(held_out["field"].get(name)),
            percent(error),
            f"≤ {limit(100 * judged.field_error)} %",
        )
        for name, error in certificate["field_relative_l2_error"].items()
    ]
    gradient = certificate["gradient"]
    rows += [
        (
            (capital(words(certificate["objective"]["name"])), "Relative error of the objective"),
            percent(held_out["objective"]),
            percent(certificate["objective"]["surrogate_relative_error"]),
            f"≤ {limit(100 * judged.objective_error)} %",
        ),
        (
            ("Design gradient", "Relative error of the objective's derivatives by the parameters"),
            percent(held_out["gradient"]),
            percent(gradient["relative_error"]),
            NOTHING,
        ),
        (
            ("Direction of the gradient", "Cosine of the angle to the true one; 1 is the same direction"),
            number(held_out["cosine"], 5),
            number(gradient["cosine"], 5),
            f"≥ {limit(judged.gradient_cosine)}",
        ),
    ]
    hardware = card["hardware"]
    note = (
        f"Trained on {card['designs']} finite-element solutions in {seconds(card['seconds'])}"
        f" ({', '.join(f'{words(key)} {value}' for key, value in hardware.items())}); data {card['data_hash']}."
    )
    return Table(("Error", f"#Mean of {held_out['designs']} held-out designs", "#At this optimum", "#Limit"), rows, note)


def starts_table(finished: Finished) -> Table:
    """How the search went from each start."""
    rows = [
        (
            f"{entry['start']}{' (best)' if entry['start'] == finished.optimum['best_start'] else ''}",
            number(entry["objective"], 6),
            str(entry["iterations"]),
            "yes" if entry["feasible"] else "no",
            words(entry["reason"]).lower(),
        )
        for entry in finished.optimum["starts"]
    ]
    objective = finished.certificate["objective"]
    heading = f"#{capital(words(objective['name']))} [{unit(objective['unit']) or '1'}]"
    return Table(("Start", heading, "#Iterations", "Constraints met", "Ended"), rows)


def cad_table(finished: Finished) -> Table:
    """What the CAD file holds when it is read back."""
    cad, length = finished.certificate["cad"], finished.study.geometry.length_unit
    solid = cad["kind"] == "solid"
    name, power = ("Volume", "^3") if solid else ("Area", "^2")
    thickness = finished.study.geometry.thickness
    kind = f"solid, extruded by {with_unit(limit(thickness), length)}" if solid and thickness else cad["kind"]
    measure = length + power
    rows = [
        ("File", cad["file"]),
        ("Kind", kind),
        ("Valid by OpenCASCADE's own check", "yes" if cad["valid"] else "NO"),
        (f"{name}, file read back", with_unit(number(cad["area_or_volume_reread"], 7), measure)),
        (f"{name}, the design's own", with_unit(number(cad["area_or_volume_design"], 7), measure)),
        ("Relative difference of the two", number(cad["relative_error"], 2)),
        ("Largest distance of the curves", with_unit(number(cad["max_deviation"], 2), length)),
        ("B-spline edges", str(cad["b_spline_edges"])),
    ]
    stl = cad["stl"]
    if stl is not None:
        watertight = "watertight" if stl["watertight"] else "NOT watertight"
        volume = with_unit(number(stl["volume"], 5), measure)
        rows.append(("STL (facets, for printing)", f"{watertight}, volume {volume}"))
    else:
        rows.append(("STL", "none: geometry.thickness is not given, so the part is a face"))
    return Table(("The part as CAD", "Value"), rows, "The curve in the file is the very B-spline of the design, not facets.")


def provenance_tables(finished: Finished) -> list[Table]:
    """Machine, versions, and where the time went."""
    run, hardware, certificate = finished.run, finished.run["hardware"], finished.certificate
    packages = ", ".join(f"{name} {version}" for name, version in run["packages"].items())
    study = finished.study
    seeds = {
        "run": run["seed"],
        "sampling": study.sampling.seed,
        "training": study.training.seed,
        "starts": study.optimizer.seed,
    }
    machine = Table(
        ("Made with", "Value"),
        [
            ("Shapewright", f"{run['shapewright']} on Python {run['python']}"),
            ("Packages", packages),
            ("Processor", f"{hardware.get('processor')}, {hardware.get('cores')} cores"),
            ("Memory", f"{hardware['memory_gib']:g} GiB" if hardware.get("memory_gib") else NOTHING),
            ("GPU", hardware.get("gpu") or "none used"),
            ("Device of the surrogate", run["device"]),
            ("Seeds", ", ".join(f"{name} {seed}" for name, seed in seeds.items())),
            ("Started", run["started"].replace("T", " ").replace("+00:00", " UTC")),
        ],
    )
    count: Callable[[dict[str, int]], str] = lambda solves: ", ".join(f"{n} {kind}" for kind, n in solves.items())
    spent = Table(
        ("Stage", "#Time"),
        [(capital(stage), seconds(spent)) for stage, spent in certificate["timings"].items()],
        f"Finite-element solves of optimizer and certificate: {count(certificate['fem_solves'])}."
        " A stage that was taken over from an earlier run keeps the time that it took then.",
    )
    return [machine, spent]
