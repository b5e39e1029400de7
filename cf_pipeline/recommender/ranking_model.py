"""The model that lists are made with: what people choose to watch, and how they like it.

Ordering by predicted rating alone ranks badly, because it ignores what people choose to watch;
implicit factors alone ignore the stars. The score of user u and item i is a weighted sum of both,

    s_ui = p_u·q_i + w x_ui            x_ui = p'_u·q'_i + b_u + c_i

with p, q from `implicit_als`, and x what the factor model passes through its sigmoid. Both are dot
products, so the score is one of longer factors: the model's form again. `b_u` does not rank and is
left out.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import torch
from pydantic import BaseModel, Field, FiniteFloat
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cf_pipeline.recommender import implicit_als, ranking_metrics
from cf_pipeline.recommender.bounded import read_at_most
from cf_pipeline.recommender.executors import LOCAL, Part
from cf_pipeline.recommender.factor_model import MOST_HEADER_BYTES, FactorModel, ModelFileError
from cf_pipeline.recommender.fold_in import fold_in
from cf_pipeline.recommender.implicit_als import ImplicitFactors, normal_equations, row_penalty
from cf_pipeline.recommender.moments import Moments
from cf_pipeline.recommender.rating_scale import RatingScale
from cf_pipeline.recommender.settings import RankingSettings
from cf_pipeline.recommender.top_items import Seen, top_items

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cf_pipeline.recommender.executors import Executor
    from cf_pipeline.recommender.features import SideFeatures
    from cf_pipeline.recommender.minibatches import EncodedRatings
    from cf_pipeline.recommender.vocabulary import Vocabulary

FACTORS = "ranking.safetensors"
SHAPE = "ranking.json"
WEIGHTS = tuple(step / 50 for step in range(13))  # 0 … 0.24
LEAST_STD = 1e-3  # of ratings about predictions, in quarters of the rating scale
USERS_TO_TUNE = 10_000
LISTED_BY_A_TASK = 4096  # users
REMEDY = "Materialize ranking_model again."


class RankingShape(BaseModel):
    """What `ranking.json` says of the factors beside it."""

    weight: FiniteFloat
    rating_std: FiniteFloat = Field(gt=0)
    settings: RankingSettings


class Weighed(NamedTuple):
    """What lists with a `weight` came to on rows set aside: NDCG@10 of all, and of liked items."""

    weight: float
    ndcg_all: float
    ndcg_liked: float


class Judged(NamedTuple):
    """How lists did, counting `all` held-out ratings, and those that were `liked`.

    None where no such rating is of a user and an item that are known. Where all ratings of the
    training part are alike, none tells what was liked.
    """

    all: ranking_metrics.RankingReport | None
    liked: ranking_metrics.RankingReport | None


@dataclass(frozen=True)
class RankingModel:
    """Scores of every pair of user and item.

    `rating` predicts ratings, whose standard deviation about predictions is `rating_std`; `weight`
    is the w above, 0 where all ratings are alike: the implicit factors rank alone.
    """

    rating: FactorModel
    implicit: ImplicitFactors
    weight: float
    rating_std: float
    settings: RankingSettings

    @property
    def users(self) -> Tensor:
        """Each user's [p, w p', w], (n_users, width)."""
        return torch.cat([self.implicit.users, self.weight * rating_users(self.rating)], dim=1)

    @property
    def items(self) -> Tensor:
        """Each item's [q, q', c], (n_items, width)."""
        return torch.cat([self.implicit.items, rating_items(self.rating)], dim=1)

    def with_user(self, items: Tensor, ratings: Tensor) -> Self:
        """Return the model with one more user, the last, who gave `items` (n,) `ratings` (n,).

        Both parts of the model are solved for the user, with all items held.
        """
        rating = fold_in(self.rating, items, ratings, self.rating_std)
        of_items, settings = self.implicit.items[items], self.settings
        rated = Moments((of_items.T @ of_items).unsqueeze(0), of_items.sum(0, keepdim=True))
        penalty = row_penalty(torch.tensor([len(items)], device=of_items.device), settings)
        prior_mean = self.implicit.users[:1]
        gram = self.implicit.items.T @ self.implicit.items
        root, linear = normal_equations(rated, gram, settings.confidence, penalty, prior_mean)
        factors = torch.cholesky_solve(linear, root).squeeze(2)
        users = torch.cat([self.implicit.users, factors])
        return replace(self, rating=rating, implicit=self.implicit._replace(users=users))

    def save(self, directory: Path, users: Vocabulary, movies: Vocabulary) -> None:
        """Write all it takes to use the model, its factor model included.

        Raises:
            ModelFileError: the vocabularies are not of the tables' sizes.
        """
        self.rating.save(directory, users, movies)
        tables = {"user_factors": self.implicit.users, "item_factors": self.implicit.items}
        save_file({name: table.contiguous() for name, table in tables.items()}, directory / FACTORS)
        shape = RankingShape(
            weight=self.weight, rating_std=self.rating_std, settings=self.settings
        ).model_dump_json(indent=1)
        (directory / SHAPE).write_text(shape, encoding="utf-8")

    @classmethod
    def load(cls, directory: str | Path, device: str | torch.device = "cpu") -> Self:
        """Return the model that `save` wrote into `directory`.

        Raises:
            ModelFileError: a file is missing or damaged, or they do not belong together.
        """
        folder = Path(directory)
        rating = FactorModel.load(folder, device)
        try:
            shape = RankingShape.model_validate_json(
                read_at_most(folder / SHAPE, MOST_HEADER_BYTES)
            )
            expected = {
                "user_factors": (rating.user_factors.num_embeddings, shape.settings.n_factors),
                "item_factors": (rating.item_factors.num_embeddings, shape.settings.n_factors),
            }
            length = sum(4 * rows * columns for rows, columns in expected.values())
            found = (folder / FACTORS).stat().st_size
            if not length < found <= length + MOST_HEADER_BYTES:
                raise ValueError(f"{FACTORS} has {found:,} bytes, its factors make {length:,}")
            tables = load_file(folder / FACTORS, device=str(device))
            for name in sorted(tables.keys() | expected):
                _check(name, tables.get(name), expected.get(name))
        except (OSError, ValueError, SafetensorError) as error:
            raise ModelFileError(
                f"The ranking model in {folder} cannot be read: {str(error).rstrip('.')}. {REMEDY}"
            ) from error
        implicit = ImplicitFactors(tables["user_factors"], tables["item_factors"])
        return cls(rating, implicit, shape.weight, shape.rating_std, shape.settings)


@dataclass(frozen=True)
class RankingFit:
    """A fitted model, how its weight was found, and the wall time of its own fit in `seconds`.

    The time is that of the implicit factors, fitted to all ratings given.
    """

    model: RankingModel
    weights: Sequence[Weighed]
    seconds: float


def rating_users(rating: FactorModel) -> Tensor:
    """Return each user's [p', 1], (n_users, n_factors + 1); without biases the 1 meets a 0."""
    factors = rating.user_factors.weight.detach()
    return torch.cat([factors, torch.ones_like(factors[:, :1])], dim=1)


def rating_items(rating: FactorModel) -> Tensor:
    """Return each item's [q', c], (n_items, n_factors + 1)."""
    factors = rating.item_factors.weight.detach()
    bias = rating.item_bias.weight.detach() if rating.bias else torch.zeros_like(factors[:, :1])
    return torch.cat([factors, bias], dim=1)


def orders(model: RankingModel, train: EncodedRatings) -> dict[str, tuple[Tensor, Tensor]]:
    """Return what lists can be ordered by, and the products of what it is, users before items.

    They are the model's own score, either part of it alone, and the number of training ratings; no
    predicted rating where all are alike.
    """
    counts = torch.bincount(train.items, minlength=len(model.implicit.items))
    popularity = counts.to(model.implicit.items.dtype).unsqueeze(1)
    found = {
        "ranking_model": (model.users, model.items),
        "implicit_factors": (model.implicit.users, model.implicit.items),
        "popularity": (torch.ones_like(model.implicit.users[:, :1]), popularity),
    }
    if not model.rating.rating_scale.is_constant:
        found["predicted_rating"] = rating_users(model.rating), rating_items(model.rating)
    return found


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


def _check(name: str, table: Tensor | None, shape: tuple[int, int] | None) -> None:
    if (
        table is None
        or table.shape != shape
        or table.dtype != torch.float32
        or not table.isfinite().all()
    ):
        found = None if table is None else f"{table.dtype} {tuple(table.shape)}"
        raise ValueError(f"{name} should be finite float32 {shape}, but is {found}")
