"""Families: every way in which one is refused, the shipped ones' options, and one from a user's file."""

from __future__ import annotations

import inspect
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from shapewright.geometries.family.catalogue import builtin_families, load_family
from shapewright.geometries.family.family import Family
from shapewright.geometries.family.parts import FamilyError, Parameter
from shapewright.geometries.family.spline import Curve
from tests.geometries.shapes import EXAMPLES, FAMILIES, designs, family

SIDE = {"count": 2, "degree": 1}
SQUARE = torch.tensor([[0, 0], [1, 0], [1, 0], [1, 1], [1, 1], [0, 1], [0, 1], [0, 0]], dtype=torch.float64)
LINES = tuple(Curve(tag, **SIDE) for tag in ("south", "east", "north", "west"))
SIZE = Parameter("size", 1.0, 0.5, 2.0)


def square(**changes) -> Family:
    """A square of variable size, with something wrong about it."""
    sound = {
        "name": "square",
        "description": "",
        "parameters": (SIZE,),
        "loops": (LINES,),
        "control_points": lambda theta: theta[..., None] * SQUARE.to(theta),
    }
    return Family(**(sound | changes))


def test_a_sound_family_is_taken():
    assert square().tags == ("south", "east", "north", "west")
    assert float(square().part_quadrature.area(square().part_points(square().default))) == pytest.approx(1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((1.0, 2.0, 0.5), r"bounds \[2.0, 0.5\] must be finite and not cross"),
        ((1.0, 1.0, 1.0), "not cross"),
        ((1.0, 0.5, math.inf), "must be finite"),
        ((1.0, math.nan, 2.0), "must be finite"),
        ((3.0, 0.5, 2.0), r"default 3.0 is outside its bounds \[0.5, 2.0\]"),
        ((math.nan, 0.5, 2.0), "default nan is outside"),
    ],
)
def test_parameters_are_refused(values, message):
    with pytest.raises(FamilyError, match="parameter 'size': .*" + message):
        Parameter("size", *values)


def _clockwise(theta: Tensor) -> Tensor:
    return theta[..., None] * SQUARE.flip(0)


def _no_batch(theta: Tensor) -> Tensor:
    return theta[0] * SQUARE


def _fails_on_a_batch(theta: Tensor) -> Tensor:
    return torch.stack([value * SQUARE for value in theta]).squeeze(0).reshape(8, 2)


def _detached(theta: Tensor) -> Tensor:
    return theta.detach()[..., None] * SQUARE


def _partly_detached(theta: Tensor) -> Tensor:
    return theta[..., None] * SQUARE + theta.detach()[..., None] ** 2 * SQUARE


def _through_numpy(theta: Tensor) -> Tensor:
    return torch.from_numpy(theta.numpy())[..., None] * SQUARE


def _opens(theta: Tensor) -> Tensor:
    """Closed at size 1 only."""
    last = torch.zeros_like(SQUARE)
    last[7, 0] = 1.0
    return theta[..., None] * SQUARE + (theta[..., None] - 1) * last


def _turns_round(theta: Tensor) -> Tensor:
    """Other curves beyond size 1.6: the square's corners in another order, closed and counter-clockwise as well."""
    return torch.where((theta > 1.6)[..., None], _sized(theta).roll(2, -2), _sized(theta))


def _sized(theta: Tensor) -> Tensor:
    return theta[..., None] * SQUARE.to(theta)


def _in_place(theta: Tensor) -> Tensor:
    points = _sized(theta)
    with torch.no_grad():
        theta *= 2
    return points


def _random(theta: Tensor) -> Tensor:
    return _sized(theta) * (1 + 1e-6 * torch.rand(()).to(theta))


class Counting:
    """Another square at every call."""

    calls = 0

    def __call__(self, theta: Tensor) -> Tensor:
        self.calls += 1
        return _sized(theta) * (1 + 1e-3 * self.calls)


class Reusing:
    """Writes all its answers into one tensor."""

    store = torch.zeros(8, 2, dtype=torch.float64)

    def __call__(self, theta: Tensor) -> Tensor:
        if theta.ndim > 1 or theta.requires_grad:
            return _sized(theta)
        return self.store.copy_(_sized(theta))


def _lost_beyond(theta: Tensor) -> Tensor:
    return _sized(theta) * torch.sqrt(1.3 - theta)[..., None] / torch.sqrt(1.3 - theta).detach()[..., None]


def _count_changes(theta: Tensor) -> Tensor:
    points = _sized(theta)
    return points[..., :7, :] if theta.ndim == 1 and theta[0] > 1.3 else points


def _raises(theta: Tensor) -> Tensor:
    raise KeyError("no such size")


