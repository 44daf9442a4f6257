"""A process of its own that meshes one solid by gmsh: ``python gmsh_worker.py PART.brep OPTIONS.json MESH.npz``.

gmsh ends its process, or never returns, on some parts that it cannot mesh, so that the caller (:mod:`solid_mesher`)
starts this file by its path. It imports nothing of the program.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import gmsh
import numpy as np


def main(part: str, options: str, out: str) -> None:
    """Mesh ``part`` with gmsh's numeric options, and write nodes, cells, and the facets of each surface.

    The key ``optimize`` of the options asks for gmsh's optimization of curved cells.
    """
    wanted = json.loads(Path(options).read_text())
    optimize = wanted.pop("optimize")
    gmsh.initialize(readConfigFiles=False, interruptible=False)
    gmsh.option.setNumber("General.Terminal", 0)
    for name, value in wanted.items():
        gmsh.option.setNumber(name, value)
    gmsh.model.occ.importShapes(part, highestDimOnly=False)
    gmsh.model.occ.synchronize()
    solids = len(gmsh.model.getEntities(3))
    if solids != 1:
        sys.exit(f"gmsh found {solids} solids in the part; it must be one")
    gmsh.model.mesh.generate(3)
    if optimize:
        gmsh.model.mesh.optimize("HighOrder")
    with Path(out).open("wb") as file:
        np.savez(file, allow_pickle=False, **_arrays())
    gmsh.finalize()


def _arrays() -> dict[str, np.ndarray]:
    node_tags, coordinates, _ = gmsh.model.mesh.getNodes()
    types, _, cells = gmsh.model.mesh.getElements(3)
    found = {"node_tags": node_tags, "nodes": coordinates.reshape(-1, 3), "types": types, "cells": cells[0]}
    surfaces = [tag for _, tag in gmsh.model.getEntities(2)]
    facets, owners, kinds = [], [], set()
    for index, surface in enumerate(surfaces):
        own, _, triangles = gmsh.model.mesh.getElements(2, surface)
        kinds.update(own.tolist())
        facets += triangles
        owners += [np.full(len(part), index) for part in triangles]
    found |= {"facet_types": np.array(sorted(kinds)), "facets": np.concatenate(facets)}
    found["owners"] = np.concatenate(owners)
    found["areas"] = np.array([gmsh.model.occ.getMass(2, surface) for surface in surfaces])
    found["centroids"] = np.array([gmsh.model.occ.getCenterOfMass(2, surface) for surface in surfaces])
    return found


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exception as error:  # gmsh raises bare Exception
        sys.exit(f"gmsh: {error}")
