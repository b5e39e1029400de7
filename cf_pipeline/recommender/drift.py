"""How ratings that came later differ from those that a model, the champion, has seen.

Ratings are frames with the columns user, movie, rating, timestamp; what the champion saw has `part`
too, 'train' or 'test'. A user or movie is unknown to it that has no rating in its training part.
A rating without a timestamp says nothing of what changed over time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cf_pipeline.recommender.drift_changes import (
    Change,
    change_of,
    change_of_pace,
    change_of_stars,
    fewest_users,
    mean_by_users,
    told,
)
from cf_pipeline.recommender.rating_scale import RatingScale
from cf_pipeline.recommender.row_differences import without

if TYPE_CHECKING:
    import numpy.typing as npt

    from cf_pipeline.recommender.drift_changes import Numbers


@dataclass(frozen=True)
class Unknown:
    """Shares of ratings whose user, movie, both, or either is unknown to the champion."""

    user: float
    movie: float
    both: float
    either: float


@dataclass(frozen=True)
class Errors:
    """The champion's errors on `count` ratings of `users` people; None if there are none.

    `standard_error` is that of the RMSE, None of fewer than two people.
    """

    count: int
    users: int
    rmse: float | None
    standard_error: float | None


@dataclass(frozen=True)
class Week:
    """The errors on the new ratings of the calendar week that begins on Monday `week`, UTC.

    `known` are those on pairs of a known user and a known movie.
    """

    week: str
    all: Errors
    known: Errors


@dataclass(frozen=True)
class DriftReport:
    """New ratings beside those the champion saw; `dataclasses.asdict` makes JSON of it.

    `new_users` and `new_movies` have no rating in either part. `recent_rows` are the champion's
    latest ratings, as many as are new, or half of its own, 0 where either have no timestamps;
    `unknown_before` is what share of them was unknown when they came. `stars` has rows `rating`,
    `before`, `now`, the shares of each rating. Errors on `known` are those on pairs of a known user
    and a known movie; `held_out` is the champion's test part. `changes` has a Change for each name
    in `drift_limits.LIMITS`.
    """

    new_rows: int
    new_users: int
    new_movies: int
    recent_rows: int
    unknown_now: Unknown
    unknown_before: Unknown | None
    unknown_in_test: Unknown
    stars: list[dict[str, float]]
    new: Errors
    new_known: Errors
    held_out: Errors
    held_out_known: Errors
    weeks: list[Week]
    changes: Mapping[str, Change]


def new_ratings(ratings: pd.DataFrame, seen: pd.DataFrame) -> pd.DataFrame:
    """Return the ratings that are not in `seen`; another rating of a pair, or time, is new."""
    columns = ["user", "movie", "rating", "timestamp"]
    return without(ratings, seen, columns).reset_index(drop=True)


def compare(
    seen: pd.DataFrame, new: pd.DataFrame, predicted_test: Numbers, predicted_new: Numbers
) -> DriftReport:
    """Compare new ratings with those the champion saw.

    Args:
        seen: the champion's ratings, with their part.
        new: those that came later; see `new_ratings`.
        predicted_test: what the champion predicts of its test part, (n_test,).
        predicted_new: what it predicts of the new ratings, (n_new,).

    Raises:
        ValueError: there are no new ratings, or the champion's lack a part.
    """
    train, test = seen[seen["part"] == "train"], seen[seen["part"] == "test"]
    if new.empty or train.empty or test.empty:
        raise ValueError(
            f"There are {len(new)} new ratings, and the champion saw {len(train)} in its training "
            f"part and {len(test)} in its test part: to compare them, give one of each at least."
        )
    by_time, new_by_time = (
        ratings.dropna(subset="timestamp").sort_values("timestamp", kind="stable")
        for ratings in (seen, new)
    )
    n_recent = min(len(new_by_time), len(by_time) // 2)
    n_older = len(by_time) - n_recent
    older, recent = by_time.iloc[:n_older], by_time.iloc[n_older:]
    scale = RatingScale.of(train["rating"])
    unknown_now, unknown_in_test = _unknown(new, train), _unknown(test, train)
    # As the champion would have found them, had it been fitted before they came.
    unknown_before = _unknown(recent, older[older["part"] == "train"])
    known, known_in_test = (~of.any(axis=1).to_numpy() for of in (unknown_now, unknown_in_test))
    squares = _squared_errors(new, predicted_new, scale)
    test_squares = _squared_errors(test, predicted_test, scale)
    new_known = _errors(squares[known], new[known])
    held_out_known = _errors(test_squares[known_in_test], test[known_in_test])
    stars, of_stars = change_of_stars(seen, new)
    arrived = (unknown_before, recent), (unknown_now, new)
    return DriftReport(
        new_rows=len(new),
        new_users=int((~pd.Series(new["user"].unique()).isin(seen["user"])).sum()),
        new_movies=int((~pd.Series(new["movie"].unique()).isin(seen["movie"])).sum()),
        recent_rows=n_recent,
        unknown_now=_shares(unknown_now),
        unknown_before=_shares(unknown_before) if n_recent else None,
        unknown_in_test=_shares(unknown_in_test),
        stars=stars,
        new=_errors(squares, new),
        new_known=new_known,
        held_out=_errors(test_squares, test),
        held_out_known=held_out_known,
        weeks=_weeks(squares, new, known),
        changes={
            "ratings_per_day": change_of_pace(older, recent, new_by_time),
            "stars": of_stars,
            "unknown_users": _change_of_unknown("user", *arrived),
            "unknown_movies": _change_of_unknown("movie", *arrived),
            "rmse_of_known": _change_of_rmse(held_out_known, new_known, scale),
        },
    )


def _unknown(ratings: pd.DataFrame, train: pd.DataFrame) -> pd.DataFrame:
    """Return booleans, columns user and movie: true where that has no rating in `train`."""
    return pd.DataFrame(
        {column: ~ratings[column].isin(train[column]) for column in ("user", "movie")}
    )


def _shares(unknown: pd.DataFrame) -> Unknown:
    return Unknown(
        user=float(unknown["user"].mean()),
        movie=float(unknown["movie"].mean()),
        both=float(unknown.all(axis=1).mean()),
        either=float(unknown.any(axis=1).mean()),
    )


def _squared_errors(ratings: pd.DataFrame, predicted: Numbers, scale: RatingScale) -> Numbers:
    """Return (predicted - actual)² (n,), what is predicted clamped to the `scale`."""
    clamped = np.clip(np.asarray(predicted, np.float64), *scale)
    squares: Numbers = (clamped - ratings["rating"].to_numpy(np.float64)) ** 2
    return squares


def _errors(squares: Numbers, ratings: pd.DataFrame) -> Errors:
    if ratings.empty:
        return Errors(0, 0, None, None)
    mean, error = (float(of) for of in mean_by_users(squares, ratings["user"]))
    rmse = mean**0.5
    of_rmse = error / (2 * rmse) if rmse else error  # d√m = dm / 2√m
    return Errors(len(ratings), ratings["user"].nunique(), rmse, told(of_rmse))


def _weeks(squares: Numbers, ratings: pd.DataFrame, known: npt.NDArray[np.bool_]) -> list[Week]:
    timed = ratings["timestamp"].notna().to_numpy()
    squares, ratings, known = squares[timed], ratings[timed], known[timed]
    day = ratings["timestamp"].dt.floor("D")
    week, mondays = pd.factorize(day - pd.to_timedelta(day.dt.day_of_week, unit="D"), sort=True)
    ends = np.bincount(week, minlength=len(mondays)).cumsum()
    of_weeks = np.split(np.argsort(week, kind="stable"), ends[:-1])

    def errors(rows: npt.NDArray[np.integer]) -> Errors:
        return _errors(squares[rows], ratings.iloc[rows])

    return [
        Week(f"{monday:%Y-%m-%d}", errors(rows), errors(rows[known[rows]]))
        for monday, rows in zip(mondays, of_weeks, strict=False)  # without ratings, a split is one
    ]


def _change_of_unknown(
    column: str,
    before: tuple[pd.DataFrame, pd.DataFrame],
    now: tuple[pd.DataFrame, pd.DataFrame],
) -> Change:
    """Compare the shares whose user or movie (`column`) is unknown: `_unknown`, and the ratings."""
    (share, error), (share_now, error_now) = (
        (float(of) for of in mean_by_users(unknown[column].to_numpy(), ratings["user"]))
        for unknown, ratings in (before, now)
    )
    noise, users = float(np.hypot(error, error_now)), fewest_users(before[1], now[1])
    return change_of(f"unknown_{column}s", share, share_now, share_now - share, noise, users)


def _change_of_rmse(before: Errors, now: Errors, scale: RatingScale) -> Change:
    (rmse, error), (rmse_now, error_now) = (
        (np.nan if of is None else of for of in (errors.rmse, errors.standard_error))
        for errors in (before, now)
    )
    noise, users = float(np.hypot(error, error_now)), min(before.users, now.users)
    size = rmse_now - rmse
    return change_of("rmse_of_known", rmse, rmse_now, size, noise, users, scale.star)