@pytest.mark.parametrize(
    ("control_points", "message"),
    [
        (_turns_round, r"control_points jumps between theta = \[.*\] and theta = \[.*\]: its derivative misses"),
        (_in_place, "changes the theta that it is given"),
        (_random, "gives two results for one theta"),
        (Counting(), "gives two results for one theta"),
        (Reusing(), "changes an earlier result when it is called again"),
        (_lost_beyond, r"not finite at theta = \[1.*\], within the bounds"),
        (_count_changes, r"shape \(7, 2\), its curves need \(8, 2\) \(at theta = \[1"),
        (_raises, "control_points fails at theta = .*KeyError: 'no such size'"),
        (lambda theta: _sized(theta).float(), "is torch.float32 for a theta of torch.float64"),
        (lambda theta: theta[..., None] * SQUARE, "is torch.float64 for a theta of torch.float32"),
        (lambda theta: _sized(theta).numpy(), "is a ndarray; allowed is a torch tensor"),
        (lambda theta: None, "is a NoneType; allowed is a torch tensor"),
        (lambda theta: _sized(theta) * 1j, "is torch.complex128 for a theta of torch.float64"),
    ],
)
def test_a_family_that_lies_about_its_control_points(control_points, message):
    """What it says at its middle is not what it says elsewhere, or later."""
    with pytest.raises(FamilyError, match="family 'square': " + ".*" + message):
        square(control_points=control_points)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parameters": ()}, r"distinct names, found \[\]"),
        ({"parameters": (SIZE, SIZE)}, r"distinct names, found \['size', 'size'\]"),
        ({"loops": ()}, "loops must hold the outer boundary"),
        ({"loops": (LINES, ())}, "each loop at least one curve"),
        ({"part": 1}, "part is 1; allowed is the index of one of its 1 loops"),
        ({"part": -1}, "part is -1"),
        ({"loops": (LINES, (Curve("hole", 8, periodic=True),))}, "part is 0, but the domain has holes"),
        ({"loops": ((Curve("rim", 6, periodic=True), LINES[0]),)}, "periodic curve 'rim' .* loop of its own"),
        ({"loops": (LINES[:3],)}, r"shape \(8, 2\), its curves need \(6, 2\)"),
        ({"control_points": lambda theta: theta[..., None] * SQUARE / 0}, "not finite"),
        ({"control_points": lambda theta: theta[..., None] * SQUARE.roll(1, 0)}, "'south' does not end where 'east'"),
        ({"control_points": _opens}, r"'west' does not end where 'south' begins \(gap 0.1"),
        ({"control_points": _clockwise}, "begins with 'south' runs clockwise"),
        ({"control_points": _no_batch}, r"batch theta \(..., P\)"),
        ({"control_points": _fails_on_a_batch}, r"batch theta \(..., P\), but failed on \(1, 9, 1\)"),
        ({"control_points": _detached}, "derivative of control_points with respect to 'size'"),
        ({"control_points": _partly_detached}, "derivative of control_points with respect to 'size'"),
        ({"control_points": _through_numpy}, "cannot be differentiated by torch"),
        ({"parameters": (SIZE, replace(SIZE, name="idle")), "control_points": lambda t: t[..., :1, None] * SQUARE},
         "parameter 'idle' moves no control point"),
    ],
)  # fmt: skip
def test_families_are_refused(changes, message):
    with pytest.raises(FamilyError, match="family 'square': .*" + message):
        square(**changes)


@pytest.mark.parametrize("name", FAMILIES)
def test_control_points_are_batched_and_keep_the_dtype(name):
    of = family(name)
    theta = designs(of, 6).reshape(2, 3, -1)
    points = of.control_points(theta)
    torch.testing.assert_close(points[1, 2], of.control_points(theta[1, 2]))
    assert of.control_points(theta.float()).dtype == torch.float32


@pytest.mark.parametrize("start", ["star", "disc", "ellipse", "rounded_square", "l"])
@pytest.mark.parametrize("count", [5, 6, 8, 12, 17])
def test_starts_of_the_closed_bar(start, count):
    of = load_family("closed_bar", {"start": start, "control_points": count, "radius": 2.0}, EXAMPLES)
    assert len(of.parameters) == count
    area = float(of.part_quadrature.area(of.part_points(of.default)))
    assert 0.3 * 4 * math.pi < area < 1.5 * 4 * math.pi


