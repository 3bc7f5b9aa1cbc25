"""Corruption errors against numbers worked out by hand."""

from __future__ import annotations

import pytest

from msn_mm.evaluation.robustness.corruption_error import (
    ALEXNET_ERRORS,
    corruption_errors,
    mean_corruption_error,
)
from msn_mm.evaluation.robustness.normalising import by_alexnet, by_baseline
from msn_mm.evaluation.robustness.protocol import by_corruption, by_severity

# Table 1 of arXiv 1903.12261 prints AlexNet's errors without digits after the point.
PRINTED = [89, 89, 92, 82, 83, 79, 80, 87, 83, 82, 56, 85, 65, 72, 61]


def test_alexnet_is_that_of_the_paper_and_has_100() -> None:
    assert [round(error) for error in ALEXNET_ERRORS.values()] == PRINTED
    own = {name: [error] * 5 for name, error in ALEXNET_ERRORS.items()}
    assert mean_corruption_error(own) == pytest.approx(100.0, abs=1e-12)
    # any errors of the same mean over the severities, too
    spread = {
        name: [error + d for d in (-4, -2, 0, 2, 4)] for name, error in ALEXNET_ERRORS.items()
    }
    assert mean_corruption_error(spread) == pytest.approx(100.0, abs=1e-12)


def test_by_hand() -> None:
    errors = {"snow": [10.0, 20.0, 30.0, 40.0, 50.0], "fog": [0.0, 0.0, 0.0, 0.0, 5.0]}
    reference = {"snow": [20.0, 40.0, 60.0, 80.0, 100.0], "fog": [1.0, 1.0, 1.0, 1.0, 1.0]}
    # sums: 150 / 300 and 5 / 5, not the mean of the quotients of severities
    assert corruption_errors(errors, reference) == {"snow": 50.0, "fog": 100.0}
    assert mean_corruption_error(errors, reference) == 75.0
    alexnet = (100 * 30 / 86.6816 + 100 * 1 / 81.9324) / 2
    assert mean_corruption_error(errors) == pytest.approx(alexnet)


def test_ratios_are_of_sums_over_severities() -> None:
    errors, reference = {"fog": [1.0, 9.0]}, {"fog": [10.0, 10.0]}
    assert corruption_errors(errors, reference)["fog"] == 50.0
    uneven = {"fog": [2.0, 18.0]}
    assert corruption_errors(errors, uneven)["fog"] == 50.0
    other = corruption_errors({"fog": [1.0, 1.0]}, {"fog": [1.0, 3.0]})["fog"]
    assert other == 50.0 and other != (100 + 100 / 3) / 2


def test_a_faultless_reference_has_no_ratio() -> None:
    errors, reference = {"fog": [1.0], "snow": [1.0]}, {"fog": [0.0], "snow": [2.0]}
    assert corruption_errors(errors, reference) == {"fog": None, "snow": 50.0}
    assert mean_corruption_error(errors, reference) is None


def test_other_corruptions_or_severities_are_refused() -> None:
    with pytest.raises(ValueError, match="snow"):
        corruption_errors({"snow": [1.0]}, {"fog": [1.0]})
    with pytest.raises(ValueError, match="3 severities for fog"):
        corruption_errors({"fog": [1.0, 2.0, 3.0]}, {"fog": [1.0, 2.0]})


def test_results_carry_both_norms() -> None:
    measured = by_corruption(lambda name, s: 10.0 * s, ("fog", "snow"), (1, 3))
    assert measured["corruptions"]["fog"] == {"errors": [10.0, 30.0], "error": 20.0}
    assert measured["mean_error"] == 20.0 and by_severity(measured) == [10.0, 30.0]
    normed = by_alexnet(measured)
    assert normed["corruptions"]["snow"]["ce"] == pytest.approx(100 * 20 / 86.6816)
    half = by_corruption(lambda name, s: 5.0 * s, ("fog", "snow"), (1, 3))
    against = by_baseline(half, measured, "whole")
    assert (against["mce_of_baseline"], against["baseline"]) == (50.0, "whole")
    assert against["corruptions"]["fog"]["ce_of_baseline"] == 50.0
    assert by_baseline(measured, measured, "whole")["mce_of_baseline"] == 100.0
