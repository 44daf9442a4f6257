"""Output folders as a finished run leaves them, from real geometries with analytic fields in place of solutions."""

from __future__ import annotations

import csv
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shapewright.geometries.design.extension import build_shape_map
from shapewright.geometries.design.shape_map import ShapeMap
from shapewright.geometries.family.catalogue import builtin_families
from shapewright.studies.certify.export import write_vtu
from shapewright.studies.certify.model import VERSION, Certificate
from shapewright.studies.certify.verdicts import limits
from shapewright.studies.files import write_json, write_text
from shapewright.studies.optimize.stationarity import Stop
from shapewright.studies.problem.conditions import Condition
from shapewright.studies.schema.loader import Study, dump, load_study

STUDIES = Path(__file__).parents[2] / "studies"


@cache
def _shape_map(family: str, options: str, size: float) -> ShapeMap:
    return build_shape_map(builtin_families()[family](**json.loads(options)), size)


def bar(folder: Path, surrogate: bool = True) -> dict[str, Any]:
    """Torsion of a bar that became a disc; returns the certificate."""
    return _write(folder, "torsion", 0.2, _torsion, ("torsional_constant", "m^4", "maximize"), surrogate)


def body(folder: Path, surrogate: bool = True) -> dict[str, Any]:
    """A body in Stokes flow that became longer; returns the certificate."""
    return _write(folder, "stokes_body", 0.12, _flow, ("dissipation", "W/m", "minimize"), surrogate)


def _torsion(nodes: np.ndarray) -> dict[str, np.ndarray]:
    return {"u": 0.5 * (1.0 - (nodes**2).sum(1))}


def _flow(nodes: np.ndarray) -> dict[str, np.ndarray]:
    """A channel profile that goes round the middle of a 2 by 1 channel."""
    x, y = nodes.T - np.array([[1.0], [0.5]])
    calm = 1.0 - np.exp(-20.0 * (x**2 + 4.0 * y**2))
    return {"u": (1.0 - 4.0 * y**2) * calm, "v": -2.0 * x * y * np.exp(-8.0 * (x**2 + y**2)), "p": 20.0 - 16.0 * x}


def _write(folder: Path, name: str, size: float, fields, objective: tuple[str, str, str], surrogate: bool):
    overrides = [] if surrogate else ["optimizer.on=fem"]
    study = load_study(STUDIES / f"{name}.yaml", overrides)
    options = {
        key: value for key, value in study.model.geometry.options.items() if key != "radius" or name != "torsion"
    }
    shape_map = _shape_map(study.model.geometry.family, json.dumps(options), size)
    family = shape_map.family
    start = family.default
    lower, upper = family.bounds.T
    optimum = (start + 0.1 * (upper - start)) if name == "torsion" else (0.6 * start + 0.4 * lower)
    optimum[0] = upper[0] if name == "stokes_body" else optimum[0]

    write_text(folder / "resolved.yaml", dump(study, folder))
    for file, theta, kinds in (("initial", start, ("fem",)), ("optimum", optimum, ("fem", "surrogate", "difference"))):
        nodes = shape_map.nodes(theta).numpy()
        truth = fields(nodes)
        off = {key: 1e-3 * np.sin(7.0 * nodes[:, 0]) * value for key, value in truth.items()}
        by = {"fem": truth, "surrogate": {k: truth[k] + off[k] for k in truth}, "difference": off}
        arrays = {f"{k}_{kind}": v for kind in kinds if surrogate or kind == "fem" for k, v in by[kind].items()}
        write_vtu(folder / f"{file}.vtu", shape_map.mesh.moved(nodes), arrays)
    shapes = {"unit": "m", "initial": _shape(shape_map, start), "optimum": _shape(shape_map, optimum)}
    write_json(folder / "shapes.json", shapes)
    write_json(folder / "run.json", RUN)
    certificate = _certificate(study, shape_map, start, optimum, objective, tuple(truth), surrogate)
    write_json(folder / "certificate.json", certificate)
    write_json(folder / "optimum.json", _optimum(certificate))
    _history(folder, certificate)
    if surrogate:
        write_json(folder / "surrogate.card.json", _card(tuple(truth)))
    return certificate


def _shape(shape_map: ShapeMap, theta: torch.Tensor) -> dict[str, Any]:
    family = shape_map.family
    control_points = family.control_points(theta).numpy()
    outlines = [
        {"tag": loop[0].tag, "points": family.outline(control_points, index, 16).tolist()}
        for index, loop in enumerate(family.loops)
    ]
    return {"outlines": outlines, "control_points": family.part_points(theta).tolist()}


