"""How well lists find the ratings of a fold's test part, which they have not seen."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import torch

from cf_pipeline.recommender import distillation, list_quality, ranking_fit
from cf_pipeline.recommender.cross_validation import encode_parts
from cf_pipeline.recommender.features import SideFeatures
from cf_pipeline.recommender.settings import VALIDATION_FRACTION

if TYPE_CHECKING:
    import pandas as pd

    from cf_pipeline.recommender.cross_validation import Score
    from cf_pipeline.recommender.list_quality import Judged
    from cf_pipeline.recommender.settings import GibbsSettings, RankingSettings
    from cf_pipeline.recommender.splits import Mask

VALIDATION_SEED = 0


def score_ranking_model(
    settings: RankingSettings,
    rating_settings: GibbsSettings,
    ratings: pd.DataFrame,
    in_test: Mask,
    users: pd.DataFrame,
    movies: pd.DataFrame,
    device: torch.device,
) -> Score:
    """Fit a ranking model to the ratings but those `in_test`, and judge its lists by these.

    `users` and `movies` are the side tables. The seconds are those of all that the ranking model
    takes, its factor models included.
    """
    train, test, known = encode_parts(ratings, in_test, device)
    start = time.perf_counter()
    side = SideFeatures.of(users, movies, *known, device)
    rest, validation = train.carve(VALIDATION_FRACTION, VALIDATION_SEED)
    rating, rating_of_rest = (
        distillation.fit(part, side, rating_settings).model for part in (train, rest)
    )
    model = ranking_fit.fit(train, side, rating, settings, rest, validation, rating_of_rest).model
    seconds = time.perf_counter() - start
    return _score(list_quality.judge(model.users, model.items, train, test), seconds)


def score_popularity(ratings: pd.DataFrame, in_test: Mask) -> Score:
    """Judge lists of the movies with the most ratings by those `in_test`, given the others."""
    train, test, known = encode_parts(ratings, in_test)
    start = time.perf_counter()
    counts = torch.bincount(train.items, minlength=len(known[1])).float().unsqueeze(1)
    seconds = time.perf_counter() - start
    return _score(list_quality.judge(torch.ones(len(known[0]), 1), counts, train, test), seconds)


def _score(judged: Judged, seconds: float) -> Score:
    """Return the figures that could be had: where no list can be judged, the seconds alone."""
    figures: dict[str, float] = {}
    if judged.liked:
        figures["ndcg_at_10_liked"] = judged.liked.ndcg_at_10
    if judged.all:
        figures |= asdict(judged.all)
        del figures["n_users"]
    return {**figures, "seconds": seconds}
