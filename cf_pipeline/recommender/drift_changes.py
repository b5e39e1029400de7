"""When a change between two sets of ratings is worth a warning: beyond a limit, and beyond chance.

People rate many movies in one sitting, so ratings are no independent sample, but people nearly are.
So standard errors are cluster-robust, with users as the clusters (Cameron & Miller 2015, "A
Practitioner's Guide to Cluster-Robust Inference", section II).

Ratings are frames with the columns user, movie, rating, timestamp.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from cf_pipeline.recommender.drift_limits import CLEAR, LEAST_USERS, LIMITS
from cf_pipeline.recommender.rating_scale import nearest_levels

Numbers: TypeAlias = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Change:
    """How something was before and is now; `warns` if the change is beyond its limit and chance.

    What `size` is, and `noise`, which chance alone would make of it, depends on the name in LIMITS:

    - ratings_per_day: how often that doubled or halved, |log2(now / before)|; its standard error.
    - stars: the total variation distance of the distributions of ratings, ½ Σ |p - q|: the share of
      ratings that would need other stars to make them equal (Levin & Peres 2017, section 4.1); what
      to expect of it if only the standard errors of the shares part them. Unlike the population
      stability index it is finite where a rating is never given. Where more than MOST_LEVELS
      different ratings are given, each counts as the nearest of so many even steps.
    - the others: now - before; its standard error.

    None is what cannot be told. `users` is the number of people on the side that has fewer: with
    fewer than LEAST_USERS nothing warns.
    """

    before: float | None
    now: float | None
    size: float | None
    noise: float | None
    limit: float
    users: int
    warns: bool


def change_of(
    name: str, before: float, now: float, size: float, noise: float, users: int, unit: float = 1.0
) -> Change:
    """Return the change by this name in LIMITS, its limit times `unit`; NaN cannot be told."""
    limit = LIMITS[name] * unit
    return Change(
        before=told(before),
        now=told(now),
        size=told(size),
        noise=told(noise),
        limit=limit,
        users=users,
        warns=bool(users >= LEAST_USERS and size > max(limit, CLEAR * noise)),  # never of a NaN
    )


def change_of_pace(older: pd.DataFrame, recent: pd.DataFrame, new: pd.DataFrame) -> Change:
    """Compare how many ratings a day came since the last of `recent` with how many these were.

    All are in the order of time. New ratings from before the last of `recent` came late, and do not
    count.
    """
    if recent.empty:  # of ratings without timestamps
        return change_of("ratings_per_day", np.nan, np.nan, np.nan, np.nan, 0)
    last = recent["timestamp"].iloc[-1]
    later = new[new["timestamp"] > last]
    before, now = _per_day(recent, older["timestamp"].iloc[-1]), _per_day(later, last)
    noise = np.hypot(_relative_error_of_count(recent), _relative_error_of_count(later))
    doublings = abs(np.log2(now / before))
    users = fewest_users(recent, later)
    return change_of("ratings_per_day", before, now, doublings, float(noise / np.log(2)), users)


def change_of_stars(
    before: pd.DataFrame, now: pd.DataFrame
) -> tuple[list[dict[str, float]], Change]:
    """Return rows `rating`, `before`, `now`, the shares of each, and how far these are apart."""
    both = np.concatenate([before["rating"].to_numpy(), now["rating"].to_numpy()])
    levels, place = nearest_levels(both)
    (shares, error), (shares_now, error_now) = (
        _shares_by_users(of, len(levels), ratings["user"])
        for of, ratings in zip(np.split(place, [len(before)]), (before, now), strict=True)
    )
    rows = np.column_stack([levels, shares, shares_now]).astype(float).tolist()
    distance = float(np.abs(shares_now - shares).sum() / 2)
    # The mean of |normal| is √(2 / π) times its standard deviation.
    noise = float(np.sqrt(2 / np.pi) * np.hypot(error, error_now).sum() / 2)
    users = fewest_users(before, now)
    return (
        [dict(zip(("rating", "before", "now"), row, strict=True)) for row in rows],
        change_of("stars", np.nan, np.nan, distance, noise, users),
    )


def mean_by_users(
    values: Numbers | npt.NDArray[np.bool_], users: pd.Series[int]
) -> tuple[float, float]:
    """Return the mean of values (n,) over n ratings, and its standard error by users (n,).

    The error is √(G / (G - 1) Σ_g (Σ_i∈g (x_i - mean))²) / n with G users, and NaN of one. Of no
    ratings both are NaN.
    """
    if len(values) == 0:
        return np.nan, np.nan
    mean = float(values.mean())
    group, known = pd.factorize(users)
    return mean, float(_standard_error(np.bincount(group, values - mean, len(known)), len(values)))


def _shares_by_users(
    place: npt.NDArray[np.integer], n_levels: int, users: pd.Series[int]
) -> tuple[Numbers, Numbers]:
    """Return the share of each level, (n_levels,), and its standard error as of `mean_by_users`.

    `place` (n,) is the level of each rating.
    """
    group, known = pd.factorize(users)
    counts = np.bincount(group * n_levels + place, minlength=len(known) * n_levels)
    counts = counts.reshape(len(known), n_levels)
    shares = counts.sum(axis=0) / len(place)
    sums: Numbers = counts - counts.sum(axis=1, keepdims=True) * shares
    return shares, _standard_error(sums, len(place))


def _standard_error(sums: Numbers | npt.NDArray[np.integer], n: int) -> Numbers:
    """Return the error of a mean over n ratings from users' sums of deviations (n_users, …)."""
    scale = len(sums) / (len(sums) - 1) if len(sums) > 1 else np.nan
    return np.asarray(np.sqrt(scale * (sums**2).sum(axis=0)) / n)


def fewest_users(*sides: pd.DataFrame) -> int:
    """Return how many people gave the ratings of the side that has fewer."""
    return min(ratings["user"].nunique() for ratings in sides)


def told(value: float) -> float | None:
    """Return the value, None for NaN, which JSON does not have."""
    return None if np.isnan(value) else float(value)


def _per_day(ratings: pd.DataFrame, since: pd.Timestamp) -> float:
    days = (ratings["timestamp"].max() - since) / pd.Timedelta(days=1)  # NaN of no ratings
    return len(ratings) / days if days > 0 else np.nan


def _relative_error_of_count(ratings: pd.DataFrame) -> float:
    """Return √(Σ n_u²) / Σ n_u: people come by chance, each with n_u ratings (compound Poisson)."""
    of_user = ratings["user"].value_counts().to_numpy(np.float64)
    return float(np.linalg.norm(of_user) / of_user.sum()) if len(of_user) else np.nan
