"""Intervals by the bootstrap over users: beside what theory says, and what numpy computes."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cf_pipeline.recommender import bootstrap
from cf_pipeline.recommender.bootstrap import correlation, mean_interval, rmse_difference
from cf_pipeline.recommender.settings import GateSettings

SETTINGS = GateSettings()
Z = 1.6449  # of the normal distribution, at the confidence of .95


def some_rows(seed: int, n_users: int = 200, of_each: int = 10) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    users = np.arange(n_users).repeat(of_each)
    return pd.DataFrame({"user": users, "rating": random.integers(1, 6, len(users)).astype(float)})


def test_the_interval_of_a_mean_is_that_of_theory():
    of_users = np.random.default_rng(0).normal(3, 2, 1000)
    found = mean_interval(of_users, SETTINGS)
    error = of_users.std() / np.sqrt(1000)
    assert found.estimate == pytest.approx(of_users.mean())
    assert found.high - found.estimate == pytest.approx(Z * error, rel=0.1)
    assert found.estimate - found.low == pytest.approx(Z * error, rel=0.1)


def test_the_limits_hold_as_often_as_they_promise():
    """Each limit by itself is on the wrong side of the truth in one of twenty samples."""
    random = np.random.default_rng(1)
    few = GateSettings(resamples=400)
    found = [mean_interval(random.normal(0, 1, 100), few) for _ in range(400)]
    for missed in (
        sum(interval.low > 0 for interval in found),
        sum(interval.high < 0 for interval in found),
    ):
        assert 8 <= missed <= 36  # 20 are expected, four standard deviations are 17


def test_ratings_of_one_user_count_as_one_draw():
    """Users whose ratings are all predicted well, or all badly, tell as much as they are many."""
    random = np.random.default_rng(2)
    rows = some_rows(0, n_users=50, of_each=40)
    of_user = random.normal(0, 1, 50).repeat(40)
    ours = rows["rating"].to_numpy() + of_user
    shuffled = rows["rating"].to_numpy() + random.permutation(of_user)
    theirs = rows["rating"].to_numpy() + 1.0
    by_user = rmse_difference(rows, ours, theirs, SETTINGS)
    by_rating = rmse_difference(rows, shuffled, theirs, SETTINGS)
    assert by_user.estimate == pytest.approx(by_rating.estimate)
    assert by_user.high - by_user.low > 3 * (by_rating.high - by_rating.low)


@given(st.integers(0, 1000), st.floats(-1, 1), st.floats(0.1, 2))
def test_a_difference_of_rmse_is_that_of_the_rmse_and_turns_around(seed, shift, scale):
    rows, random = some_rows(seed, 20), np.random.default_rng(seed)
    actual = rows["rating"].to_numpy()
    ours = actual + random.normal(0, 1, len(rows))
    theirs = actual + random.normal(shift, scale, len(rows))
    few = GateSettings(resamples=200)
    found = rmse_difference(rows, ours, theirs, few)
    rmse = [np.sqrt(np.mean((one - actual) ** 2)) for one in (ours, theirs)]
    assert found.estimate == pytest.approx(rmse[0] - rmse[1])
    assert found.low <= found.high
    turned = rmse_difference(rows, theirs, ours, few)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))
    same = rmse_difference(rows, ours, ours, few)
    assert (same.low, same.estimate, same.high) == (0, 0, 0)


@given(st.integers(0, 1000), st.floats(-1, 1))
def test_the_correlation_is_numpy_s(seed, share):
    rows, random = some_rows(seed, 20), np.random.default_rng(seed)
    predicted = share * rows["rating"].to_numpy() + random.normal(0, 1, len(rows))
    found = correlation(rows, predicted, GateSettings(resamples=200))
    assert found.estimate == pytest.approx(np.corrcoef(rows["rating"], predicted)[0, 1], abs=1e-6)
    assert -1 <= found.low <= found.high <= 1


def test_ratings_that_are_all_the_same_have_no_correlation():
    rows = some_rows(0).assign(rating=3.0)
    found = correlation(rows, np.linspace(1, 5, len(rows)), SETTINGS)
    assert np.isnan(found.estimate)


def test_resamples_that_tell_nothing_are_left_out():
    """Of four users, one has one rating over and over: some resamples have nobody else."""
    rows = pd.DataFrame({"user": [1, 1, 2, 2, 3, 3, 4, 4], "rating": [3, 3, 1, 5, 2, 4, 1, 4.0]})
    found = correlation(rows, 6 - rows["rating"].to_numpy(), SETTINGS)
    assert found.low <= found.estimate <= found.high < 0


def test_resamples_are_the_same_in_blocks_of_any_size(monkeypatch):
    of_users = np.random.default_rng(0).normal(size=30)
    whole = mean_interval(of_users, SETTINGS)
    monkeypatch.setattr(bootstrap, "NUMBERS_AT_ONCE", 70)
    assert mean_interval(of_users, SETTINGS) == whole


def test_one_user_alone_has_an_interval_of_no_width():
    found = mean_interval(np.array([0.3]), SETTINGS)
    assert (found.low, found.estimate, found.high) == (0.3, 0.3, 0.3)
