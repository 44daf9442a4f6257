"""Make the bundle that the kit runs from, on a machine with dolfinx.

Run as ``make gpu-bundle`` or ``python -m benchmarks.gpu.make_bundle --out gpu-bundle --data out/data``. What is not
sampled yet under ``--data`` is sampled there first, as ``shapewright sample`` does it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.fields import compressed, half_changes
from benchmarks.gpu.problems import BUNDLE_FILE, Bundle, open_bundle, problem_arrays, problem_data, problem_of
from shapewright.app.progress import ProgressBars
from shapewright.studies.problem.design_training import hardware
from shapewright.studies.problem.models import FemModel
from shapewright.studies.problem.novelty import designs_of_box
from shapewright.studies.problem.setup import Setup, build_setup
from shapewright.studies.problem.surrogates import design_problem
from shapewright.studies.run.pipeline import Run, sample
from shapewright.studies.run.workspace import Workspace
from shapewright.studies.schema.loader import load_study
from shapewright.surrogate.models.weights_file import read_weights
from shapewright.surrogate.training.dataset import Dataset

ROOT = Path(__file__).resolve().parents[2]
STUDIES = ("torsion", "stokes_body", "stokes_square", "plate_hole", "ns_body")
RANK = 288
"""Principal components of fields and tangents: 0.1 % of a tangent's size is lost in flows, all five take 26 MiB."""
LARGEST = 40 * 2**20
"""Bytes of a bundle at most: it travels beside the tracked files, and both together are limited."""
FEM_DESIGNS = 6


def make_bundle(
    out: Path,
    data: Path,
    names: tuple[str, ...] = STUDIES,
    rank: int = RANK,
    designs: int | None = None,
    keep: bool = False,
) -> Bundle:
    """Write a bundle of design studies, sampling under ``data`` what is not there; whole or not at all.

    ``designs`` limits the training designs of a study; those of the study's own sequence that were solved are taken.
    With ``keep`` the other studies of a bundle that is there stay as they are.

    Raises:
        ValueError: the bundle is larger than :data:`LARGEST`.
    """
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    studies = {}
    if keep:
        present = open_bundle(out)
        studies = {name: present.note(name) for name in present.studies if name not in names}
        for name in studies:
            shutil.copy(out / f"{name}.npz", part)
    with ProgressBars() as bars:
        for name in names:
            study = load_study(ROOT / "studies" / f"{name}.yaml")
            if designs is not None and designs < study.model.sampling.designs:
                study = load_study(study.path, [f"sampling.designs={designs}"])
            setup = build_setup(study)
            run = Run(setup, Workspace(data / name), "cpu", bars)
            with run.workspace.lock():
                solved = sample(run)
            studies[name], arrays = study_entry(setup, *solved, rank)
            np.savez_compressed(part / f"{name}.npz", **arrays)
    content = {"processor": hardware("cpu")["processor"], "torch": torch.__version__, "studies": studies}
    (part / BUNDLE_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    size = sum(file.stat().st_size for file in part.iterdir())
    if size > LARGEST:
        raise ValueError(f"{part} takes {size / 2**20:.1f} MiB; allowed are {LARGEST / 2**20:g}: lower --rank")
    shutil.rmtree(out, ignore_errors=True)
    part.rename(out)
    return Bundle(out, content)


def study_entry(
    setup: Setup, data: Dataset, held_out: Dataset, reference: torch.Tensor, rank: int
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Plain data and arrays of one study."""
    problem, model = design_problem(setup), setup.study.model
    geometry = {"family": model.geometry.family, "options": model.geometry.model_dump(mode="json")["options"]}
    physics = {"name": model.physics.name} | model.physics.model_dump(mode="json", include={"coefficients", "source"})
    described = problem_data(problem, geometry, physics)
    arrays = problem_arrays(problem) | {"reference": reference.numpy()}
    typical = designs_of_box(setup, problem.box)
    arrays |= {f"typical.{index}": designs.numpy() for index, designs in enumerate(typical)}
    train, rounding = compressed(data, reference, rank, "train.")
    judging, judging_rounding = half_changes(held_out, reference, "held_out.")
    _same_network(problem_of(json.loads(json.dumps(described)), arrays), problem, data)
    entry = {
        "problem": described,
        "data_hash": data.hash,
        "designs": len(data),
        "rounding": {**rounding, "held_out": judging_rounding},
        "fem_seconds": fem_seconds(setup, held_out.theta),
    }
    weights = model.surrogate.weights
    if weights is not None:
        entry["card"] = read_weights(setup.study.folder / weights)[1]["held_out"]
    return entry, arrays | train | judging


def fem_seconds(setup: Setup, theta: torch.Tensor) -> float:
    """Processor seconds of a design's functionals and their gradients by finite elements, on one thread.

    The least of a few designs, or what ``make figures`` found on an idle machine if that is less: other work here would
    make finite elements look slow.
    """
    model, seconds = FemModel(setup), []
    for design in theta[: FEM_DESIGNS + 1]:
        begun = time.process_time()
        model.functionals(design)
        seconds.append(time.process_time() - begun)
    figures = json.loads((ROOT / "benchmarks" / "results" / "figures.json").read_text(encoding="utf-8"))["rows"]
    named = f"{setup.study.model.name}: FEM solve and adjoint, ms"
    return min([*seconds[1:], *(row["value"] / 1e3 for row in figures if row["name"] == named)])


def _same_network(found: Any, problem: Any, data: Dataset) -> None:
    """What is read back must give the functionals that the study's own network gives.

    Raises:
        AssertionError: it does not; a fault of the kit.
    """
    theta = data.theta[:2]
    ours, theirs = (each.network().double().value_and_gradient(theta) for each in (found, problem))
    for one, other in zip(ours, theirs, strict=True):
        if not torch.allclose(one, other, rtol=1e-12, atol=1e-14):
            raise AssertionError("the problem read back from the bundle is another one")


def main() -> None:
    """Make it and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "gpu-bundle")
    parser.add_argument("--data", type=Path, default=ROOT / "out" / "data", help="samples, made where they lack")
    parser.add_argument("--study", choices=STUDIES, nargs="*", default=STUDIES)
    parser.add_argument("--designs", type=int, help="of a study's training set at most; all by default")
    parser.add_argument("--keep", action="store_true", help="leave the other studies of the bundle as they are")
    parser.add_argument("--rank", type=int, default=RANK, help="principal components of the fields")
    chosen = parser.parse_args()
    bundle = make_bundle(chosen.out, chosen.data, tuple(chosen.study), chosen.rank, chosen.designs, chosen.keep)
    for name in bundle.studies:
        note, file = bundle.note(name), bundle.folder / f"{name}.npz"
        lost = ", ".join(f"{part} {error:.1e}" for part, error in note["rounding"].items())
        print(f"{name}: {file.stat().st_size / 2**20:.1f} MiB, relative errors of rounding: {lost};"
              f" FEM {1e3 * note['fem_seconds']:.1f} ms a design")  # fmt: skip


if __name__ == "__main__":
    main()
