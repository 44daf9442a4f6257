"""Random domains: normalized, well meshed, with regions that cover the boundary; the same for a seed; files."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shapewright.geometries.mesh.integration import cell_points, facet_points
from shapewright.geometries.mesh.jacobians import bernstein_jacobians
from shapewright.geometries.mesh.mesh import Mesh, MeshError
from shapewright.geometries.population import domain
from shapewright.geometries.population.command import kind_of, main
from shapewright.geometries.population.domain import random_domain
from shapewright.geometries.population.kinds import DRAW, KINDS, UNSEEN
from shapewright.geometries.population.loops import control_loop, loop_through, polygon, random_cuts
from shapewright.geometries.population.stored import read_domains, write_domains

HOLES = {"box_section": {1}, "plate_with_holes": {1, 2, 3}, "body_in_channel": {1}}
HOLES |= {"eccentric_ring": {1}, "splined_plate_with_hole": {1}}


def outer_edges(mesh: Mesh) -> set[tuple[int, ...]]:
    """(first, second, middle) of every side that belongs to one cell alone."""
    sides = np.concatenate([mesh.cells[:, [i, j, 3 + k]] for k, (i, j) in enumerate(mesh.cell.edges)])
    _, index, count = np.unique(np.sort(sides[:, :2], axis=1), axis=0, return_index=True, return_counts=True)
    return set(map(tuple, sides[index[count == 1]].tolist()))


def assert_same(mesh: Mesh, other: Mesh) -> None:
    for name in ("nodes", "cells", "facets", "facet_tags"):
        assert np.array_equal(getattr(mesh, name), getattr(other, name)), name
    assert mesh.tag_names == other.tag_names


def assert_is_domain(mesh: Mesh, kind: str, most: int) -> None:
    """Area, centroid, Jacobians, regions that are the whole boundary, holes that a kind has."""
    nodes = torch.from_numpy(mesh.nodes)
    cells = cell_points(mesh, nodes)
    assert float(cells.weights.sum()) == pytest.approx(1, abs=1e-12)
    assert (cells.weights[..., None] * cells.points).sum((0, 1)).abs().max() < 1e-12
    assert bernstein_jacobians(mesh, nodes).min() > 0
    assert 220 <= len(mesh.nodes) <= most
    assert set(map(tuple, mesh.facets.tolist())) == outer_edges(mesh)
    assert set(mesh.facet_tags.tolist()) == set(range(len(mesh.tag_names)))
    holes = 1 - (len(mesh.nodes) - 2 * len(mesh.cells) - len(mesh.facets))  # Euler's characteristic
    assert holes in HOLES.get(kind, {0})
    assert [name for name in mesh.tag_names if name.startswith("hole")] == [f"hole_{k + 1}" for k in range(holes)]
    for hole in range(holes):  # clockwise around what is not of the domain: its area is negative
        points = facet_points(mesh, nodes, f"hole_{hole + 1}")
        assert (points.points * points.normals * points.weights[..., None]).sum() < 0


@settings(max_examples=12)
@given(st.sampled_from(list(DRAW)), st.integers(0, 10**9))
def test_any_domain_is_normalized_and_well_meshed(kind: str, seed: int) -> None:
    assert_is_domain(random_domain(kind, seed, (220, 420)), kind, 420)


def test_another_seed_makes_another_domain() -> None:
    assert not np.array_equal(random_domain("cavity", 3).nodes[:9], random_domain("cavity", 4).nodes[:9])


@pytest.mark.parametrize("kind", [*KINDS, *UNSEEN])
def test_every_kind_is_the_same_for_the_same_seed(kind: str) -> None:
    mesh = random_domain(kind, 3)
    assert_is_domain(mesh, kind, 420)
    assert_same(mesh, random_domain(kind, 3))


def test_regions_are_connected_pieces_of_the_boundary() -> None:
    """Facets of a region form one chain: their ends are two nodes, or none for a closed one."""
    for kind in ("spline", "rounded_polygon", "box_section", "body_in_channel"):
        mesh = random_domain(kind, 8)
        for name in mesh.tag_names:
            facets = mesh.facets_on(name)
            ends = set(facets[:, 0]) ^ set(facets[:, 1])
            assert len(ends) == (0 if name.startswith("hole") else 2), (kind, name)


def test_sides_of_a_polygon_end_in_the_middle_of_its_roundings() -> None:
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    loop = polygon(square, np.array([0.2, 0.2, 0.0, 0.2]))
    points, regions = loop.sampled(10, 100)
    assert loop.regions == 4
    below = points[regions == 0]
    assert below[:, 1].max() <= 0.2 * (1 - np.sqrt(0.5)) + 1e-3  # to the middle of the arc of radius 0.2
    arc = points[(points < 0.2).all(1)]
    assert np.abs(np.linalg.norm(arc - 0.2, axis=1) - 0.2).max() < 1e-4  # a cubic is 2.7e-4 of the radius off a circle


def test_a_spline_goes_through_its_points_and_scales() -> None:
    generator = np.random.default_rng(0)
    points = generator.normal(size=(9, 2))
    assert np.allclose(loop_through(points).sampled(1, 1)[0], points)
    matrix, shift = generator.normal(size=(2, 2)), generator.normal(size=2)
    moved = control_loop(points).moved(matrix, shift).sampled(1, 5)[0]
    assert np.allclose(moved, control_loop(points).sampled(1, 5)[0] @ matrix.T + shift)


@given(st.integers(0, 10**6))
def test_arcs_of_a_smooth_loop_are_not_short(seed: int) -> None:
    cuts = np.array(random_cuts(np.random.default_rng(seed)))
    assert 2 <= len(cuts) <= 5
    assert np.diff(np.append(cuts, cuts[0] + 1)).min() > 0.1 - 1e-9


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"kind 'blob'; allowed are spline, "):
        random_domain("blob", 0)
    with pytest.raises(ValueError, match=r"nodes \(300, 310\)"):
        random_domain("spline", 0, (300, 310))


def test_too_few_nodes_for_a_kind_are_an_error(monkeypatch) -> None:
    monkeypatch.setattr(domain, "DRAWS", 3)
    with pytest.raises(MeshError, match="none of 3 random shapes of kind 'i_section' has a good mesh of 12 to 20"):
        random_domain("i_section", 0, (12, 20))


def test_files_hold_what_was_written(tmp_path) -> None:
    path = tmp_path / "domains.npz"
    domains = [(kind, random_domain(kind, 1)) for kind in ("spline", "plate_with_holes", "l_section")]
    write_domains(path, domains)
    for (kind, mesh), (read_kind, read) in zip(domains, read_domains(path), strict=True):
        assert kind == read_kind
        assert_same(mesh, read)
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **(arrays | {"nodes": arrays["nodes"][:-1]}))
    with pytest.raises(MeshError, match=r"domains\.npz: nodes has \d+ rows; by its counts there must be \d+"):
        read_domains(path)
    path.write_text("nothing")
    with pytest.raises(MeshError, match=r"domains\.npz: no file of domains"):
        read_domains(path)


def test_splines_are_three_times_as_frequent() -> None:
    period = [kind_of(index) for index in range(len(KINDS) + 2)]
    assert period.count("spline") == 3
    assert all(period.count(kind) == 1 for kind in KINDS[1:])
    assert [kind_of(index, unseen=True) for index in range(4)] == list(UNSEEN)
    assert not set(KINDS) & set(UNSEEN)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--count", "0", "--out", "{folder}/x.npz"], "--count 0, --seed 0, --processes 2; allowed"),
        (["--count", "3", "--out", "{folder}/x.npy"], "allowed is a name"),
        (["--count", "3", "--out", "{folder}/no/x.npz"], "in a folder that exists"),
    ],
)
def test_the_command_refuses(tmp_path, capsys, wrong, message) -> None:
    with pytest.raises(SystemExit):
        main([part.format(folder=tmp_path) for part in wrong])
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_command_writes_a_file_with_two_processes(tmp_path) -> None:
    """As a user calls it: a function of ``__main__`` is unknown to the processes that it starts."""
    path = tmp_path / "unseen.npz"
    command = [sys.executable, "-m", "shapewright.geometries.population", "--count", "4", "--seed", "2", "--unseen"]
    done = subprocess.run([*command, "--out", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "4 of 4 domains" in done.stderr
    domains = read_domains(path)
    assert [kind for kind, _ in domains] == list(UNSEEN)
    assert_same(domains[1][1], random_domain(UNSEEN[1], 2_000_001))
