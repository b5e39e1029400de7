"""How well a method does on parts of the ratings that it has not seen, each rating once."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import torch

from cf_pipeline.recommender import metrics
from cf_pipeline.recommender.features import SideFeatures
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.rating_scale import RatingScale
from cf_pipeline.recommender.splits import FOLDS, Mask, official_fold
from cf_pipeline.recommender.vocabulary import Vocabulary

# A method's figures on a fold: errors and the like, and the `seconds` of its fit.
Score: TypeAlias = Mapping[str, float]

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from cf_pipeline.recommender.fits import Fit

    Ratings: TypeAlias = metrics.Ratings
    FitMethod: TypeAlias = Callable[[EncodedRatings, SideFeatures], Fit]
    Predict: TypeAlias = Callable[[EncodedRatings, EncodedRatings], Ratings]


def standing(method: str, scores: Sequence[Score]) -> dict[str, str | float]:
    """Return the means of the figures that a method has on every fold, of two folds at least.

    Beside each is its standard deviation (of a sample), as `<figure>_sd`.
    """
    found: dict[str, str | float] = {"method": method}
    for figure in [name for name in scores[0] if all(name in score for score in scores)]:
        values = [score[figure] for score in scores]
        found |= {figure: statistics.fmean(values), f"{figure}_sd": statistics.stdev(values)}
    return found


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
    train, test, known = encode_parts(ratings, in_test, device)
    start = time.perf_counter()
    side = SideFeatures.of(users, movies, *known, device)
    model = fit(train, side).model
    seconds = time.perf_counter() - start
    predicted = model.predict_indices(test.users, test.items).cpu().numpy()
    return _score(train, test, predicted, seconds)


def score_baseline(predict: Predict, ratings: pd.DataFrame, in_test: Mask) -> Score:
    """Judge a baseline of `metrics.BASELINES` on the ratings `in_test`, given the others."""
    train, test, _ = encode_parts(ratings, in_test)
    start = time.perf_counter()
    predicted = predict(train, test)
    return _score(train, test, predicted, time.perf_counter() - start)


def encode_parts(
    ratings: pd.DataFrame, in_test: Mask, device: str | torch.device = "cpu"
) -> tuple[EncodedRatings, EncodedRatings, tuple[Vocabulary, Vocabulary]]:
    """Return the ratings but those `in_test`, these, and the vocabularies of the former."""
    known = Vocabulary.of(ratings["user"][~in_test]), Vocabulary.of(ratings["movie"][~in_test])
    encoded = EncodedRatings.of(ratings, *known, device)
    mask = torch.tensor(in_test, device=device)
    return encoded.take(~mask), encoded.take(mask), known


def _score(
    train: EncodedRatings, test: EncodedRatings, predicted: Ratings, seconds: float
) -> Score:
    scale = RatingScale.of(train.ratings)
    actual, clamped = test.ratings.cpu().numpy(), np.clip(predicted, *scale)
    return {
        "rmse": metrics.rmse(actual, clamped),
        "mae": metrics.mae(actual, clamped),
        "seconds": seconds,
    }