@pytest.mark.parametrize("count", [8, 12, 16, 32])
@pytest.mark.parametrize("symmetric", [True, False])
def test_the_body_starts_as_the_circle_that_was_asked_for(count, symmetric):
    options = {"control_points": count, "radius": 0.2, "center": [0.8, 0.45], "symmetric": symmetric}
    of = load_family("body_in_channel", options, EXAMPLES)
    points = of.part_points(of.default)
    assert float(of.part_quadrature.area(points)) == pytest.approx(math.pi * 0.04, rel=1.5e-3 * (8 / count) ** 4)
    assert float(of.part_quadrature.perimeter(points)) == pytest.approx(math.pi * 0.4, rel=2e-3)
    torch.testing.assert_close(of.part_quadrature.centroid(points), torch.tensor([0.8, 0.45], dtype=torch.float64))
    assert len(of.parameters) == 2 + (1 if symmetric else 2) * (count // 2 - 1)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("closed_bar", {"start": "heart"}, "start is 'heart'; allowed are disc, star, ellipse, rounded_square, l"),
        ("closed_bar", {"control_points": 4}, "control_points is 4; allowed is a whole number of 5 or more"),
        ("closed_bar", {"control_points": 8.5}, "control_points is 8.5"),
        ("closed_bar", {"radius": -1}, "allowed: radius > 0"),
        ("closed_bar", {"lower": 2.0}, "0 < lower < upper"),
        ("closed_bar", {"radius": "one"}, "closed_bar: option radius is 'one'; allowed is a finite number"),
        ("closed_bar", {"sides": 5}, r"unknown option \['sides'\]; allowed are \['control_points'"),
        ("body_in_channel", {"radius": 0.6}, "a circle of radius 0.6 at .* is not inside the channel"),
        ("body_in_channel", {"center": [0.1, 0.5]}, r"at \(0.1, 0.5\) is not inside"),
        ("body_in_channel", {"center": 0.5}, "option center is 0.5; allowed is a list of two numbers"),
        ("body_in_channel", {"center": [0.5, "left"]}, r"option center\[1\] is 'left'; allowed is a finite number"),
        ("body_in_channel", {"shift": [0.9, 0.1]}, r"option shift is \[0.9, 0.1\]; .* less than \[0.85, 0.35\]"),
        ("body_in_channel", {"shift": [-0.1, 0]}, r"option shift is \[-0.1, 0\]; allowed are 0 or more"),
        ("body_in_channel", {"symmetric": "yes"}, "option symmetric is 'yes'; allowed is true or false"),
        ("porous_square", {"pores": 1000}, "at most 100000 control points"),
        ("star_domain", {"waves": 4}, "option waves is 4; allowed is a list"),
        ("star_domain", {"waves": [4, 2.5]}, r"option waves\[1\] is 2.5; allowed is a whole number"),
        ("closed_bar", {"control_points": 10**7}, "a whole number, 100000 at most"),
        ("closed_bar", {"control_points": 10**5000}, "is a whole number of more than 4000 digits"),
        ("closed_bar", {"start": ["star"]}, r"start is '\['star'\]'"),
        ("body_in_channel", {"control_points": 9}, "allowed is an even number of 8 or more"),
        ("body_in_channel", {"slenderness": 1.0}, "slenderness is 1.0; allowed is more than 1.2"),
        ("body_in_channel", {"slenderness": math.nan}, "option slenderness is nan; allowed is a finite number"),
        ("nozzle.py:Nozzle", {"control_points": 4}, "control_points is 4; allowed is a whole number of 5 or more"),
        ("nozzle.py:Nozzle", {"width": 4}, "unknown option"),
        (
            "ring",
            {},
            "unknown family 'ring'; shipped are closed_bar, .*, or your own as my_shapes.py:Name",
        ),
        ("nothing.py:Nozzle", {}, "there is no file .*nothing.py"),
        ("nozzle.py:Diffuser", {}, "defines no 'Diffuser'"),
        ("nozzle.py:", {}, "defines no ''"),
    ],
)
def test_what_cannot_be_loaded(name, options, message):
    with pytest.raises(FamilyError, match=message):
        load_family(name, options, EXAMPLES)


SHAPES = """
from __future__ import annotations
from dataclasses import dataclass
from shapewright.geometries.family.closed_bar import closed_bar

@dataclass(frozen=True)
class Style:  # a dataclass with postponed annotations looks its module up by name
    points: int = 6

def Bar(**options):
    return closed_bar(**({"control_points": Style().points} | options))

def Empty():
    return None

def Breaks():
    raise ZeroDivisionError("no such shape")

made = closed_bar()
constant = 3
"""


