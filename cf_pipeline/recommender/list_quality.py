"""How well lists find what users went on to rate: everybody's list, judged by tasks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch

from cf_pipeline.recommender import ranking_metrics
from cf_pipeline.recommender.executors import LOCAL, Part
from cf_pipeline.recommender.rating_scale import RatingScale
from cf_pipeline.recommender.top_items import Seen, top_items

if TYPE_CHECKING:
    from torch import Tensor

    from cf_pipeline.recommender.executors import Executor
    from cf_pipeline.recommender.minibatches import EncodedRatings

LISTED_BY_A_TASK = 4096  # users


class Judged(NamedTuple):
    """How lists did, counting `all` held-out ratings, and those that were `liked`.

    None where no such rating is of a user and an item that are known. Where all ratings of the
    training part are alike, none tells what was liked.
    """

    all: ranking_metrics.RankingReport | None
    liked: ranking_metrics.RankingReport | None


def judge(
    users: Tensor,
    items: Tensor,
    train: EncodedRatings,
    test: EncodedRatings,
    executor: Executor = LOCAL,
) -> Judged:
    """Judge the lists of the items of the greatest products `users` (n_users, d) · `items`.

    `items` are (n_items, d). Candidates are the items of `train`, which may be fewer, but for what
    the user rated there.
    """
    lists, counts = _lists(users, items, train, test, executor)
    scale = RatingScale.of(train.ratings)
    reports = []
    for at_least in (-math.inf, math.inf if scale.is_constant else scale.liked):
        relevant = ranking_metrics.relevant(test, at_least)
        known = bool((relevant[1] > 0).any())
        reports.append(
            ranking_metrics.evaluate(lists, *relevant, counts, len(users) - 1) if known else None
        )
    return Judged(*reports)


def ndcg_by_user(
    users: Tensor, items: Tensor, train: EncodedRatings, test: EncodedRatings
) -> tuple[Tensor, Tensor]:
    """Return who is judged, int64 (n,), and the NDCG@10 of each one's list, float32 (n,).

    Arguments and protocol are those of `judge`, counting all held-out ratings.
    """
    lists, counts = _lists(users, items, train, test, LOCAL)
    relevant = ranking_metrics.relevant(test, -math.inf)
    return ranking_metrics.ndcg_by_user(lists, *relevant, len(counts))


def _lists(
    users: Tensor, items: Tensor, train: EncodedRatings, test: EncodedRatings, executor: Executor
) -> tuple[Tensor, Tensor]:
    """Return the list of each user that is judged, and each item's number of training ratings."""
    counts = torch.bincount(train.items, minlength=len(items))
    candidates = counts > 0
    candidates[0] = True  # never listed, but index 0 as it is among all
    place = candidates.cumsum(0) - 1
    seen = Seen.of(train.users, place[train.items], len(users))
    judged = test.users.unique().long()  # nobody else's list is looked at
    parts = [
        Part(f"Lists of users from {number * LISTED_BY_A_TASK:,} on", len(some), of)
        for number, some in enumerate(judged.split(LISTED_BY_A_TASK))
        if (of := (users[some], seen.take(some)))
    ]
    index = candidates.nonzero().squeeze(1)
    best = torch.cat(list(executor.map(best_items, parts, items[candidates])))
    lists = torch.zeros(len(users), best.shape[1], dtype=torch.long, device=counts.device)
    lists[judged] = index[best]
    return lists, counts


def best_items(users: Tensor, seen: Seen, items: Tensor) -> Tensor:
    """Return the lists of some users as places in `items`, (n, ranking_metrics.DEPTH)."""
    return top_items(users, items, seen, ranking_metrics.DEPTH).items
