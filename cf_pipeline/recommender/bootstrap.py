"""Confidence intervals of errors and of their differences, by a bootstrap over users.

Whole users are drawn again with replacement, because the ratings of one are not independent (Efron
& Tibshirani 1993, "An Introduction to the Bootstrap", chapters 8 and 13). The weight of a user in a
resample is Poisson(1) (Chamandy et al. 2012, "Estimating Uncertainty for Massive Data Streams").
Two predictions of the same ratings are compared in the same resamples: in pairs.

Limits are percentiles of the resamples at 1 - confidence and at confidence: each is one-sided.
Everywhere `rows` are ratings (columns user, rating), and predictions (n_rows,) are on
their scale.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

if TYPE_CHECKING:
    from cf_pipeline.recommender.settings import GateSettings

NUMBERS_AT_ONCE = 1 << 22  # weights of a block of resamples

Numbers: TypeAlias = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Interval:
    """An `estimate`, and the limits that it is surely above and surely below, each by itself."""

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.estimate:+.4f} ({self.low:+.4f} to {self.high:+.4f})"


def correlation(rows: pd.DataFrame, predicted: Numbers, settings: GateSettings) -> Interval:
    """Return Pearson's correlation of ratings and predictions, with its limits; NaN for none."""
    x, y = (
        column - column.mean() for column in (rows["rating"].to_numpy(), predicted.astype(float))
    )

    def pearson(of: Numbers) -> Numbers:
        x, y, xx, yy, xy = np.moveaxis(of[..., :5] / of[..., 5:], -1, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            found: Numbers = (xy - x * y) / np.sqrt((xx - x * x) * (yy - y * y))
        return found

    return _bootstrap(_sums_of_users(rows, x, y, x * x, y * y, x * y), pearson, settings)


def rmse_difference(
    rows: pd.DataFrame, ours: Numbers, theirs: Numbers, settings: GateSettings
) -> Interval:
    """Return RMSE(ours) - RMSE(theirs), with its limits."""
    sums = _sums_of_users(rows, _squared_errors(rows, ours), _squared_errors(rows, theirs))

    def difference(of: Numbers) -> Numbers:
        rmse = np.sqrt(of[..., :2] / of[..., 2:])
        gap: Numbers = rmse[..., 0] - rmse[..., 1]
        return gap

    return _bootstrap(sums, difference, settings)


def mean_interval(of_users: Numbers, settings: GateSettings) -> Interval:
    """Return the mean over users of a number that each one has (n_users,), with its limits."""
    sums = np.stack([of_users.astype(np.float64), np.ones(len(of_users))], axis=1)
    return _bootstrap(sums, lambda of: of[..., 0] / of[..., 1], settings)


def _bootstrap(
    sums: Numbers, statistic: Callable[[Numbers], Numbers], settings: GateSettings
) -> Interval:
    """Return a statistic of the sums over users of columns (n_users, n_columns), with its limits.

    The statistic takes sums (…, n_columns), and returns a number for each resample (…).
    """
    random = np.random.default_rng(settings.seed)
    at_once = max(1, NUMBERS_AT_ONCE // len(sums))
    drawn = []
    for start in range(0, settings.resamples, at_once):
        n = min(at_once, settings.resamples - start)
        weights = random.poisson(1.0, (n, len(sums))).astype(np.float64)
        weights[weights.sum(axis=1) == 0] = 1  # nobody was drawn, of very few
        drawn.append(statistic(weights @ sums))
    told = np.concatenate(drawn)
    told = told[~np.isnan(told)]  # a resample of few users may tell nothing
    ends = [1 - settings.confidence, settings.confidence]
    low, high = np.quantile(told, ends) if len(told) else (np.nan, np.nan)
    return Interval(float(statistic(sums.sum(axis=0))), float(low), float(high))


def _sums_of_users(rows: pd.DataFrame, *columns: Numbers) -> Numbers:
    """Return each user's sums of the columns, and the number of their rows, (n_users, n + 1)."""
    codes, users = pd.factorize(rows["user"], sort=True)
    sums = [np.bincount(codes, column, len(users)) for column in (*columns, np.ones(len(rows)))]
    return np.stack(sums, axis=1)


def _squared_errors(rows: pd.DataFrame, predicted: Numbers) -> Numbers:
    errors: Numbers = (rows["rating"].to_numpy(np.float64) - predicted) ** 2
    return errors
