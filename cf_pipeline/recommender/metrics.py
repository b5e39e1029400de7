"""How far predicted ratings are from the actual ones, and how far simple predictors are.

Everywhere `train` and `test` are ratings (columns user, movie, rating), and errors are in stars.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from cf_pipeline.recommender.vocabulary import Vocabulary

Ratings: TypeAlias = npt.NDArray[np.floating]

RIDGE = 3.0  # the best of 1 … 10 on ten random fifths of u1's training part
BIAS_SWEEPS = 50  # ten times as many change the RMSE by 1e-5

# Groups of users or movies by their number of training ratings: each one's name and lowest number.
ACTIVITY_GROUPS: Mapping[str, int] = {
    "0": 0,
    "1-4": 1,
    "5-9": 5,
    "10-19": 10,
    "20-49": 20,
    "50-99": 50,
    "100-199": 100,
    "200+": 200,
}


@dataclass(frozen=True)
class Errors:
    """The errors of `count` predictions, in stars; None where there is none to judge by."""

    count: int
    rmse: float | None
    mae: float | None


@dataclass(frozen=True)
class EvaluationReport:
    """Errors on a test part; `dataclasses.asdict` makes JSON of it.

    `cold` are the test ratings whose user or movie has no training rating, `warm` all others.
    `baselines` maps each name in BASELINES to its errors on the whole test part. The last two map
    each name in ACTIVITY_GROUPS to the errors on its users' or movies' test ratings.
    """

    n_test: int
    rmse: float
    mae: float
    warm: Errors
    cold: Errors
    baselines: Mapping[str, Errors]
    by_user_training_ratings: Mapping[str, Errors]
    by_movie_training_ratings: Mapping[str, Errors]


def rmse(actual: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Return the root mean squared error √(Σ (predicted - actual)² / n) of two arrays (n,).

    Raises:
        ValueError: the arrays differ in shape, are empty, or hold NaN or infinity.
    """
    return float(np.sqrt(np.mean(_differences(actual, predicted) ** 2)))


