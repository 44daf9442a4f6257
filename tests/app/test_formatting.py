"""What is written can be read back to the digits that are shown."""

import math

from hypothesis import given
from hypothesis import strategies as st

from shapewright.app.formatting import digits_for, limit, number, percent, seconds, signed, unit, with_unit

FINITE = st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)
PLAIN = str.maketrans("−⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "--0123456789")


def read(text: str) -> float:
    return float(text.translate(PLAIN).replace("×10", "e"))


@given(FINITE, st.integers(1, 9))
def test_number_reads_back_to_its_digits(value: float, digits: int) -> None:
    back = read(number(value, digits))
    assert math.isclose(back, value, rel_tol=0.51 * 10.0 ** (1 - digits), abs_tol=1e-307) or math.isinf(back)


@given(FINITE)
def test_signed_always_has_a_sign_and_the_same_value(value: float) -> None:
    text = signed(value)
    assert text[0] in "+−" or text == "0"
    assert text.lstrip("+") == number(value, 2)


@given(st.integers(1, 99999), st.integers(-8, 4))
def test_limit_shows_a_chosen_limit_exactly_and_no_more(mantissa: int, power: int) -> None:
    value = float(f"{mantissa}e{power}")
    assert math.isclose(read(limit(value)), value, rel_tol=1e-12)
    shown = limit(value).split("×")[0].replace(".", "").strip("0")
    assert shown == str(mantissa).strip("0")


def test_digits_follow_the_uncertainty() -> None:
    assert [digits_for(e) for e in (1e-2, 3.6e-5, 5e-9, None, 0.0)] == [4, 6, 7, 7, 7]


def test_units_and_durations() -> None:
    assert [unit(name) for name in ("m^4", "1", "Pa s", "W/m", "m^-2")] == ["m⁴", "", "Pa·s", "W/m", "m⁻²"]
    assert with_unit("3.1", "m^2") == "3.1\u00a0m²"
    assert with_unit("3.1", "1") == "3.1"
    assert percent(None) == number(math.nan) == "–"
    assert percent(0.0641) == "6.4 %"
    assert [seconds(s) for s in (0.0961, 61.0, 777.7, 7260.0)] == ["0.096 s", "61 s", "12 min 58 s", "2 h 1 min"]
