"""How well a method does on parts of the ratings that it has not seen, each rating once."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from cf_pipeline.recommender import metrics
from cf_pipeline.recommender.features import SideFeatures
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.splits import FOLDS, Mask, official_fold
from cf_pipeline.recommender.validation import RATING_SCALE
from cf_pipeline.recommender.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    import torch

    from cf_pipeline.recommender.fits import Fit

    Ratings: TypeAlias = metrics.Ratings
    FitMethod: TypeAlias = Callable[[EncodedRatings, SideFeatures], Fit]
    Predict: TypeAlias = Callable[[pd.DataFrame, pd.DataFrame], Ratings]


@dataclass(frozen=True)
class Score:
    """The errors on a fold's test part, in stars, and the wall time of the fit in seconds."""

    rmse: float
    mae: float
    seconds: float

    def __str__(self) -> str:
        return f"RMSE {self.rmse:.4f}, MAE {self.mae:.4f}, {self.seconds:.2f} s"


@dataclass(frozen=True)
class Standing:
    """A method's mean scores over folds, and their standard deviations (of a sample)."""

    method: str
    rmse: float
    rmse_sd: float
    mae: float
    mae_sd: float
    seconds: float
    seconds_sd: float

    @classmethod
    def of(cls, method: str, scores: list[Score]) -> Standing:
        """Return the standing of a method with these scores, two at least."""
        table = np.array([(score.rmse, score.mae, score.seconds) for score in scores])
        mean, sd = table.mean(axis=0).tolist(), table.std(axis=0, ddof=1).tolist()
        return cls(method, mean[0], sd[0], mean[1], sd[1], mean[2], sd[2])


def folds(
    ratings: pd.DataFrame, kind: Literal["official", "random"], n_folds: int, seed: int
) -> dict[str, Mask]:
    """Return each fold's name and its test part, a mask (n_ratings,).

    'official' are the five of MovieLens 100k, u1 … u5; 'random' parts the ratings in `n_folds`.
    """
    if kind == "official":
        return {fold: official_fold(ratings, fold) for fold in FOLDS[:5]}
    fold_of = np.random.default_rng(seed).permutation(len(ratings)) % n_folds
    return {f"random{k + 1}": fold_of == k for k in range(n_folds)}


def score_fit(
    fit: FitMethod,
    ratings: pd.DataFrame,
    in_test: Mask,
    users: pd.DataFrame,
    movies: pd.DataFrame,
    device: torch.device,
) -> Score:
    """Fit a model to the ratings but those `in_test`, and judge it on these.

    `users` and `movies` are the side tables.
    """
    train, test = ratings[~in_test], ratings[in_test]
    known = Vocabulary.of(train["user"]), Vocabulary.of(train["movie"])
    encoded = EncodedRatings.of(train, *known, device)
    start = time.perf_counter()
    side = SideFeatures.of(users, movies, *known, device)
    model = fit(encoded, side).model
    seconds = time.perf_counter() - start
    model.vocabularies = known
    return _score(test, model.predict(test["user"], test["movie"]), seconds)


def score_baseline(predict: Predict, ratings: pd.DataFrame, in_test: Mask) -> Score:
    """Judge a baseline of `metrics.BASELINES` on the ratings `in_test`, given the others."""
    train, test = ratings[~in_test], ratings[in_test]
    start = time.perf_counter()
    predicted = predict(train, test)
    return _score(test, predicted, time.perf_counter() - start)


def _score(test: pd.DataFrame, predicted: Ratings, seconds: float) -> Score:
    actual, clamped = test["rating"].to_numpy(), np.clip(predicted, *RATING_SCALE)
    return Score(metrics.rmse(actual, clamped), metrics.mae(actual, clamped), seconds)