def mae(actual: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Return the mean absolute error Σ |predicted - actual| / n of two arrays (n,).

    Raises:
        ValueError: the arrays differ in shape, are empty, or hold NaN or infinity.
    """
    return float(np.mean(np.abs(_differences(actual, predicted))))


def global_mean(train: pd.DataFrame, test: pd.DataFrame) -> Ratings:
    """Predict the mean training rating, float64 (n_test,)."""
    return np.full(len(test), train["rating"].to_numpy(np.float64).mean())


def user_mean(train: pd.DataFrame, test: pd.DataFrame) -> Ratings:
    """Predict the user's mean training rating, the global mean if cold; float64 (n_test,)."""
    return _mean_of("user", train, test)


def movie_mean(train: pd.DataFrame, test: pd.DataFrame) -> Ratings:
    """Predict the movie's mean training rating, the global mean if cold; float64 (n_test,)."""
    return _mean_of("movie", train, test)


def regularised_bias(train: pd.DataFrame, test: pd.DataFrame) -> Ratings:
    """Predict μ + b_u + c_i, the global mean and the biases of user and movie; float64 (n_test,).

    The biases minimise Σ (r - μ - b_u - c_i)² + RIDGE (Σ b_u² + Σ c_i²) (Koren 2010, "Factor in the
    Neighbors", baseline estimates), each side in turn in closed form; a cold bias is 0.
    """
    users, movies = Vocabulary.of(train["user"]), Vocabulary.of(train["movie"])
    user, movie = users.encode(train["user"]), movies.encode(train["movie"])
    rating = train["rating"].to_numpy(np.float64)
    centred = rating - rating.mean()
    per_user = np.bincount(user, minlength=len(users)) + RIDGE
    per_movie = np.bincount(movie, minlength=len(movies)) + RIDGE
    user_bias = np.zeros(len(users))
    for _ in range(BIAS_SWEEPS):
        movie_bias = np.bincount(movie, centred - user_bias[user], len(movies)) / per_movie
        user_bias = np.bincount(user, centred - movie_bias[movie], len(users)) / per_user
    of_user, of_movie = users.encode(test["user"]), movies.encode(test["movie"])
    predicted: Ratings = rating.mean() + user_bias[of_user] + movie_bias[of_movie]
    return predicted


BASELINES: Mapping[str, Callable[[pd.DataFrame, pd.DataFrame], Ratings]] = {
    "global_mean": global_mean,
    "user_mean": user_mean,
    "movie_mean": movie_mean,
    "regularised_bias": regularised_bias,
}


def training_ratings(
    train: pd.DataFrame, test: pd.DataFrame, column: str
) -> npt.NDArray[np.integer]:
    """Return how often each test rating's user or movie (`column`) is in `train`, (n_test,)."""
    return train[column].value_counts().reindex(test[column], fill_value=0).to_numpy(np.int64)


def evaluate(
    train: pd.DataFrame,
    test: pd.DataFrame,
    predictions: Ratings,
    rating_scale: tuple[float, float],
) -> EvaluationReport:
    """Judge predictions (n_test,) of the test ratings, and the baselines beside them.

    All are clamped to `rating_scale` (lowest, highest) first: nobody can rate outside it.

    Raises:
        ValueError: there is no test rating, or not one finite prediction for each.
    """
    actual = test["rating"].to_numpy(np.float64)
    _differences(actual, predictions)  # to refuse an infinite one before it is clamped
    predicted = np.clip(predictions, *rating_scale)
    of_user = training_ratings(train, test, "user")
    of_movie = training_ratings(train, test, "movie")
    warm = (of_user > 0) & (of_movie > 0)
    return EvaluationReport(
        n_test=len(test),
        rmse=rmse(actual, predicted),
        mae=mae(actual, predicted),
        warm=errors_of(actual[warm], predicted[warm]),
        cold=errors_of(actual[~warm], predicted[~warm]),
        baselines={
            name: errors_of(actual, np.clip(predict(train, test), *rating_scale))
            for name, predict in BASELINES.items()
        },
        by_user_training_ratings=_errors_by_activity(actual, predicted, of_user),
        by_movie_training_ratings=_errors_by_activity(actual, predicted, of_movie),
    )


def _differences(actual: npt.ArrayLike, predicted: npt.ArrayLike) -> Ratings:
    a, p = np.asarray(actual, np.float64), np.asarray(predicted, np.float64)
    if a.shape != p.shape:
        raise ValueError(
            f"There are ratings of shape {a.shape} and predictions of shape {p.shape}: "
            "predict each rating once, in the ratings' order."
        )
    if a.size == 0:
        raise ValueError("There are 0 ratings to judge by: choose a split that has a test part.")
    difference = p - a
    faults = np.flatnonzero(~np.isfinite(difference))
    if faults.size:
        at = faults[0]
        raise ValueError(
            f"{faults.size} rows are not finite, first row {at} with rating {a.flat[at]} and "
            f"prediction {p.flat[at]}: a model that predicts such has diverged, lower its learning "
            "rate; a rating that is null must be left out."
        )
    return difference


def errors_of(actual: Ratings, predicted: Ratings) -> Errors:
    """Return the errors of predictions (n,), of which there may be none."""
    if actual.size == 0:
        return Errors(0, None, None)
    return Errors(actual.size, rmse(actual, predicted), mae(actual, predicted))


def _errors_by_activity(
    actual: Ratings,
    predicted: Ratings,
    n_training: npt.NDArray[np.integer],
) -> dict[str, Errors]:
    group = np.searchsorted(list(ACTIVITY_GROUPS.values()), n_training, side="right") - 1
    return {
        name: errors_of(actual[group == index], predicted[group == index])
        for index, name in enumerate(ACTIVITY_GROUPS)
    }


def _mean_of(column: str, train: pd.DataFrame, test: pd.DataFrame) -> Ratings:
    rating = train["rating"].astype(np.float64)
    means = rating.groupby(train[column]).mean()
    return means.reindex(test[column]).fillna(rating.mean()).to_numpy()
