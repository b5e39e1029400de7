"""How far predicted ratings are from the actual ones, and how far simple predictors are.

Everywhere `train` and `test` are the encoded ratings of both parts, on the CPU, and errors are on
the ratings' own scale. The vocabularies are those of the training part: index 0 is what has no
training rating.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

    from cf_pipeline.recommender.minibatches import EncodedRatings

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
    """The errors of `count` predictions; None where there is none to judge by."""

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


def global_mean(train: EncodedRatings, test: EncodedRatings) -> Ratings:
    """Predict the mean training rating, float64 (n_test,)."""
    return np.full(len(test.ratings), _mean(train))


def user_mean(train: EncodedRatings, test: EncodedRatings) -> Ratings:
    """Predict the user's mean training rating, the global mean if cold; float64 (n_test,)."""
    return _mean_of(train.users, test.users, train)


def movie_mean(train: EncodedRatings, test: EncodedRatings) -> Ratings:
    """Predict the movie's mean training rating, the global mean if cold; float64 (n_test,)."""
    return _mean_of(train.items, test.items, train)


def regularised_bias(train: EncodedRatings, test: EncodedRatings) -> Ratings:
    """Predict μ + b_u + c_i, the global mean and the biases of user and movie; float64 (n_test,).

    The biases minimise Σ (r - μ - b_u - c_i)² + RIDGE (Σ b_u² + Σ c_i²) (Koren 2010, "Factor in the
    Neighbors", baseline estimates), each side in turn in closed form; a cold bias is 0.
    """
    # Else bincount would make them anew at each call.
    user, movie = (column.numpy().astype(np.intp) for column in (train.users, train.items))
    of_user, of_movie = test.users.numpy(), test.items.numpy()
    n_users, n_movies = _length(user, of_user), _length(movie, of_movie)
    mean = _mean(train)
    centred = train.ratings.numpy().astype(np.float64) - mean
    per_user = np.bincount(user, minlength=n_users) + RIDGE
    per_movie = np.bincount(movie, minlength=n_movies) + RIDGE
    user_bias = np.zeros(n_users)
    for _ in range(BIAS_SWEEPS):
        movie_bias = np.bincount(movie, centred - user_bias[user], n_movies) / per_movie
        user_bias = np.bincount(user, centred - movie_bias[movie], n_users) / per_user
    predicted: Ratings = mean + user_bias[of_user] + movie_bias[of_movie]
    return predicted


BASELINES: Mapping[str, Callable[[EncodedRatings, EncodedRatings], Ratings]] = {
    "global_mean": global_mean,
    "user_mean": user_mean,
    "movie_mean": movie_mean,
    "regularised_bias": regularised_bias,
}


def training_ratings(train: Tensor, test: Tensor) -> npt.NDArray[np.integer]:
    """Return how often each of the `test` indices (n_test,) is in `train` (n_train,), (n_test,).

    Both are the users of the parts, or the items of both.
    """
    trained, tested = train.numpy(), test.numpy()
    counts = np.bincount(trained, minlength=_length(trained, tested))
    counts[0] = 0  # the unknown is nobody
    found: npt.NDArray[np.integer] = counts[tested]
    return found


def evaluate(
    train: EncodedRatings,
    test: EncodedRatings,
    predictions: Ratings,
    rating_scale: tuple[float, float],
) -> EvaluationReport:
    """Judge predictions (n_test,) of the test ratings, and the baselines beside them.

    All are clamped to `rating_scale` (lowest, highest) first: nobody can rate outside it.

    Raises:
        ValueError: there is no test rating, or not one finite prediction for each.
    """
    actual = test.ratings.numpy().astype(np.float64)
    _differences(actual, predictions)  # to refuse an infinite one before it is clamped
    predicted = np.clip(predictions, *rating_scale)
    of_user = training_ratings(train.users, test.users)
    of_movie = training_ratings(train.items, test.items)
    warm = (of_user > 0) & (of_movie > 0)
    return EvaluationReport(
        n_test=len(actual),
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


def _mean(train: EncodedRatings) -> float:
    return float(train.ratings.numpy().mean(dtype=np.float64))


def _mean_of(trained: Tensor, tested: Tensor, train: EncodedRatings) -> Ratings:
    """Return the mean rating of each of the indices `tested` (n_test,) by those of `train`."""
    index, of_test = trained.numpy(), tested.numpy()
    n = _length(index, of_test)
    counts = np.bincount(index, minlength=n)
    sums = np.bincount(index, train.ratings.numpy(), n)
    known = counts > 0
    known[0] = False
    means = np.full(n, _mean(train))
    means[known] = sums[known] / counts[known]
    predicted: Ratings = means[of_test]
    return predicted


def _length(*indices: npt.NDArray[np.integer]) -> int:
    """Return the length of a table that all indices point into."""
    return 1 + max(int(index.max(initial=0)) for index in indices)
