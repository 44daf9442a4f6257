"""Resolved solutions of Burgers' equation u_t + u u_x = viscosity u_xx on the periodic unit interval: the truth.

Fourier pseudo-spectral in space with the 2/3 rule, and the classical Runge-Kutta method of fourth order in time behind
an integrating factor for diffusion. L. Trefethen, *Spectral Methods in MATLAB* (2000), chapter 10. It shares no line
with what the surrogate does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def solve_burgers(initial: Array, viscosity: float, times: int, steps: int) -> Array:
    """(B, times, N) solutions at t = 0, ..., 1 from values (B, N) at x = i / N.

    Args:
        initial: values of the initial data.
        viscosity: factor of u_xx.
        times: number of equidistant times that are returned, 0 and 1 among them.
        steps: of time; a whole multiple of ``times - 1``.

    Raises:
        ValueError: ``steps`` is no such multiple.
    """
    if times < 2 or steps % (times - 1):
        raise ValueError(f"{steps} time steps are asked for with {times} times; allowed are multiples of {times - 1}")
    count = initial.shape[-1]
    wave = 2 * np.pi * np.fft.rfftfreq(count, 1 / count)
    flux = np.where(wave < 2 * np.pi * count / 3, -0.5j * wave, 0)
    step = 1 / steps
    half = np.exp(-viscosity * wave**2 * step / 2)

    def slope(spectrum: NDArray[np.complex128]) -> NDArray[np.complex128]:
        return flux * np.fft.rfft(np.fft.irfft(spectrum, count) ** 2)

    state, found = np.fft.rfft(initial), [initial]
    for index in range(1, steps + 1):
        first = slope(state)
        second = slope(half * (state + step / 2 * first))
        third = slope(half * state + step / 2 * second)
        fourth = slope(half * (half * state + step * third))
        state = half**2 * state + step / 6 * (half**2 * first + 2 * half * (second + third) + fourth)
        if index % (steps // (times - 1)) == 0:
            found.append(np.fft.irfft(state, count))
    return np.stack(found, 1)


def reference(initial: Array, viscosity: float, points: int) -> Array:
    """(B, points, points + 1) in x and t on the grid i / points, j / points, from ``initial`` on a resolved grid.

    Raises:
        ValueError: the grid of ``initial`` is no multiple of ``points``, or the highest tenth of the waves that the
            2/3 rule keeps holds more than 1e-6 of the largest coefficient: the solution is not resolved.
    """
    count = initial.shape[-1]
    if count % points:
        raise ValueError(f"initial data have {count} points; expected a multiple of {points}")
    steps = points * -(-4 * count // points)
    solution = solve_burgers(initial, viscosity, points + 1, steps)
    spectrum = np.abs(np.fft.rfft(solution)).max((0, 1))
    tail = spectrum[int(0.3 * count) : int(count / 3)].max() / spectrum.max()
    if not tail < 1e-6:
        found = f"the highest waves of the solution hold {tail:.1e} of the largest"
        raise ValueError(f"{found}; {count} points do not resolve it")
    return np.ascontiguousarray(solution[:, :, :: count // points].transpose(0, 2, 1))
