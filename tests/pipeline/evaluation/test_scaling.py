"""The scaling law is found where the points determine it, and what they do not determine is said."""

import itertools

import numpy as np
import pytest

from pipeline.evaluation.scaling import TrainedPoint, scaling_of

PARAMETERS, TOKENS = (1e6, 3e6, 1e7, 3e7), (1e6, 3e6, 1e7)


def law(parameters, tokens):
    return 0.9 + 30 * parameters**-0.3 + 40 * tokens**-0.28


def points(parameters=PARAMETERS, tokens=TOKENS, noise=0.0):
    rng = np.random.default_rng(0)
    return [
        TrainedPoint(n, d, law(n, d) + noise * rng.standard_normal())
        for n, d in itertools.product(parameters, tokens)
    ]


def test_the_law_that_made_the_points_is_found():
    found = scaling_of(points())
    assert set(found.terms) == {"parameters", "tokens"} and not found.missing
    assert found.fit.parameter_exponent == pytest.approx(0.3)
    assert found.fit.token_exponent == pytest.approx(0.28)
    assert found.fit.floor == pytest.approx(0.9, rel=1e-5)
    assert found.fit.residual < 1e-8
    assert found.fit.bits_per_byte(1e8, 1e8) == pytest.approx(law(1e8, 1e8), rel=1e-5)
    assert len(found.leave_one_out) == 12


def test_the_spread_without_one_point_grows_with_the_noise():
    spreads = []
    for noise in (1e-4, 1e-2):
        fits = scaling_of(points(noise=noise)).leave_one_out
        spreads.append(np.ptp([fit.bits_per_byte(1e9, 1e9) for fit in fits]))
    assert spreads[0] < 0.1 * spreads[1]


def test_factors_are_not_negative():
    """More tokens, more bits: no term of tokens."""
    rising = [TrainedPoint(1e6, tokens, bits) for tokens, bits in ((1e6, 1.0), (3e6, 1.1), (1e7, 1.2))]
    fit = scaling_of(rising).fit
    assert fit.of_tokens == 0 and fit.floor == pytest.approx(1.1)


@pytest.mark.parametrize(
    ("parameters", "tokens", "terms", "message"),
    [
        ((1e6,), TOKENS, ("tokens",), "1 distinct number of parameters, 3 are needed"),
        (PARAMETERS, (1e6, 3e6), ("parameters",), "2 distinct numbers of tokens, 3 are needed"),
        ((1e6,), (1e6,), (), "1 distinct number of tokens"),
        ((), (), (), "0 distinct numbers of tokens"),
    ],
)
def test_a_term_without_three_values_is_not_fitted(parameters, tokens, terms, message):
    found = scaling_of(points(parameters, tokens))
    assert found.terms == terms and message in " ".join(found.missing)
    assert (found.fit is None) == (not terms)
    if terms == ("tokens",):  # its floor includes the term of the parameters
        assert found.fit.token_exponent == pytest.approx(0.28)
        assert found.fit.floor == pytest.approx(0.9 + 30 * 1e6**-0.3, rel=1e-4)
        assert "3 points for 3 numbers" in found.missing[-1] and not found.leave_one_out


def test_nearly_equal_budgets_count_once():
    found = scaling_of(points(tokens=(1e6, 1.001e6, 1.002e6)))
    assert found.terms == ("parameters",) and "1 distinct number of tokens" in found.missing[0]


def test_budgets_of_a_term_that_is_not_fitted_are_not_mixed():
    found = scaling_of([*points(tokens=(1e6,)), TrainedPoint(1e6, 3e6, law(1e6, 3e6))])
    assert len(found.points) == 4 and "the fit is of the 4 points at 1e+06 tokens" in found.missing[0]
    assert found.fit.parameter_exponent == pytest.approx(0.3) and found.fit.residual < 1e-8


def test_an_exponent_at_the_end_of_the_candidates_is_said():
    """Bits that fall only from the first budget to the second."""
    steep = [
        TrainedPoint(1e6, tokens, bits) for tokens, bits in ((1e6, 2.0), (1e7, 1.0), (1e8, 1.0), (1e9, 1.0))
    ]
    assert "the exponent of tokens is 1.50, the largest" in " ".join(scaling_of(steep).missing)


def test_three_points_determine_no_five_numbers():
    diagonal = [TrainedPoint(n, d, law(n, d)) for n, d in zip(PARAMETERS, TOKENS, strict=False)]
    found = scaling_of(diagonal)
    assert found.fit is None and found.missing == ("3 points determine no 5 numbers",)
