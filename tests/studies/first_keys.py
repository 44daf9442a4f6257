"""Keys of stages as the first release made them, written out: a folder of that release stays finished.

What a stage computes (hashes of data, the optimum, the mesh) is taken from the folder: it differs between processors.
"""

import hashlib
import json
from pathlib import Path

import torch

from shapewright.geometries.mesh.mesh import Mesh
from shapewright.studies.certify.model import VERSION

NETWORK = {
    "grid": [12, 12], "width": 4, "modes": 3, "layers": 1, "mollifier": "octic", "radius": 2, "hidden": 4,
    "grading": None, "contrast": None,
}  # fmt: skip
PROBLEM = {
    "geometry": {
        "family": "closed_bar", "options": {"control_points": 6}, "length_unit": "m", "mesh_size": 0.4,
    },
    "parameters": ["r0", "r1", "r2", "r3", "r4", "r5"],
    "physics": {
        "name": "poisson", "coefficients": {}, "source": {"u": 2.0}, "dirichlet": [{"on": "wall", "u": 0.0}],
        "natural": [],
    },
    "objective": "torsional_constant",
}  # fmt: skip
BOUNDS = [[0.6, 1.5]] * 6
OPTIMIZER = {"rank": {"frequencies": 1.0, "channels_in": 0.25, "channels_out": 1.0}, "rank_rule": "spectrum"}
TRAINING = OPTIMIZER | {
    "optimizer": "tensor_galore", "update_gap": 200, "scale": None, "discarded": 1.0, "moments": "full", "steps": 30,
    "batch": 2, "learning_rate": 0.002, "weight_decay": 1e-05, "slope_weight": 0.3, "tangent_weight": 0.5,
    "tangent_slope_weight": 0.0, "objective_weight": 0.1, "gradient_weight": 0.5, "check_every": 10, "patience": 8,
    "checkpoint_every": 10, "average": 0.0, "seed": 0, "finish": None,
}  # fmt: skip
CONSTRAINTS = [
    {"name": "area equals", "quantity": "area", "kind": "equals", "target": 3.0, "tolerance": 1e-06, "unit": "m^2",
     "functional": None, "scale": 3.0, "entry": 0},
    {"name": "jacobian at least", "quantity": "jacobian", "kind": "at_least", "target": 0.1, "tolerance": 1e-06,
     "unit": "1", "functional": None, "scale": 0.1, "entry": 1},
]  # fmt: skip
SEARCH = {"max_iterations": 15, "tolerance": 1e-08, "starts": 1, "seed": 0}
TRUST_REGION = SEARCH | {
    "method": "trust_region", "on": "surrogate", "kkt_tolerance": 1e-3, "max_solves": 60, "radius": 0.1,
    "least_radius": 1e-05,
}  # fmt: skip
INFILL = {"steps": 10, "learning_rate": 2e-3, "share": 0.5, "margin": 10.0}
SAMPLING = {"tangents": 1, "directions": "isotropic", "seed": 0}

OPERATOR = {
    "geometry": {
        "family": "star_domain", "options": {"waves": [3], "control_points": 24}, "length_unit": "m",
        "mesh_size": 0.6, "bounds": {},
    },
    "instances": {
        "level": {"uniform": [-1.0, 1.0], "normal": None}, "strength": {"uniform": None, "normal": [1.0, 2.0]},
    },
    "physics": {
        "name": "poisson", "coefficients": {}, "source": {"u": "strength*(1 + x)"},
        "dirichlet": [{"on": "wall", "u": "level + x*y"}], "natural": [], "pins": [],
    },
    "surrogate": {
        "grid": [8, 8], "width": 4, "modes": 2, "layers": 1, "mollifier": "octic", "radius": 2, "hidden": 4,
    },
}  # fmt: skip
OPERATOR_TRAINING = OPTIMIZER | {
    "optimizer": "tensor_galore", "update_gap": 200, "scale": None, "discarded": 1.0, "moments": "full",
    "loss": "energy", "weights": {}, "solutions": 0, "solution_weight": 1.0, "solution_batch": 4, "points": [40, 60],
    "meshes": 4, "quadrature": 1, "steps": 8, "batch": 2, "learning_rate": 0.01, "weight_decay": 0.0,
    "check_every": 4, "patience": 1000, "checkpoint_every": 2, "average": 0.995, "seed": 0,
}  # fmt: skip
EVALUATION = {"held_out": 3, "mesh_size": 0.5, "seed": 1000}


def key(*parts) -> str:
    """Hash of plain data, with the version of the first release before it."""
    return hashlib.sha256(json.dumps(["0.1.0", *parts], sort_keys=True).encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def design_keys(folder: Path, mesh: Mesh, hashes: tuple[str, str], start: torch.Tensor, tuned) -> dict[str, str]:
    """Stage or folder -> key, of the tiny study tuned by infill after a trust region.

    Args:
        folder: its output folder.
        mesh: reference mesh.
        hashes: of the training set and the held-out set.
        start: (P,) where the search begins.
        tuned: what the certificate says of infill.
    """
    found = json.loads((folder / "optimum.json").read_text())
    theta = list(found["parameters"].values())
    weights = file_hash(folder / "surrogate.safetensors")[:16]
    physical = [PROBLEM, BOUNDS, key(mesh.nodes.tolist())]
    search = [start.tolist(), CONSTRAINTS]
    sources = json.loads((folder / "certificate.json").read_text())["sources"]
    assert sources.pop("physics") is None  # which a study without a physics of its own did not have then
    training = key("train", *hashes, PROBLEM | {"surrogate": NETWORK}, TRAINING)
    solutions = key("centres", *physical, 1, "isotropic")
    starts = key("starts", weights, *search, SEARCH)
    return {
        "sample": key("sample", *physical, SAMPLING | {"designs": 6, "held_out": 3}),
        "training": training,
        "train": training,
        "optimize": key("optimize", weights, *physical, *search, TRUST_REGION, 1, "isotropic"),
        "infill": key("infill", weights, list(hashes), found["solved"], theta, INFILL, TRAINING),
        "export": key("export", 1, theta, *physical, 0.5),
        "validate": key(
            "validate", VERSION, sources, file_hash(folder / "optimum.step"), theta, *physical, *search, found, tuned
        ),
        "samples": f"samples/{key('sample', *physical, SAMPLING)}-designs",
        "solutions": f"centres/{solutions}/starts-{starts}.json",
    }


def operator_keys(meshes: dict[str, Mesh]) -> dict[str, str]:
    """Stage or file -> key, of the tiny operator study; ``meshes`` of the held-out solutions and of the training."""
    training = key(OPERATOR, OPERATOR_TRAINING, EVALUATION)
    problem = {name: part for name, part in OPERATOR.items() if name != "surrogate"}

    def solved(name: str, seed: int) -> str:
        return f"{name}-{key(name, problem, 3, seed, meshes[name].nodes.tolist())}.npy"

    return {
        "learn": key(training, [40, 80]),
        "checkpoint": f"training-{training}.checkpoint",
        "held_out": solved("held_out", 1000),
        "validation": solved("validation", 1002),
    }
