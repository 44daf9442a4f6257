"""Promise: an operator comes back as it was saved, and never for a problem that it was not trained for."""

import json

import pytest
import torch

from shapewright.surrogate.models.model_card import OperatorCard
from shapewright.surrogate.models.weights_file import SurrogateFileError, load_operator, save_operator, write_weights
from tests.surrogate.problem_cases import poisson

TRAINED_FOR = {"geometry": {"family": "star_domain", "mesh_size": 0.5}, "physics": {"name": "poisson"}}
CARD = OperatorCard(TRAINED_FOR, {"steps": 5}, {"100": 1e-3, "300": 2e-4}, {"device": "cpu"}, 12.5)


@pytest.fixture
def saved(tmp_path):
    path, network = tmp_path / "operator.safetensors", poisson().network(seed=4)
    save_operator(path, network, CARD)
    return path, network


def test_weights_scales_and_card_come_back(saved):
    path, network = saved
    other = poisson().network(seed=5)
    other.scale.mul_(7)
    assert load_operator(path, other, TRAINED_FOR) == CARD
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_the_card_lies_beside_for_people(saved):
    path, _ = saved
    assert json.loads(path.with_name("operator.card.json").read_text()) == json.loads(CARD.as_json())


def test_another_problem_is_refused_with_the_difference(saved):
    path, _ = saved
    other = TRAINED_FOR | {"physics": {"name": "nonlinear_poisson"}}
    with pytest.raises(SurrogateFileError, match=r"physics.*poisson.*nonlinear_poisson"):
        load_operator(path, poisson().network(), other)


def test_another_latent_grid_is_refused(saved):
    path, _ = saved
    with pytest.raises(SurrogateFileError, match="belongs to the latent grid at"):
        load_operator(path, poisson().network(grid=(12, 10)), TRAINED_FOR)


def test_another_network_is_refused(saved):
    path, _ = saved
    with pytest.raises(SurrogateFileError, match="its weights do not fit this study's network"):
        load_operator(path, poisson().network(width=8), TRAINED_FOR)


class Foreign:
    """The card of a design surrogate, say."""

    def as_json(self):
        return json.dumps({"trained_for": TRAINED_FOR, "designs": 100})


def test_what_is_no_operator_is_refused(saved):
    path, network = saved
    write_weights(path, network.state_dict(), Foreign())
    with pytest.raises(SurrogateFileError, match="its model card cannot be read as that of an operator"):
        load_operator(path, network, TRAINED_FOR)
    with pytest.raises(SurrogateFileError, match="there is no such file"):
        load_operator(path.with_name("no.safetensors"), network, TRAINED_FOR)