RUN = {
    "shapewright": "0.1.0",
    "python": "3.12.1",
    "packages": {"numpy": "2.5.5", "torch": "2.15.0"},
    "hardware": {"processor": "AMD EPYC", "cores": 2, "memory_gib": 23.5, "gpu": None},
    "device": "cpu",
    "seed": 0,
    "started": "2026-11-23T10:17:22+00:00",
    "command": "shapewright run studies/torsion.yaml --set optimizer.starts=3",
}


def _certificate(
    study: Study, shape_map: ShapeMap, start, optimum, objective: tuple[str, str, str], components, surrogate: bool
) -> dict[str, Any]:
    maximize = objective[2] == "maximize"
    first, last = (1.4760831724, 1.5706624137) if maximize else (37.4032456803, 32.2166505137)
    error = 3.569733435863054e-05
    checks = [
        ("mesh error", error, "<=", 0.001, "finest FEM value against its extrapolation"),
        ("mapped mesh", 1.0494115764070542e-05, "<=", 0.005, "FEM on the moved mesh against the re-read CAD"),
        ("objective", 0.00123456789, "<=", 0.005, "surrogate against FEM"),
        ("fields", 0.00098765432, "<=", 0.01, "surrogate against FEM, L2"),
        ("gradient cosine", 0.9999771234, ">=", 0.99, "surrogate against FEM adjoint"),
        ("KKT residual", 0.005971234, "<=", 0.05, "stationarity by the FEM adjoint"),
        ("CAD measure", 2.049690794855084e-14, "<=", 1e-6, "area or volume read back against the design's own"),
        ("CAD valid", 1.0, ">=", 1.0, "OpenCASCADE's own check"),
        ("improvement", abs(last - first) / first, ">=", 0.0, "FEM objective against the start"),
    ]
    names = ("name", "value", "relation", "limit", "meaning")
    lines = [dict(zip(names, check, strict=True)) | {"satisfied": True} for check in checks]
    searched = [line for line in lines if "surrogate" in line["meaning"]]
    agrees = "The surrogate that searched agrees with finite elements at the optimum."
    model = {"by": "surrogate", "decisive": True, "accepted": True, "verdict": agrees, "checks": searched}
    model |= {"reasons": []}
    conditions = []
    values = {
        "area": 3.14159265338,
        "centroid_x": 1.4e-12,
        "centroid_y": -5.6e-14,
        "jacobian": 0.85176798,
        "thickness": 1.5988,
    }
    constraints = []
    for c in study.model.constraints:
        value = values[c.name]
        target = value if c.target == "initial" else c.target
        name = f"{c.name} {c.kind.replace('_', ' ')}"
        unit = {"area": "m^2", "jacobian": "1"}.get(c.name, "m")
        scale = abs(target) or 2.0
        condition = Condition(name, c.name, c.kind, target, c.tolerance, unit, None, scale, len(conditions))
        conditions.append(condition)
        constraints.append(
            {
                "name": name,
                "quantity": c.name,
                "kind": c.kind,
                "unit": unit,
                "at_start": value + 0.03,
                "value": value,
                "target": target,
                "miss": condition.violation(value),
                "tolerance": c.tolerance,
                "scale": scale,
                "allowed": c.tolerance * scale,
                "satisfied": True,
                "evidence": None,
            }
        )
    design = {
        "accepted": True,
        "verdict": "The design is accepted.",
        "checks": [line for line in lines if line not in searched],
        "reasons": [],
    }
    found = {
        "version": VERSION,
        "study": study.model.name,
        "accepted": True,
        "verdict": "Accepted",
        "reasons": ["all checks passed"],
        "design": design,
        "model": model if surrogate else None,
        "limits": [limit.model_dump() for limit in limits(study.model, conditions)],
        "parameters": {
            p.name: {
                "value": value,
                "lower": p.lower,
                "upper": p.upper,
                "initial": begin,
                "unit": "m",
                "bound_hit": not p.lower < value < p.upper,
                "sensitivity": 0.7082820476797986,
                "curvature": 1.25,
                "tolerance": 0.00221234567,
            }
            for p, begin, value in zip(shape_map.family.parameters, start.tolist(), optimum.tolist(), strict=True)
        },
        "objective": {
            "name": objective[0],
            "unit": objective[1],
            "sense": objective[2],
            "initial_fem": first,
            "surrogate": 1.00123456789 * last if surrogate else None,
            "fem": last,
            "fem_mapped": last * (1 + 1e-5),
            "fem_levels": [
                {"size": 0.15, "h": 0.0952876598, "cells": 342, "dofs": 735, "value": last * (1 - 16 * error)},
                {"size": 0.075, "h": 0.0484559226, "cells": 1338, "dofs": 2761, "value": last * (1 - 4 * error)},
                {"size": 0.0375, "h": 0.0244808463, "cells": 5248, "dofs": 10653, "value": last},
            ],
            "reference": last,
            "start_feasible": True,
            "fem_extrapolated": last * (1 + error),
            "observed_order": 2.0137612345,
            "discretization_error": error,
            "grid_convergence_index": 1.25 * error,
            "extrapolation": "Richardson extrapolation of the three finest",
            "surrogate_relative_error": 0.00123456789 if surrogate else None,
            "improvement": abs(last - first) / first,
            "peak": None,
            "peak_at_start": None,
            "cases": None,
        },
        "joint_tolerance": 0.1234567,
        "constraints": constraints,
        "field_relative_l2_error": dict.fromkeys(components, 0.00098765432) if surrogate else None,
        "gradient": GRADIENT if surrogate else None,
        "kkt_residual": 0.005971234,
        "multipliers": {"area equals": 0.99996786456},
        "novelty": NOVELTY if surrogate else None,
        "infill": None,
        "part": {"initial": EXTENT, "optimum": EXTENT, "corners": [], "unit": "m"},
        "cad": {
            "file": "optimum.step",
            "kind": "solid",
            "valid": True,
            "area_or_volume_reread": 1.5707963266920566,
            "area_or_volume_design": 1.5707963266920888,
            "relative_error": 2.049690794855084e-14,
            "max_deviation": 4.230501593965341e-13,
            "b_spline_edges": 4,
            "domain_relative_error": None,
            "stl": {"watertight": True, "consistent_winding": True, "volume": 1.5685799491121246, "facets": 1048},
        },
        "warnings": [
            Stop(p.name, "upper", p.upper, "m", 0.04 * last, p.upper + 0.1, 0.004 * last).sentence(last)
            for p, value in zip(shape_map.family.parameters, optimum.tolist(), strict=True)
            if value >= p.upper
        ],
        "fem_solves": {"forward": 7, "adjoint": 2, "tangent": 0},
        "timings": {"sample": 61.234567, "train": 777.7, "optimize": 1.9, "export": 0.096, "validate": 3.1},
        "exit": {"reason": "CONVERGED", "text": "Converged: neither objective nor constraints change any more."},
    }
    return Certificate.model_validate(found).as_data()


