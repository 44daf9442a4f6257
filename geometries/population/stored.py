"""Files of many domains: meshes as ragged arrays. Reading one needs no mesher."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from shapewright.geometries.files import written_whole
from shapewright.geometries.mesh.mesh import Mesh, MeshError

ARRAYS = ("nodes", "cells", "facets", "facet_tags", "counts", "regions", "tag_names", "kind")


def write_domains(path: Path, domains: Sequence[tuple[str, Mesh]]) -> None:
    """Write kinds and meshes of B domains to ``path`` (``*.npz``), whole or not at all.

    Arrays, those of all meshes one after the other: ``nodes`` (sum N, 2) float64, ``cells`` (sum M, 6) int32,
    ``facets`` (sum K, 3) int32 and ``facet_tags`` (sum K) int32, counted in each mesh from 0; ``counts`` (B, 3) int64
    with N, M and K; ``regions`` (B,) int64, number of regions, and ``tag_names`` (sum regions), their names; ``kind``
    (B,).

    Raises:
        OSError: the file cannot be written.
    """
    meshes = [mesh for _, mesh in domains]

    def joined(parts: list[NDArray[np.int64]]) -> NDArray[np.int32]:
        return np.concatenate(parts).astype(np.int32)

    with written_whole(path) as part, part.open("wb") as file:
        np.savez_compressed(
            file,
            nodes=np.concatenate([mesh.nodes for mesh in meshes]),
            cells=joined([mesh.cells for mesh in meshes]),
            facets=joined([mesh.facets for mesh in meshes]),
            facet_tags=joined([mesh.facet_tags for mesh in meshes]),
            counts=np.array([[len(mesh.nodes), len(mesh.cells), len(mesh.facets)] for mesh in meshes], dtype=np.int64),
            regions=np.array([len(mesh.tag_names) for mesh in meshes], dtype=np.int64),
            tag_names=np.array([name for mesh in meshes for name in mesh.tag_names]),
            kind=np.array([kind for kind, _ in domains]),
        )


def read_domains(path: Path) -> list[tuple[str, Mesh]]:
    """Kinds and meshes in the file that :func:`write_domains` wrote, in its order.

    Raises:
        OSError: the file cannot be read.
        MeshError: it holds no domains.
    """
    try:
        with path.open("rb") as file, np.load(file) as stored:
            arrays = {name: stored[name] for name in ARRAYS}
    except (BadZipFile, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MeshError(f"{path}: no file of domains ({error}); it must hold the arrays {', '.join(ARRAYS)}") from error
    counts, regions = arrays["counts"], arrays["regions"]
    expected = dict(zip(("nodes", "cells", "facets"), counts.sum(0), strict=True))
    expected |= {"facet_tags": counts[:, 2].sum(), "tag_names": regions.sum(), "kind": len(counts)}
    for name, rows in expected.items():
        if len(arrays[name]) != rows:
            raise MeshError(f"{path}: {name} has {len(arrays[name])} rows; by its counts there must be {rows}")
    nodes, cells, facets = (
        np.split(arrays[name], np.cumsum(counts[:-1, k])) for k, name in enumerate(("nodes", "cells", "facets"))
    )
    tags = np.split(arrays["facet_tags"], np.cumsum(counts[:-1, 2]))
    names = np.split(arrays["tag_names"], np.cumsum(regions[:-1]))
    return [
        (str(kind), Mesh(x, c.astype(np.int64), f.astype(np.int64), t.astype(np.int64), tuple(n.tolist())))
        for kind, x, c, f, t, n in zip(arrays["kind"], nodes, cells, facets, tags, names, strict=True)
    ]
