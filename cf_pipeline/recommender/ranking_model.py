"""The model that lists are made with: what people choose to watch, and how they like it.

Ordering by predicted rating alone ranks badly, because it ignores what people choose to watch;
implicit factors alone ignore the stars. The score of user u and item i is a weighted sum of both,

    s_ui = p_u·q_i + w x_ui            x_ui = p'_u·q'_i + b_u + c_i

with p, q from `implicit_als`, and x what the factor model passes through its sigmoid. Both are dot
products, so the score is one of longer factors: the model's form again. `b_u` does not rank and is
left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from pydantic import BaseModel, Field, FiniteFloat
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cf_pipeline.recommender.bounded import read_at_most
from cf_pipeline.recommender.factor_model import MOST_HEADER_BYTES, FactorModel, ModelFileError
from cf_pipeline.recommender.fold_in import fold_in
from cf_pipeline.recommender.implicit_als import ImplicitFactors, normal_equations, row_penalty
from cf_pipeline.recommender.moments import Moments
from cf_pipeline.recommender.settings import RankingSettings

if TYPE_CHECKING:
    from cf_pipeline.recommender.minibatches import EncodedRatings
    from cf_pipeline.recommender.vocabulary import Vocabulary

FACTORS = "ranking.safetensors"
SHAPE = "ranking.json"
REMEDY = "Materialize ranking_model again."


class RankingShape(BaseModel):
    """What `ranking.json` says of the factors beside it."""

    weight: FiniteFloat
    rating_std: FiniteFloat = Field(gt=0)
    settings: RankingSettings


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


def _check(name: str, table: Tensor | None, shape: tuple[int, int] | None) -> None:
    if (
        table is None
        or table.shape != shape
        or table.dtype != torch.float32
        or not table.isfinite().all()
    ):
        found = None if table is None else f"{table.dtype} {tuple(table.shape)}"
        raise ValueError(f"{name} should be finite float32 {shape}, but is {found}")
