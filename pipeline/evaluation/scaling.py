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

    def value(self, name: str) -> float:
        """`parameters` or `tokens`."""
        return self.parameters if name == "parameters" else self.tokens

    def rounded(self, name: str) -> str:
        """That value to two digits, with its name."""
        return f"{self.value(name):.2g} {name}"


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

    points: tuple[TrainedPoint, ...]
    """Those of the fit."""
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

    Without the term of a variable, E includes it, and the fit is of the points with the most frequent value of it.
    Linear in the points.
    """
    terms, missing = [], []
    for name in ("tokens", "parameters"):
        groups = _groups(points, name)
        if len(groups) >= DISTINCT:
            terms.append(name)
            continue
        count = len(groups)
        missing.append(
            f"{count} distinct number{'s' * (count != 1)} of {name}, {DISTINCT} are needed for its term"
        )
        if count > 1:
            points = max(groups, key=len)
            missing[-1] += f"; the fit is of the {len(points)} points at {points[0].rounded(name)}"
    terms = [name for name in terms if len(_groups(points, name)) >= DISTINCT]
    numbers = 1 + 2 * len(terms)
    if terms and len(points) < numbers:
        missing.append(f"{len(points)} points determine no {numbers} numbers")
        terms = []
    if not terms:
        return Scaling(tuple(points), (), tuple(missing), None)
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
    return Scaling(tuple(points), tuple(terms), tuple(missing), fit, tuple(others))


def _groups(points: Sequence[TrainedPoint], name: str) -> list[list[TrainedPoint]]:
    """Points whose value of a variable is within `RATIO` of the smallest of their group."""
    groups: list[list[TrainedPoint]] = []
    for point in sorted(points, key=lambda point: point.value(name)):
        if not groups or point.value(name) > groups[-1][0].value(name) * RATIO:
            groups.append([])
        groups[-1].append(point)
    return groups


def _fit(points: Sequence[TrainedPoint], terms: Sequence[str]) -> ScalingFit:
    """The least squares of all exponents, with each factor at least 0: the best of those with some of the factors 0."""
    bits_P = np.array([point.bits_per_byte for point in points])
    powers = {
        "floor": np.ones((1, len(points))),
        "parameters": np.power.outer([point.value("parameters") for point in points], -EXPONENTS).T,
        "tokens": np.power.outer([point.value("tokens") for point in points], -EXPONENTS).T,
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
