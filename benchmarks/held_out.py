"""Errors of the shipped surrogates on designs that neither taught them nor chose their weights.

Run as ``python -m benchmarks.held_out``; writes ``benchmarks/results/held_out.json`` and ``held_out.md``. Also how the
distance of a design from the training designs goes with its true error: a rank correlation.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.studies import RESULTS, ROOT, shipped
from shapewright.app.progress import ProgressBars
from shapewright.app.provenance import provenance
from shapewright.studies.files import write_json, write_text
from shapewright.studies.problem.novelty import novelty_of
from shapewright.studies.problem.samples import draw_designs, random_directions
from shapewright.studies.problem.setup import build_setup
from shapewright.studies.problem.surrogates import open_surrogate
from shapewright.studies.run.engines import local_executor
from shapewright.studies.run.sampling import Designs, solve_designs
from shapewright.studies.schema.loader import load_study
from shapewright.surrogate.models.weights_file import read_weights, write_weights
from shapewright.surrogate.training.accuracy import correlation_with_error, measure

DESIGNS, SEED = 128, 1000
"""Fresh designs of each study, and what their seed is above that of its training designs."""


def row(study: str, bars: ProgressBars, state: bool) -> dict[str, Any]:
    """Errors on fresh designs, those that the card states, and the correlations; these go into the card if asked."""
    setup = build_setup(load_study(ROOT / "studies" / f"{study}.yaml"))
    weights = setup.study.folder / str(setup.study.model.surrogate.weights)
    network, card = open_surrogate(setup, weights)
    seed = setup.study.model.sampling.seed + SEED
    designs = Designs(draw_designs(setup, DESIGNS, seed), random_directions(setup, DESIGNS, 1, seed))
    with TemporaryDirectory() as folder, local_executor(1) as executor:
        data = solve_designs(
            setup.study, designs, Path(folder), executor, lambda done, total: bars(study, done, total, "")
        )
    correlation = correlation_with_error(novelty_of(setup, network, card.box), data)
    if state:
        write_weights(weights, read_weights(weights)[0], replace(card, correlation=correlation))
    return {
        "study": study,
        **asdict(measure(network, data)),
        "card": asdict(card.held_out),
        "correlation": correlation,
    }


def as_markdown(rows: list[dict[str, Any]], machine: dict[str, Any]) -> str:
    """The table."""
    primary = rows[0]["correlation"]["designs"]
    head = [
        "# Shipped surrogates on fresh designs",
        "",
        f"Measured by `python -m benchmarks.held_out` on {machine['hardware']['processor']},"
        f" {machine['started'][:10]}.",
        f"Mean relative errors on {DESIGNS} designs that neither taught a surrogate nor chose its weights. The cards",
        "state those on the held-out designs of the training. Correlation: Spearman's, of the distance of the latent",
        f"features of a design from those of the training designs with its error, over {primary} of the designs.",
        "",
        "| study | fields | objective | design gradient | cosine | gradient by the card | correlation: fields"
        " | gradient |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines = [
        f"| {r['study']} | {', '.join(f'{error:.2%} {name}' for name, error in r['field'].items())}"
        f" | {r['objective']:.2%} | {r['gradient']:.1%} | {r['cosine']:.4f} | {r['card']['gradient']:.1%}"
        f" | {r['correlation']['field_error']:.2f} | {r['correlation']['gradient_error']:.2f} |"
        for r in rows
    ]
    return "\n".join([*head, *lines]) + "\n"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cards", action="store_true", help="write the correlations into the shipped cards, too")
    chosen = parser.parse_args()
    with ProgressBars() as bars:
        rows = [row(study, bars, chosen.cards) for study in shipped()]
    machine = provenance("cpu", 0) | {"command": "python -m benchmarks.held_out"}
    write_json(RESULTS / "held_out.json", {"machine": machine, "rows": rows})
    text = as_markdown(rows, machine)
    write_text(RESULTS / "held_out.md", text)
    print(text)


if __name__ == "__main__":
    main()