EXTENT = {"length": 2.0, "height": 2.0, "ratio": 1.0}
GRADIENT = {
    "cosine": 0.9999771234,
    "cosine_at_start": 0.9998,
    "relative_error": 0.0070123456,
    "size_to_start": 0.9,
    "error_to_start": 0.0063,
}

NOVELTY = {
    "distance": 0.98765432,
    "typical_median": 1.1234567,
    "typical_95_percent": 1.4567891,
    "farther_in_box": 0.75,
    "correlation": {"designs": 128, "field_error": 0.79876543, "gradient_error": 0.60123456},
}


def _optimum(certificate: dict[str, Any]) -> dict[str, Any]:
    ends = [(0, "CONVERGED", True), (1, "CONVERGED", True), (2, "INFEASIBLE", False)]
    return {
        "parameters": {name: entry["value"] for name, entry in certificate["parameters"].items()},
        "objective": certificate["objective"]["fem"],
        "exit": {"reason": "CONVERGED", "text": "Converged: neither objective nor constraints change any more."},
        "best_start": 1,
        "starts": [
            {
                "start": start,
                "objective": certificate["objective"]["fem"],
                "feasible": feasible,
                "iterations": 9,
                "reason": reason,
            }
            for start, reason, feasible in ends
        ],
    }


def _history(folder: Path, certificate: dict[str, Any]) -> None:
    """Three starts that come from afar, the last of them off the constraints."""
    first, last = certificate["objective"]["initial_fem"], certificate["objective"]["fem"]
    constraints = certificate["constraints"]
    names = [c["name"] for c in constraints]
    head = ["start", "iteration", "evaluations", "objective", "objective_scaled", "gradient_norm", *names]
    with (folder / "history.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*head, *certificate["parameters"]])
        for start in range(3):
            for iteration in range(9):
                left = np.exp(-1.2 * iteration)
                objective = last + (first - last) * left * (1 + start)
                quantities = [c["target"] + (1e-2 if start == 2 else 3e-2 * left**2) for c in constraints]
                theta = [p["value"] for p in certificate["parameters"].values()]
                writer.writerow(
                    [start, iteration, iteration + 1, objective, objective / first, left, *quantities, *theta]
                )


def _card(components: tuple[str, ...]) -> dict[str, Any]:
    errors = dict.fromkeys(components, 0.00278762960806489)
    held_out = {
        "field": errors,
        "objective": 0.00096980843,
        "gradient": 0.01287391,
        "cosine": 0.99993062,
        "designs": 128,
    }
    return {
        "trained_for": {},
        "training": {"steps": 2000},
        "data_hash": "8060094c4f982277",
        "designs": 1200,
        "held_out": held_out,
        "hardware": {"device": "cpu", "processor": "AMD EPYC", "cores": "2"},
        "seconds": 777.7,
        "box": {},
    }
