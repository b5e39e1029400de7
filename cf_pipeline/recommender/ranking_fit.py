"""Fitting the model that lists are made with, and finding how much the predicted rating counts."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch

from cf_pipeline.recommender import implicit_als
from cf_pipeline.recommender.executors import LOCAL
from cf_pipeline.recommender.list_quality import judge
from cf_pipeline.recommender.ranking_model import RankingModel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from cf_pipeline.recommender.executors import Executor
    from cf_pipeline.recommender.factor_model import FactorModel
    from cf_pipeline.recommender.features import SideFeatures
    from cf_pipeline.recommender.minibatches import EncodedRatings
    from cf_pipeline.recommender.settings import RankingSettings

WEIGHTS = tuple(step / 50 for step in range(13))  # 0 … 0.24
LEAST_STD = 1e-3  # of ratings about predictions, in quarters of the rating scale
USERS_TO_TUNE = 10_000


class Weighed(NamedTuple):
    """What lists with a `weight` came to on rows set aside: NDCG@10 of all, and of liked items."""

    weight: float
    ndcg_all: float
    ndcg_liked: float


@dataclass(frozen=True)
class RankingFit:
    """A fitted model, how its weight was found, and the wall time of its own fit in `seconds`.

    The time is that of the implicit factors, fitted to all ratings given.
    """

    model: RankingModel
    weights: Sequence[Weighed]
    seconds: float


@torch.no_grad()
def fit(
    train: EncodedRatings,
    side: SideFeatures,
    rating: FactorModel,
    settings: RankingSettings,
    rest: EncodedRatings,
    validation: EncodedRatings,
    rating_of_rest: FactorModel,
    log: Callable[[str], None] = lambda _: None,
    executor: Executor = LOCAL,
    folder: Path | None = None,
) -> RankingFit:
    """Fit to `train`, with `rating` as the model of ratings, and find the weight of it.

    The weight is chosen on `validation`, rows of `train`, with models fitted to the `rest` of it:
    `rating_of_rest`, which has not seen them, and implicit factors. It is the one of WEIGHTS whose
    lists have the greatest sum of NDCG@10 counting all items that were rated and counting those
    that were liked. Where all ratings are alike, it is 0.
    """
    log("Fitting without the rows set aside, to weigh the predicted rating.")
    of_rest = folder / "rest" if folder else None
    implicit = implicit_als.fit(rest, side, settings, log, executor, of_rest)
    predicted = rating_of_rest.predict_indices(validation.users, validation.items)
    rmse = (predicted - validation.ratings).square().mean().sqrt().item()
    rating_std = max(LEAST_STD * rating.rating_scale.star, rmse)
    unweighed = RankingModel(rating_of_rest, implicit, 0.0, rating_std, settings)
    tried = WEIGHTS[:1] if rating.rating_scale.is_constant else WEIGHTS
    weights = _weigh(unweighed, rest, validation, tried, executor)
    best = max(weights, key=lambda weighed: weighed.ndcg_all + weighed.ndcg_liked)
    log(f"Weight {best.weight:g}, NDCG@10 {best.ndcg_all:.4f}, of liked {best.ndcg_liked:.4f}.")
    start = time.perf_counter()
    of_whole = folder / "whole" if folder else None
    factors = implicit_als.fit(train, side, settings, log, executor, of_whole)
    seconds = time.perf_counter() - start
    return RankingFit(
        RankingModel(rating, factors, best.weight, rating_std, settings), weights, seconds
    )


def refit(
    model: RankingModel,
    ratings: EncodedRatings,
    side: SideFeatures,
    rating: FactorModel,
    executor: Executor = LOCAL,
) -> RankingModel:
    """Return a model with the settings and the weight of another one, fitted to other ratings.

    `rating` is the factor model that was fitted to them.
    """
    implicit = implicit_als.fit(ratings, side, model.settings, executor=executor)
    return replace(model, rating=rating, implicit=implicit)


def _weigh(
    model: RankingModel,
    rest: EncodedRatings,
    validation: EncodedRatings,
    weights: Sequence[float],
    executor: Executor,
) -> list[Weighed]:
    step = math.ceil(len(model.implicit.users) / USERS_TO_TUNE)
    some = validation.take(validation.users % step == 0)
    found = []
    for weight in weights:
        weighed = replace(model, weight=weight)
        judged = judge(weighed.users, weighed.items, rest, some, executor)
        found.append(Weighed(weight, *(report.ndcg_at_10 if report else 0.0 for report in judged)))
    return found
