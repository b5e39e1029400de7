"""Predictive distributions, judged: right where they are right by construction, wrong where not."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.special import ndtr

from cf_pipeline.recommender.predictive import Predicted
from cf_pipeline.recommender.uncertainty import UncertaintyReport, evaluate

LEVELS = torch.arange(1.0, 6.0)
EDGES = torch.arange(1.5, 5.0)


def normal_predictions(mean: torch.Tensor, std: torch.Tensor) -> Predicted:
    """Return predictions of ratings that are rounded normals."""
    below = ndtr((EDGES - mean.unsqueeze(1)) / std.unsqueeze(1))
    none = torch.zeros(len(mean), 1)
    return Predicted(mean, std, torch.cat([none, below, none + 1], dim=1).diff(dim=1))


def simulated(spread: float) -> UncertaintyReport:
    """Judge predictions whose standard deviations are `spread` times the true ones."""
    generator = torch.Generator().manual_seed(0)
    mean = 1 + 4 * torch.rand(40_000, generator=generator)
    std = 0.5 + torch.rand(40_000, generator=generator)
    actual = (mean + std * torch.randn(40_000, generator=generator)).round().clamp(1, 5)
    return evaluate(actual, normal_predictions(mean, spread * std), LEVELS)


def test_true_distributions_are_found_calibrated() -> None:
    report = simulated(1)
    assert report.calibration_error < 0.005
    for row in report.calibration:
        standard_error = np.sqrt(row["share"] * (1 - row["share"]) / row["count"])
        assert row["share"] == pytest.approx(row["probability"], abs=4 * standard_error)
    assert list(report.coverage) == ["80%", "90%", "95%"]


@pytest.mark.parametrize("spread", [0.5, 2.0])
def test_distributions_of_a_wrong_width_are_found_out(spread: float) -> None:
    right, wrong = simulated(1), simulated(spread)
    assert wrong.calibration_error > 4 * right.calibration_error
    assert wrong.negative_log_likelihood > right.negative_log_likelihood + 0.05
    narrower = [wrong.coverage[name] < right.coverage[name] for name in right.coverage]
    assert narrower == [spread < 1] * 3


def test_errors_grow_as_they_were_expected_to() -> None:
    """Where the scale's ends are far: a clamped rating would err less."""
    generator = torch.Generator().manual_seed(0)
    std = 0.02 + 0.4 * torch.rand(20_000, generator=generator)
    mean = torch.full_like(std, 3)
    levels = torch.linspace(1, 5, 401)
    actual = levels[
        ((mean + std * torch.randn(20_000, generator=generator) - 1) * 100).round().int()
    ]
    uniform = torch.full((len(std), len(levels)), 1 / len(levels))
    groups = evaluate(actual, Predicted(mean, std, uniform), levels).by_uncertainty
    assert len(groups) == 10
    expected = [group["expected"] for group in groups]
    assert expected == sorted(expected)
    assert [group["rmse"] for group in groups] == pytest.approx(expected, rel=0.08)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=30), st.integers(0, 2**32 - 1))
def test_the_figures_are_those_of_their_definitions(ratings: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.ones(5), len(ratings)).astype(np.float32)
    mean, std = random.uniform(1, 5, len(ratings)), random.uniform(0.1, 2, len(ratings))
    actual = np.array(ratings, dtype=np.float32)
    predicted = Predicted(
        torch.tensor(mean, dtype=torch.float32),
        torch.tensor(std, dtype=torch.float32),
        torch.tensor(probabilities),
    )
    report = evaluate(torch.tensor(actual), predicted, LEVELS)
    likelihoods = [row[rating - 1] for row, rating in zip(probabilities, ratings, strict=True)]
    assert report.negative_log_likelihood == pytest.approx(-np.log(likelihoods).mean(), rel=1e-4)
    assert sum(row["count"] for row in report.calibration) == len(ratings)
    inside = np.abs(actual - mean) <= 1.2815516 * std
    assert report.coverage["80%"] == pytest.approx(inside.mean(), abs=1e-6)
    shares = [row["share"] * row["count"] for row in report.calibration]
    assert sum(shares) == pytest.approx((actual >= 4).sum())


def test_what_cannot_be_judged_is_refused() -> None:
    nothing = normal_predictions(torch.ones(0), torch.ones(0))
    with pytest.raises(ValueError, match="0 ratings to judge by"):
        evaluate(torch.ones(0), nothing, LEVELS)


@pytest.mark.parametrize(("stray", "level"), [(2.6, 3.0), (6.0, 5.0), (-1.0, 1.0)])
def test_a_rating_that_is_no_level_counts_as_the_nearest(stray: float, level: float) -> None:
    one = normal_predictions(torch.full((1,), 3.2), torch.ones(1))
    strayed, nearest = (evaluate(torch.tensor([of]), one, LEVELS) for of in (stray, level))
    assert strayed.negative_log_likelihood == nearest.negative_log_likelihood
    assert strayed.calibration == nearest.calibration
