"""The mGNO benchmark compares like with like: same neighbours, same kernel integrals, operations counted by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import is_dataclass

import pytest
import torch
from torch.utils._pytree import tree_leaves

from benchmarks import mgno, mgno_library, mgno_operations
from benchmarks.isolated import Limits, Measured
from benchmarks.mgno_sides import CASES, WIDTH, copy_kernels, data, our_step, ours, their_step, theirs

GRIDS = ((12, 12), (9, 9, 9))
both = pytest.mark.parametrize("shape", GRIDS, ids=["2D", "3D"])
KEYS = {"case", "points", "grid", "ours_seconds", "neuraloperator_seconds", "ratio", "ours_mib", "neuraloperator_mib"}


@pytest.fixture(params=[False, True], ids=["as installed", "loop fused"])
def library(request, monkeypatch):
    pytest.importorskip("neuralop", reason=mgno_library.INSTALL)
    from neuralop.layers import integral_transform

    monkeypatch.setattr(integral_transform, "segment_csr", integral_transform.segment_csr)  # put back afterwards
    return mgno_library.load(fused=request.param)


@pytest.fixture
def pair(library, shape):
    """Both networks with the same kernels, and points that they read and answer."""
    given, mine = data(shape, 60), ours(shape)
    other = theirs(given, library)
    copy_kernels(mine, other)
    return given, mine, other


@both
def test_both_find_the_same_neighbours(pair):
    given, _, other = pair
    near = given.grid.neighbours(given.queries, given.owner)
    found = other.decoder.neighbor_search(other.nodes, given.queries, other.radius)
    inside = near.offset.square().sum(-1) <= 1
    assert inside.sum(1).tolist() == found["neighbors_row_splits"].diff().tolist()
    for index, mask, theirs_of_query in zip(
        near.index, inside, found["neighbors_index"].split(inside.sum(1).tolist()), strict=True
    ):
        assert sorted(index[mask].tolist()) == sorted(theirs_of_query.tolist())


@both
def test_encoders_are_the_same_function(pair):
    given, mine, other = pair
    mine.blocks = torch.nn.ModuleList()
    with torch.no_grad():
        expected = mine.encode(given.interior, given.boundary).flatten(0, -2)
        found = other.read(given.interior, given.boundary)
    assert (expected - mine.lift(other.coordinates)).detach().norm() > 0.1 * expected.norm()
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


@both
def test_decoders_are_the_same_function_and_have_the_same_derivatives(pair):
    given, mine, other = pair
    latent, queries = torch.randn(1, *given.grid.shape, WIDTH), given.queries.requires_grad_()
    results = [mine.decode(latent, queries, given.owner), other.decode(latent.flatten(0, -2), queries)]
    slopes = [torch.autograd.grad(values.sum(), queries, create_graph=True)[0] for values in results]
    bends = [torch.autograd.grad(slope[:, 0].sum(), queries)[0] for slope in slopes]
    for a, b in (results, slopes, bends):
        assert float((a - b).detach().norm()) < 1e-4 * float(a.detach().norm())


@pytest.mark.parametrize("shape", GRIDS[:1], ids=["2D"])
@pytest.mark.parametrize("case", CASES)
def test_every_case_gives_numbers_on_both_sides(pair, case):
    """Not that they agree: that is what its neighbours show."""
    given, mine, other = pair
    for result in (our_step(case, mine, given)(), their_step(case, other, given)()):
        found = [leaf for leaf in tree_leaves(vars(result) if is_dataclass(result) else result) if leaf is not None]
        assert found
        assert all(bool(torch.isfinite(leaf).all()) for leaf in found if isinstance(leaf, torch.Tensor))
        assert any(isinstance(leaf, torch.Tensor) and leaf.count_nonzero() for leaf in found)


def test_both_have_as_many_fourier_weights(library):
    """Theirs are complex and hold one corner's frequencies after the other's in one axis."""
    given = data((32, 32), 10)
    mine, other = ours((32, 32)), theirs(given, library)
    for layer, block in enumerate(mine.blocks):
        assert block.spectral.weight.numel() == 2 * other.blocks.convs[layer].weight.numel()


def test_operations_of_a_tiny_case_are_those_counted_by_hand():
    """One point, one boundary point, one query, a 2 x 2 grid, 3 edges a point, width 2, one mode, one block."""
    sizes = mgno_operations.Sizes(1, 1, (2, 2), 3, 2, (1, 1), 1)
    # encoders: point (f + d) c, edges c, readout of 4 nodes; decoder: 4 nodes, offset of the query, edges, readout
    interior, boundary = (1 + 2) * 2 + 3 * 2 + 4 * 4, (3 + 2) * 2 + 3 * 2 + 4 * 4
    assert mgno_operations.split_kernels(sizes) == 2 * (interior + boundary + 4 * 4 + 2 * 2 + 3 * 2 + 4)
    # each of 3 edges: (coordinates of both ends and features) c, then c c, then the weight
    edges = 3 * ((4 + 1) * 2 + 4 + 2) + 3 * ((4 + 3) * 2 + 4 + 2) + 3 * ((4 + 2) * 2 + 4 + 2)
    assert mgno_operations.edge_kernels(sizes) == 2 * edges
    # two transforms of 2.5 * 4 * 2 for 2 channels, 2 corners' 2 x 2 complex products, two linear layers at 4 nodes
    assert mgno_operations.fourier_blocks(sizes) == 2 * 20 * 2 + 2 * 8 * 4 + 2 * (2 * 4 * 4)
    assert mgno_operations.activations(sizes) == 3 * 3 * 2


def test_rows_have_the_keys_and_say_why_a_number_is_missing():
    task = mgno.Task("forward", 1000, (32, 32))
    found = {(task, "ours"): Measured(0.5, 0.6, 10.0), (task, "neuraloperator"): Measured(reason="over 10 s")}
    row = mgno.as_row(task, found)
    assert row.keys() >= KEYS
    assert row["neuraloperator_seconds"] is row["ratio"] is row["neuraloperator_mib"] is None
    assert row["neuraloperator_reason"] == "over 10 s"
    assert mgno.as_row(task, {**found, (task, "neuraloperator"): Measured(2.0, 2.0, 30.0)})["ratio"] == 4


def test_growth_is_the_exponent_of_the_points():
    times = {10: 1.0, 100: 2.0, 1000: 20.0}
    rows = [{"case": "c", "grid": "g", "points": points, "ours_seconds": s} for points, s in times.items()]
    assert mgno.growth(rows, "c", "g", "ours") == pytest.approx(1)
    assert mgno.growth(rows[:1], "c", "g", "ours") is None


def test_more_points_are_not_tried_where_fewer_were_too_many(monkeypatch):
    monkeypatch.setattr(mgno, "isolated", lambda build, limits: Measured(reason="over 1 s"))
    tasks = [mgno.Task("forward", points, (32, 32)) for points in (10, 100)]
    found = mgno.measure(tasks, ("ours",), Limits(1, 1))
    assert [found[task, "ours"].reason for task in tasks] == ["over 1 s", "not tried: 10 points were too many"]


MEASUREMENTS = """
import json
from dataclasses import asdict
import torch
from torch.utils._pytree import tree_leaves
from benchmarks.isolated import Limits, isolated

def allocate(mib):
    return lambda: lambda: torch.ones(mib, 2**18).sum()

def spin():
    def forever():
        while True:
            pass
    return forever

torch.ones(8).sum()
tried = (allocate(64), Limits(20, 2**30)), (allocate(2048), Limits(20, 2**30)), (spin, Limits(1, 2**30))
print(json.dumps([asdict(isolated(*one)) for one in tried]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the kernel's account of a process")
def test_a_measurement_sees_what_is_allocated_and_stops_at_its_limits():
    """From a small process: what a large one has in memory that the kernel has taken away comes back in its fork."""
    text = subprocess.run([sys.executable, "-c", MEASUREMENTS], capture_output=True, text=True, check=True).stdout
    allocated, too_large, too_long = json.loads(text)
    assert 60 < allocated["mib"] < 80
    assert allocated["processor"] > 0
    assert too_large["reason"] == "needs over 1.0 GiB"
    assert too_long["reason"] == "over 1 s"


def test_without_the_library_it_says_how_to_install_it(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("neuralop")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "neuralop", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install -e '\.\[benchmark\]'"):
        mgno_library.load()
