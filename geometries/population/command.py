"""Write a file of random domains, by ``python -m shapewright.geometries.population``.

Kinds are equally frequent, splines three times as frequent as each other kind. The domain of an index depends on
``--seed`` and on ``--nodes`` alone, so that a larger ``--count`` only adds domains.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch

from shapewright.geometries.mesh.mesh import Mesh
from shapewright.geometries.population.domain import NODES, random_domain
from shapewright.geometries.population.kinds import KINDS, UNSEEN
from shapewright.geometries.population.stored import write_domains

STEP = 1_000_000
"""Seeds of domains between two seeds of files; the largest number of domains in a file."""


def kind_of(index: int, unseen: bool = False) -> str:
    """Kind of the domain ``index`` of a file."""
    kinds = UNSEEN if unseen else ("spline", "spline", *KINDS)
    return kinds[index % len(kinds)]


def make(index: int, seed: int, nodes: tuple[int, int], unseen: bool) -> tuple[str, Mesh]:
    """Kind and mesh of the domain ``index`` of the file of ``seed``."""
    kind = kind_of(index, unseen)
    return kind, random_domain(kind, STEP * seed + index, nodes)


def _made(each: Callable[[int], tuple[str, Mesh]], count: int, processes: int) -> Iterator[tuple[str, Mesh]]:
    """Results of ``each`` for 0, 1, ..., in order; of one process: this one."""
    if processes == 1:
        yield from map(each, range(count))
        return
    # forked from a process that has imported everything and started no threads
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(processes, context, torch.set_num_threads, (1,)) as executor:
        yield from executor.map(each, range(count), chunksize=8)


def main(arguments: list[str] | None = None) -> None:
    """Run the command; a wrong argument or a file that cannot be written ends it with one message."""
    parser = argparse.ArgumentParser("python -m shapewright.geometries.population", description=__doc__)
    parser.add_argument("--count", type=int, required=True, help="number of domains")
    parser.add_argument("--seed", type=int, default=0, help="of the file, 0 or more")
    parser.add_argument("--nodes", type=int, nargs=2, default=NODES, metavar=("LEAST", "MOST"), help="of each mesh")
    parser.add_argument("--unseen", action="store_true", help=f"only kinds for held-out tests: {', '.join(UNSEEN)}")
    parser.add_argument("--processes", type=int, default=2, help="at the same time")
    parser.add_argument("--out", type=Path, required=True, help="file to write, *.npz")
    given = parser.parse_args(arguments)
    if not 0 < given.count <= STEP or given.seed < 0 or given.processes < 1:
        parser.error(
            f"--count {given.count}, --seed {given.seed}, --processes {given.processes}; allowed are 1 to {STEP}"
            " domains, a seed of 0 or more, 1 process or more"
        )
    if given.out.suffix != ".npz" or not given.out.parent.is_dir():
        parser.error(f"--out {given.out}; allowed is a name *.npz in a folder that exists")
    domains = []
    each = partial(make, seed=given.seed, nodes=tuple(given.nodes), unseen=given.unseen)
    try:
        for domain in _made(each, given.count, given.processes):
            domains.append(domain)
            print(f"\r{len(domains)} of {given.count} domains", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        write_domains(given.out, domains)
    except (ValueError, RuntimeError, OSError) as error:
        print(file=sys.stderr)
        parser.exit(1, f"{error}\n")
