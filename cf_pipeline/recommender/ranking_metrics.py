"""How well lists of recommendations find what people went on to rate, and what they are made of.

The protocol: every item of the training part that a user did not rate there is a candidate for
that user's list, with no sampling of candidates. A held-out rating is relevant, either every one or
those that say that something was liked, as the caller chooses (`relevant`). Accuracy is a mean over
users, each with the same weight, of those with at least one relevant item. The unknown count too:

- A user without training ratings has no list of their own and is left out everywhere.
- A held-out item without training ratings is in no list, but is relevant: it is missed, which
  lowers recall, average precision and, of a user with fewer than K relevant items, NDCG.

People see the first K items. Average precision and reciprocal rank are defined on whole rankings.
Here they look at the first DEPTH items: more than anybody looks through, few enough to keep for
every user, and a first hit further down would be worth less than 1 / DEPTH.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import pad

if TYPE_CHECKING:
    from torch import Tensor

    from cf_pipeline.recommender.minibatches import EncodedRatings

K = 10
DEPTH = 100


@dataclass(frozen=True)
class RankingReport:
    """How lists did on a test part; `dataclasses.asdict` makes JSON of it.

    `n_users` are the users judged. These are means over them, each from 0 to 1, best at 1:
    `ndcg_at_10`, with binary gains and the discount 1 / log2(rank + 1), as a share of that of an
    ideal list, the relevant items first (Järvelin and Kekäläinen 2002, "Cumulated gain-based
    evaluation of IR techniques"); `recall_at_10`, hits / relevant items; `precision_at_10`, hits /
    10, however short the list; `map_at_100`, Σ precision at each hit's rank / relevant items;
    `mrr_at_100`, 1 / rank of the first hit, or 0.

    The others are of the recommendations, the first ten items of each user judged. `coverage` is
    the share of the known items that is among them. `novelty` is their mean self-information
    -log2(training ratings of the item / training users), in bits (Zhou et al. 2010, "Solving the
    apparent diversity-accuracy dilemma of recommender systems"). `popularity_bias` is their mean
    number of training ratings over that of the known relevant items: above 1, they are more popular
    than what people choose. It is 1 + ΔGAP of Abdollahpouri et al. 2019, "The unfairness of
    popularity bias in recommendation", except that these compare with the users' profiles, which
    are training ratings, and weigh users alike, not ratings.
    """

    n_users: int
    ndcg_at_10: float
    recall_at_10: float
    precision_at_10: float
    map_at_100: float
    mrr_at_100: float
    coverage: float
    novelty: float
    popularity_bias: float


def relevant(test: EncodedRatings, at_least: float) -> tuple[Tensor, Tensor]:
    """Return users and items, int32 (n,), of the ratings by known users that are `at_least` that.

    With the lowest rating there is, every one is relevant.
    """
    kept = test.take((test.users > 0) & (test.ratings >= at_least))
    return kept.users, kept.items


def evaluate(
    lists: Tensor,
    relevant_users: Tensor,
    relevant_items: Tensor,
    item_counts: Tensor,
    n_training_users: int,
) -> RankingReport:
    """Judge lists of recommendations by the relevant held-out ratings, all on one device.

    Args:
        lists: integer item indices (n_users, any length), the best first, none twice in a row. The
            row is the user's index; 0 fills a short list's end.
        relevant_users: integer user indices (n,); those that are 0, unknown, are left out.
        relevant_items: integer item indices (n,). A pair of user and item comes once, except with
            item 0: each is another unknown item.
        item_counts: each item's number of training ratings (n_items,); that of item 0 is ignored.
        n_training_users: the number of users with training ratings.

    Raises:
        ValueError: an index is outside what it counts, no relevant rating is of a known user and
            item, no user judged has a recommendation, or one is of an item never rated.
    """
    _check_range("item", lists, len(item_counts))
    _check_range("item", relevant_items, len(item_counts))
    _check_range("user", relevant_users, len(lists))
    known = relevant_users > 0
    users, items = relevant_users[known].long(), relevant_items[known].long()
    if not items.any():
        raise ValueError(
            f"None of {len(relevant_users)} relevant ratings is of a user and an item with "
            "training ratings, so none can be found: choose a split whose parts share users and "
            "items, or let lower ratings be relevant."
        )
    judged, n_relevant = users.unique(return_counts=True)
    # A negative width cuts.
    ranked = pad(lists[judged].long(), (0, DEPTH - lists.shape[1]))
    hits = _hits(ranked, judged, users, items, len(item_counts))
    shown = ranked[:, :K]
    recommended = shown[shown > 0]
    popularity = _popularity(recommended, item_counts, len(judged))
    found = hits[:, :K].sum(dim=1)
    return RankingReport(
        n_users=len(judged),
        ndcg_at_10=_ndcg(hits[:, :K], n_relevant).mean().item(),
        recall_at_10=(found / n_relevant).mean().item(),
        precision_at_10=(found / K).mean().item(),
        map_at_100=_average_precision(hits, n_relevant).mean().item(),
        mrr_at_100=(hits / _ranks(hits)).amax(dim=1).mean().item(),
        coverage=len(recommended.unique()) / (len(item_counts) - 1),
        novelty=-(popularity / n_training_users).log2().mean().item(),
        popularity_bias=(popularity.mean() / item_counts[items[items > 0]].float().mean()).item(),
    )


def ndcg_by_user(
    lists: Tensor, relevant_users: Tensor, relevant_items: Tensor, n_items: int
) -> tuple[Tensor, Tensor]:
    """Return the users judged, int64 (n,), and the NDCG@10 of each one's list, float32 (n,).

    Arguments are as for `evaluate`; `n_items` counts the unknown item too.
    """
    known = relevant_users > 0
    users, items = relevant_users[known].long(), relevant_items[known].long()
    judged, n_relevant = users.unique(return_counts=True)
    ranked = pad(lists[judged].long(), (0, K - lists.shape[1]))
    return judged, _ndcg(_hits(ranked, judged, users, items, n_items), n_relevant)


def _check_range(kind: str, indices: Tensor, n: int) -> None:
    stray = indices[(indices < 0) | (indices >= n)]
    if len(stray):
        raise ValueError(
            f"There is {kind} {stray[0].item()}, but {kind}s are 0 … {n - 1}: encode all with the "
            "vocabularies that the model was fitted with, of which a list for each user and a "
            "count for each item are needed, #na# included."
        )


def _hits(ranked: Tensor, judged: Tensor, users: Tensor, items: Tensor, n_items: int) -> Tensor:
    """Return 1 where `ranked` (n_judged, DEPTH) is relevant and else 0, as float32.

    Pairs are compared as user * n_items + item: a matrix of all users and items can be too large.
    """
    pairs = (users * n_items + items)[items > 0]
    return torch.isin(judged.unsqueeze(1) * n_items + ranked, pairs).float()


def _popularity(recommended: Tensor, item_counts: Tensor, n_judged: int) -> Tensor:
    """Return the items' numbers of training ratings, float32 (n_recommended,), all above 0."""
    if len(recommended) == 0:
        raise ValueError(
            f"None of {n_judged} users judged has a recommendation: give lists with candidates, "
            "items that the user has not rated."
        )
    popularity = item_counts[recommended].float()
    if not popularity.all():
        raise ValueError(
            f"Item {recommended[popularity == 0][0].item()} is recommended, but has 0 training "
            "ratings: count the ratings that the model was fitted to."
        )
    return popularity


def _ranks(hits: Tensor) -> Tensor:
    return torch.arange(1, hits.shape[1] + 1, dtype=hits.dtype, device=hits.device)


def _ndcg(hits: Tensor, n_relevant: Tensor) -> Tensor:
    discounts = 1 / (_ranks(hits) + 1).log2()
    ideal = discounts.cumsum(dim=0)[n_relevant.clamp(max=len(discounts)) - 1]
    return hits @ discounts / ideal


def _average_precision(hits: Tensor, n_relevant: Tensor) -> Tensor:
    precision = hits.cumsum(dim=1) / _ranks(hits)
    return (hits * precision).sum(dim=1) / n_relevant
