"""Promise: what a network would take is told before it is made, and the key that makes it so large."""

from __future__ import annotations

import pytest

from shapewright.geometries.family.effort import forcing
from shapewright.studies.problem.setup import build_setup
from shapewright.studies.problem.surrogates import build_surrogate
from shapewright.studies.schema.loader import StudyError, load_study
from shapewright.surrogate.mgno.network_size import estimated_parameters, estimated_training_bytes
from tests.studies.study_cases import setup_of, write_tiny


@pytest.mark.parametrize("sizes", [(32, 64, 5, 2), (8, 16, 3, 4), (16, 100, 6, 1)])
def test_the_parameters_are_those_of_the_network(sizes):
    width, hidden, modes, layers = sizes
    changed = f"width: {width}, hidden: {hidden}, modes: {modes}, layers: {layers}"
    setup = setup_of(f"surrogate={{grid: [12, 12], {changed}}}")
    own = sum(parameter.numel() for parameter in build_surrogate(setup).parameters())
    assert own == pytest.approx(estimated_parameters(width, hidden, (modes, modes), layers), rel=0.05, abs=300)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("surrogate.width=100000", r"surrogate.width: found 100000: .* takes about \d+(\.\d+)? TB"),
        ("surrogate.hidden=10000000", "surrogate.hidden: found 10000000"),
        ("surrogate.layers=1000000000", "surrogate.layers: found 1000000000"),
        ("surrogate.grid=[100000, 100000]", r"surrogate.grid: found \(100000, 100000\)"),
        ("surrogate.width=1" + 300 * "0", "surrogate.width"),
    ],
)
def test_a_network_beyond_memory_is_refused_before_it_is_made(tmp_path, override, said):
    path = write_tiny(tmp_path)
    with pytest.raises(StudyError, match=rf"override .*{said}.*") as caught:
        build_setup(load_study(path, [override]))
    assert len(str(caught.value)) < 1200
    assert "the limit is 8 GB" in str(caught.value)
    assert "--force" in str(caught.value)


def test_force_lets_it_be_made(tmp_path):
    study = load_study(write_tiny(tmp_path), ["surrogate.width=100000"])
    with forcing():
        assert build_setup(study).study.model.surrogate.width == 100_000  # the network itself comes later


def test_the_shipped_networks_are_far_below_the_limit():
    assert estimated_training_bytes(32, 64, (10, 10), 4, (32, 32), 2, 8, 5000) < 2e9
