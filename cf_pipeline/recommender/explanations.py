"""Why an item is in somebody's list: which of the items they rated weigh most in its score.

Given the items, a user's implicit factors are p_u = A⁻¹ ((1 + α) Σ_j q_j + λ_u Bᵀx_u) with j the
items that the user rated, so the score p_u·q_i is a sum over them of (1 + α) q_iᵀ A⁻¹ q_j, and what
the features say (Hu, Koren & Volinsky 2008, section 5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch.nn.functional import pad

from cf_pipeline.recommender.implicit_als import normal_equations, row_penalty
from cf_pipeline.recommender.moments import Moments
from cf_pipeline.recommender.top_items import Seen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from cf_pipeline.recommender.ranking_model import RankingModel
    from cf_pipeline.recommender.rating_scale import RatingScale

REASONS = 3
ROUNDING = 1e-5  # of a sum of ratings, in float32
NUMBERS_AT_ONCE = 1 << 22


class Rated(NamedTuple):
    """What each of n rows rated: `items` tells where, and `ratings` (n_ratings,) tells how."""

    items: Seen
    ratings: Tensor

    @classmethod
    def of(cls, rows: Tensor, items: Tensor, ratings: Tensor, n_rows: int) -> Self:
        """Take ratings in any order: index tensors `rows`, `items` and `ratings`, each (n,)."""
        return cls(Seen.of(rows, items, n_rows), ratings[torch.argsort(rows, stable=True)])

    def take(self, rows: Tensor) -> Self:
        """Return what the rows at the indices `rows` (n,) rated."""
        starts, places = self.items.places(rows)
        return type(self)(Seen(starts, self.items.columns[places]), self.ratings[places])


class Reasons(NamedTuple):
    """The rated items that weigh most in each listed item's score, the most first.

    `places` (n, k, REASONS) are their places among the ratings, -1 where there is none that speaks
    for the item; `weights` (n, k, REASONS) are their shares of the score.
    """

    places: Tensor
    weights: Tensor


def reasons(model: RankingModel, rated: Rated, listed: Tensor) -> Reasons:
    """Return the reasons for `listed` items (n, k) of n users, who `rated` what the model knows.

    They are among what a user rated no lower than they do on average: that somebody disliked one
    movie explains to nobody why they should watch another, though it tells what they choose.
    """
    counts = rated.items.starts.diff()
    # Users are taken together with those who rated about as much: what fills up costs the same.
    order = counts.argsort(descending=True)
    places = torch.full((*listed.shape, REASONS), -1, device=listed.device)
    weights = torch.zeros(places.shape, device=listed.device)
    gram = model.implicit.items.T @ model.implicit.items
    n_factors, first = model.implicit.items.shape[1], 0
    while first < len(order):
        longest = max(int(counts[order[first]]), n_factors, listed.shape[1])
        rows = order[first : first + max(1, NUMBERS_AT_ONCE // (longest * n_factors))]
        places[rows], weights[rows] = _reasons(model, rated, rows, listed[rows], gram)
        first += len(rows)
    return Reasons(places, weights)


def _reasons(
    model: RankingModel, rated: Rated, rows: Tensor, listed: Tensor, gram: Tensor
) -> Reasons:
    factors, settings = model.implicit.items, model.settings
    starts, counts = (
        of[rows].unsqueeze(1) for of in (rated.items.starts, rated.items.starts.diff())
    )
    place = torch.arange(max(REASONS, int(counts.max())), device=rows.device)
    # What fills up is the unknown item, whose factors are zero.
    index = (starts + place).where(place < counts, len(rated.ratings))
    ratings = pad(rated.ratings, (0, 1))[index]
    of_rated = factors[pad(rated.items.columns, (0, 1))[index]]
    root, _ = normal_equations(
        Moments(of_rated.mT @ of_rated, of_rated.sum(dim=1)),
        gram,
        settings.confidence,
        row_penalty(counts.squeeze(1), settings),
        torch.zeros_like(of_rated[:, 0]),
    )
    solved = torch.cholesky_solve(factors[listed].mT, root)
    # The sum of a hundred equal ratings may be a little off a hundred times one.
    slack = ROUNDING * ratings.abs().sum(dim=1, keepdim=True)
    liked = ratings * counts >= ratings.sum(dim=1, keepdim=True) - slack
    shares = ((1 + settings.confidence) * of_rated @ solved).masked_fill(~liked.unsqueeze(2), 0)
    weights, best = shares.mT.topk(REASONS)
    places = index.unsqueeze(1).expand(-1, listed.shape[1], -1).gather(2, best)
    return Reasons(places.where(weights > 0, -1), weights.clamp(min=0))


def sentences(
    found: Reasons, rated: Rated, titles: Sequence[str], scale: RatingScale
) -> pa.StringArray:
    """Return the reasons in words (n · k,), 'Title, 5 stars; Title, 4 stars', null without any.

    They were found among what was `rated`, on the `scale`; `titles` (n_items,) are the items'.
    """
    items, ratings = rated.items.columns, rated.ratings
    places = found.places.reshape(-1, REASONS)
    levels, level = torch.unique(ratings, return_inverse=True)
    words = [f", {scale.words(level)}".removesuffix(", ") for level in levels.tolist()]
    of_level = pa.array(words, pa.string())
    of_item = pa.array(titles, pa.string())
    columns = []
    for place in places.T:
        there = place >= 0
        title, how = (
            values.take(pa.array(pad(index, (0, 1))[place].numpy(), mask=~there.numpy()))
            for values, index in ((of_item, items), (of_level, level))
        )
        columns.append(pc.fill_null(pc.binary_join_element_wise(title, how, ""), ""))
    # The nulls are the last ones of a row. To skip them loses all rows where there is nothing else.
    joined = pc.utf8_rtrim(pc.binary_join_element_wise(*columns, "; "), "; ")
    return pc.if_else(pc.equal(joined, ""), pa.scalar(None, pa.string()), joined)
