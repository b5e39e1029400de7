"""The levels of ratings that a predictive distribution gives probabilities of."""

from __future__ import annotations

import torch
from torch import Tensor

from cf_pipeline.recommender.rating_scale import MOST_LEVELS

RATINGS_AT_ONCE = 1 << 20  # that are sorted


def levels_of(ratings: Tensor, ordinal: bool = False) -> Tensor:
    """Return the distinct ratings, ascending, or MOST_LEVELS even steps where there are more.

    Raises:
        ValueError: there are more, and each must be a level of its own, as `ordinal` asks.
    """
    # By pieces: where ratings are of few levels, to sort all would take as much room again.
    levels: Tensor = torch.cat([piece.unique() for piece in ratings.split(RATINGS_AT_ONCE)])
    levels = levels.unique()
    if len(levels) <= MOST_LEVELS:
        return levels
    if ordinal:
        raise ValueError(
            f"There are {len(levels):,} different ratings, and the likelihood 'ordinal' takes "
            f"{MOST_LEVELS} levels at most: choose 'gaussian'."
        )
    low, high = levels[[0, -1]].tolist()
    return torch.linspace(low, high, MOST_LEVELS, device=levels.device)


def between(levels: Tensor) -> Tensor:
    """Return what parts levels (n_levels,) half way from each to the next, (n_levels - 1,)."""
    half_way: Tensor = (levels[1:] + levels[:-1]) / 2
    return half_way
