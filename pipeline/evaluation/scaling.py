"""Bits per byte over parameters and training tokens: L = E + A / N^a + B / D^b (arXiv 2203.15556, section 3.3).

With the exponents given, L is linear in E, A and B, which are at least 0. So the exponents are taken from a grid, each
pair with its least squares; the result needs no start values and is the same on every machine. It is fitted to bits per
byte, not to the logarithm of the loss with Huber's, as there.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

EXPONENTS = np.linspace(0.02, 1.5, 75)
"""Candidates of a and b."""
DISTINCT = 3
"""Fewest distinct values of N (or D) from which E, A and a (or B and b) can be told apart."""
RATIO = 1.1
"""Values within this ratio count as one: trainings of the same budget differ by a micro-batch."""


@dataclass(frozen=True)
class TrainedPoint:
    """One trained model."""

    parameters: float
    tokens: float
    """Document tokens in the training loss."""
    bits_per_byte: float


@dataclass(frozen=True)
class ScalingFit:
    """L = `floor` + `of_parameters` / N^`parameter_exponent` + `of_tokens` / D^`token_exponent`."""

    floor: float
    of_parameters: float
    parameter_exponent: float
    of_tokens: float
    token_exponent: float
    residual: float
    """Root of the mean square of the residuals, in bits per byte."""

    def bits_per_byte(self, parameters: float, tokens: float) -> float:
        """L at N `parameters` and D `tokens`."""
        return float(
            self.floor
            + self.of_parameters * parameters**-self.parameter_exponent
            + self.of_tokens * tokens**-self.token_exponent
        )


@dataclass(frozen=True)
class Scaling:
    """What the points of one family of models determine."""

    points: int
    terms: tuple[str, ...]
    """The terms that are fitted beside E: `parameters`, `tokens`."""
    missing: tuple[str, ...]
    """Why others are not, or why there is no fit; one sentence each."""
    fit: ScalingFit | None
    """None without any term."""
    leave_one_out: tuple[ScalingFit, ...] = ()
    """Fits without one point each: their spread shows how well the fit is determined. Empty where a fit without a point
    has fewer points than numbers."""


def scaling_of(points: Sequence[TrainedPoint]) -> Scaling:
    """Fit the terms that the points determine; a term needs three distinct values of its variable.

    Without the term of the parameters, E includes it, and is that of these models. Linear in the points.
    """
    counts = {
        "parameters": _distinct([point.parameters for point in points]),
        "tokens": _distinct([point.tokens for point in points]),
    }
    terms = tuple(name for name, count in counts.items() if count >= DISTINCT)
    missing = [
        f"{count} distinct number{'s' * (count != 1)} of {name}, {DISTINCT} are needed for its term"
        for name, count in counts.items()
        if count < DISTINCT
    ]
    numbers = 1 + 2 * len(terms)
    if terms and len(points) < numbers:
        missing.append(f"{len(points)} points determine no {numbers} numbers")
        terms = ()
    if not terms:
        return Scaling(len(points), (), tuple(missing), None)
    if len(points) == numbers:
        missing.append(f"{len(points)} points for {numbers} numbers: a fit of any points, without a check")
    others = [
        _fit(rest, terms) for rest in itertools.combinations(points, len(points) - 1) if len(rest) >= numbers
    ]
    fit = _fit(points, terms)
    exponents = {"parameters": fit.parameter_exponent, "tokens": fit.token_exponent}
    missing += [
        f"the exponent of {name} is {exponents[name]:.2f}, the {end} candidate: it is not determined"
        for name in terms
        for end, edge in (("smallest", EXPONENTS[0]), ("largest", EXPONENTS[-1]))
        if exponents[name] == edge
    ]
    return Scaling(len(points), terms, tuple(missing), fit, tuple(others))


def _distinct(values: Sequence[float]) -> int:
    """The number of values that are each larger than the one before by more than `RATIO`."""
    count, last = 0, 0.0
    for value in sorted(values):
        if value > last * RATIO:
            count, last = count + 1, value
    return count


def _fit(points: Sequence[TrainedPoint], terms: Sequence[str]) -> ScalingFit:
    """The least squares of all exponents, with each factor at least 0: the best of those with some of the factors 0."""
    bits_P = np.array([point.bits_per_byte for point in points])
    powers = {
        "floor": np.ones((1, len(points))),
        "parameters": np.power.outer([point.parameters for point in points], -EXPONENTS).T,
        "tokens": np.power.outer([point.tokens for point in points], -EXPONENTS).T,
    }
    best: tuple[float, dict[str, tuple[float, float]]] = np.inf, {}
    used = ["floor", *terms]
    for size in range(1, len(used) + 1):
        for chosen in itertools.combinations(used, size):
            # All combinations of exponents together, G of them; columns of mean 1, so that none is negligible.
            scales = [powers[name].mean(1, keepdims=True) for name in chosen]
            grid = np.stack(np.meshgrid(*(np.arange(len(scale)) for scale in scales), indexing="ij"), -1)
            index_GF = grid.reshape(-1, size)
            columns = [
                (powers[name] / scale)[index_GF[:, f]]
                for f, (name, scale) in enumerate(zip(chosen, scales, strict=True))
            ]
            matrix_GPF = np.stack(columns, -1)
            factors_GF = np.linalg.pinv(matrix_GPF, rcond=1e-10) @ bits_P
            error_G = np.square((matrix_GPF @ factors_GF[..., None])[..., 0] - bits_P).sum(-1)
            error_G[(factors_GF < 0).any(-1)] = np.inf
            g = int(error_G.argmin())
            if error_G[g] < best[0]:
                found = {
                    name: (
                        float(factors_GF[g, f] / scales[f][index_GF[g, f], 0]),
                        float(EXPONENTS[index_GF[g, f]]),
                    )
                    for f, name in enumerate(chosen)
                }
                best = float(error_G[g]), found
    error, found = best
    floor, _ = found.get("floor", (0.0, 0.0))
    residual = float((error / len(points)) ** 0.5)
    return ScalingFit(floor, *found.get("parameters", (0.0, 0.0)), *found.get("tokens", (0.0, 0.0)), residual)