def test_a_users_file(tmp_path):
    (tmp_path / "shapes.py").write_text(SHAPES)
    assert len(load_family("shapes.py:Bar", {}, tmp_path).parameters) == 6
    assert len(load_family("shapes.py:Bar", {"control_points": 7}, tmp_path).parameters) == 7
    assert load_family("shapes.py:made", {}, tmp_path).name == "closed_bar"


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("shapes.py:Empty", {}, "returned NoneType; allowed is a shapewright.Family"),
        ("shapes.py:Breaks", {}, "no such shape"),
        ("shapes.py:made", {"radius": 2}, r"takes no options, found \['radius'\]"),
        ("shapes.py:constant", {}, "is a int; allowed is a function that returns a Family"),
        ("broken.py:Bar", {}, "fails on import: SyntaxError"),
        ("shapes.txt:Bar", {}, "is not a Python file"),
    ],
)
def test_what_is_wrong_in_a_users_file(tmp_path, spec, options, message):
    (tmp_path / "shapes.py").write_text(SHAPES)
    (tmp_path / "broken.py").write_text("def Bar(:")
    (tmp_path / "shapes.txt").write_text(SHAPES)
    with pytest.raises(FamilyError, match=message):
        load_family(spec, options, tmp_path)


def test_the_shipped_families_describe_themselves():
    for name, constructor in builtin_families().items():
        of = constructor()
        assert of.name == name
        assert all(tag in of.description for tag in of.tags)
        assert all(parameter.description and parameter.unit for parameter in of.parameters)


NUMERIC = [
    (name, option)
    for name, constructor in builtin_families().items()
    for option, parameter in inspect.signature(constructor).parameters.items()
    if isinstance(parameter.default, int | float) and not isinstance(parameter.default, bool)
]
ABSURD = [math.nan, math.inf, -math.inf, -1, 0, 10**400, 1e300, 1e-300, -1e300, "many", None, True, [], {}, 10**6, 2.5]


@pytest.mark.parametrize(("name", "option"), NUMERIC)
def test_absurd_options_are_one_clear_error(name, option):
    """It names family and option and says what is allowed; or the value makes a family after all."""
    for value in ABSURD:
        try:
            load_family(name, {option: value}, EXAMPLES)
        except FamilyError as error:
            message = str(error)
            assert name in message, (option, value)
            assert "\n" not in message
            assert len(message) < 400
            assert option in message or "pore reaches" in message or "inside the" in message, (value, message)
            assert "allowed" in message or "the limit is" in message or "is not inside" in message, (value, message)


def test_a_disc_to_begin_with():
    """All control points at one distance: a circle but for the fourth order of the spline."""
    of = load_family("closed_bar", {"start": "disc", "control_points": 32, "radius": 2.0}, EXAMPLES)
    assert of.default.tolist() == [2.0] * 32
    outline = of.outline(of.control_points(of.default).numpy(), 0)
    radii = np.linalg.norm(outline, axis=-1)
    assert np.ptp(radii) < 1e-4
    assert radii.mean() == pytest.approx(2.0 * (2 + math.cos(2 * math.pi / 32)) / 3, rel=1e-4)


@pytest.mark.parametrize(("shift", "names"), [([0.2, 0.1], ["dx", "dy"]), ([0.2, 0], ["dx"]), ([0, 0.1], ["dy"])])
@pytest.mark.parametrize("symmetric", [True, False])
def test_a_body_moves_as_a_whole(symmetric, shift, names):
    """By exactly that much, its shape unchanged; the channel stays."""
    plain = load_family("body_in_channel", {"symmetric": symmetric}, EXAMPLES)
    of = load_family("body_in_channel", {"symmetric": symmetric, "shift": shift}, EXAMPLES)
    assert [p.name for p in of.parameters] == [p.name for p in plain.parameters] + names
    theta, motion = designs(plain, 1)[0], designs(of, 1, seed=3)[0][len(plain.parameters) :]
    moved = of.control_points(torch.cat([theta, motion])) - plain.control_points(theta)
    by = dict(zip(names, motion.tolist(), strict=True))
    assert not moved[of.loop_slices[0]].any()
    expected = torch.tensor([by.get("dx", 0.0), by.get("dy", 0.0)], dtype=torch.float64)
    torch.testing.assert_close(moved[of.loop_slices[1]], expected.expand(16, 2))
    assert torch.equal(of.default[: len(theta)], plain.default)
    assert not of.default[len(theta) :].any()


def test_without_a_shift_the_body_is_as_it_was():
    """Also to the digit, so that what was learnt of it stays true."""
    plain = load_family("body_in_channel", {}, EXAMPLES)
    assert [p.name for p in plain.parameters] == ["front", "back", *(f"h{k}" for k in range(1, 8))]


def test_a_family_beyond_memory_is_made_only_if_forced():
    """The estimate grows with the square of the points; nothing is allocated before."""
    options = {"control_points": 1000, "start": "disc"}
    with pytest.raises(FamilyError, match=r"option control_points: 1000 .* about 1[0-9.]+ GB of memory; the limit"):
        load_family("closed_bar", options, EXAMPLES)
    with pytest.raises(FamilyError, match=r"5000 control points .* GB of memory; .*--force"):
        load_family("closed_bar", options | {"control_points": 5000}, EXAMPLES)
