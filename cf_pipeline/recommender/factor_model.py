"""The factor model: a rating is the sigmoid of user factors · item factors + biases, in a range."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from pydantic import BaseModel, Field, FiniteFloat, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cf_pipeline.recommender.bounded import read_at_most
from cf_pipeline.recommender.rating_scale import STARS, RatingScale
from cf_pipeline.recommender.vocabulary import MOST_IDS, Vocabulary

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from cf_pipeline.recommender.vocabulary import Ids

WEIGHTS = "model.safetensors"
SHAPE = "model.json"
USER_VOCABULARY = "user_vocabulary.parquet"
MOVIE_VOCABULARY = "movie_vocabulary.parquet"
MOST_HEADER_BYTES = 1 << 16  # of `model.json`, and of what the weights' file has beside the weights
PAIRS_AT_ONCE = 1 << 18
REMEDY = "Materialize factor_model again, or save the model anew."


class ModelFileError(ValueError):
    """The files of a model are damaged, or do not belong together."""


class ModelShape(BaseModel):
    """What `model.json` says of the weights beside it."""

    n_users: int = Field(gt=0, le=MOST_IDS)
    n_items: int = Field(gt=0, le=MOST_IDS)
    n_factors: int = Field(gt=0)
    y_range: tuple[FiniteFloat, FiniteFloat]
    rating_scale: tuple[FiniteFloat, FiniteFloat] = STARS  # of models that do not say
    bias: bool
    user_vocabulary_sha256: str
    movie_vocabulary_sha256: str

    @model_validator(mode="after")
    def _check_scale(self) -> Self:
        low, high = self.rating_scale
        bottom, top = self.y_range
        stated = "rating_scale" in self.model_fields_set
        if stated and not bottom <= low <= high <= top:
            raise ValueError(f"rating_scale {low:g} to {high:g} is not in y_range {self.y_range}")
        return self

    def check_length(self, path: Path) -> None:
        """Raise ValueError unless `path` is as long as weights of this shape, before it is read."""
        length = path.stat().st_size
        expected = 4 * (self.n_users + self.n_items) * (self.n_factors + self.bias)
        if not expected < length <= expected + MOST_HEADER_BYTES:
            raise ValueError(
                f"{path.name} has {length:,} bytes, but weights of {self.n_users} users and "
                f"{self.n_items} items make {expected:,}"
            )


def sigmoid_range(x: Tensor, low: float, high: float) -> Tensor:
    """Return low + (high - low) / (1 + exp(-x)), which lies between `low` and `high`."""
    return low + (high - low) * torch.sigmoid(x)


class FactorModel(nn.Module):
    """A rating is sigmoid_range(p_u · q_i + b_u + c_i) (Koren, Bell & Volinsky 2009, eq. 4).

    The tables are embeddings: `user_factors` (n_users, n_factors), `item_factors` (n_items,
    n_factors), and with `bias` `user_bias` (n_users, 1), `item_bias` (n_items, 1). Index 0 is the
    unknown user or item. `y_range` is a little wider than `rating_scale`, the least and the
    greatest rating, whose ends a sigmoid would never reach: what is shown is clamped to that.
    """

    def __init__(
        self,
        n_users: int,
        n_items: int,
        n_factors: int,
        y_range: tuple[float, float] = (0.0, 5.5),
        bias: bool = True,
        rating_scale: tuple[float, float] = STARS,
    ) -> None:
        super().__init__()
        self.y_range = y_range
        self.rating_scale = RatingScale(*rating_scale)
        self.bias = bias
        self.vocabularies: tuple[Vocabulary, Vocabulary] | None = None
        self.user_factors = _table(n_users, n_factors)
        self.item_factors = _table(n_items, n_factors)
        if bias:
            self.user_bias = _table(n_users, 1)
            self.item_bias = _table(n_items, 1)

    def tables(self) -> dict[str, nn.Embedding]:
        """Return the tables by their names, users' before items'."""
        return {
            name: table for name, table in self.named_children() if isinstance(table, nn.Embedding)
        }

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Return the predicted ratings, in the shape of the index tensors `users` and `items`."""
        # In float32, whatever the tables are while they are fitted.
        x = (self.user_factors(users) * self.item_factors(items)).sum(-1, dtype=torch.float32)
        if self.bias:
            x = x + (self.user_bias(users) + self.item_bias(items)).squeeze(-1)
        return sigmoid_range(x, *self.y_range)

    @torch.no_grad()
    def predict(self, users: Ids, movies: Ids) -> npt.NDArray[np.float32]:
        """Return the predicted ratings (n,) of raw ids (n,); an id that is not known is `#na#`.

        Raises:
            ValueError: there is not one movie for each user, or the model has no vocabularies,
                because it was neither saved nor loaded.
        """
        if self.vocabularies is None:
            raise ValueError("This model knows indices, not ids: save it with its vocabularies.")
        if len(users) != len(movies):
            raise ValueError(
                f"There are {len(users)} users and {len(movies)} movies: give one for each other."
            )
        indices = [
            torch.as_tensor(vocabulary.encode(ids))
            for vocabulary, ids in zip(self.vocabularies, (users, movies), strict=True)
        ]
        predicted: npt.NDArray[np.float32] = self.predict_indices(*indices).cpu().numpy()
        return predicted

    @torch.no_grad()
    def predict_indices(self, users: Tensor, items: Tensor) -> Tensor:
        """Return the predicted ratings (n,) of any number of pairs of indices (n,), (n,).

        The factors of some pairs at a time are in memory.
        """
        batches = zip(users.split(PAIRS_AT_ONCE), items.split(PAIRS_AT_ONCE), strict=True)
        device = self.user_factors.weight.device
        predicted = torch.empty(len(users), device=device)
        for batch, (user, item) in zip(predicted.split(PAIRS_AT_ONCE), batches, strict=True):
            batch.copy_(self(user.to(device), item.to(device)))
        return predicted

    def save(self, directory: Path, users: Vocabulary, movies: Vocabulary) -> None:
        """Write all it takes to use the model: weights, shape, and its vocabularies.

        Raises:
            ModelFileError: the vocabularies are not of the tables' sizes.
        """
        shape = ModelShape(
            n_users=self.user_factors.num_embeddings,
            n_items=self.item_factors.num_embeddings,
            n_factors=self.user_factors.embedding_dim,
            y_range=self.y_range,
            rating_scale=self.rating_scale,
            bias=self.bias,
            user_vocabulary_sha256=users.digest(),
            movie_vocabulary_sha256=movies.digest(),
        )
        _check_vocabularies(directory, shape, users, movies)
        self.vocabularies = (users, movies)
        self.save_weights(directory / WEIGHTS)
        (directory / SHAPE).write_text(shape.model_dump_json(indent=1), encoding="utf-8")
        users.save(directory / USER_VOCABULARY)
        movies.save(directory / MOVIE_VOCABULARY)

    def save_weights(self, path: Path) -> None:
        """Write the tables alone, for `load` of a directory that has the rest."""
        save_file(self.state_dict(), path)

    @classmethod
    def load(
        cls, directory: str | Path, device: str | torch.device = "cpu", weights: str = WEIGHTS
    ) -> Self:
        """Return the model that `save` wrote into `directory`, ready to predict.

        `weights` names the file of its tables: another is that of a model of the same shape.

        Raises:
            ModelFileError: a file is missing or damaged, or they do not belong together.
        """
        folder = Path(directory)
        try:
            shape = ModelShape.model_validate_json(read_at_most(folder / SHAPE, MOST_HEADER_BYTES))
            shape.check_length(folder / weights)
            tables = load_file(folder / weights, device=str(device))
            users = Vocabulary.load(folder / USER_VOCABULARY, most=shape.n_users)
            movies = Vocabulary.load(folder / MOVIE_VOCABULARY, most=shape.n_items)
            with torch.device("meta"):  # the tables come from the file
                model = cls(
                    shape.n_users,
                    shape.n_items,
                    shape.n_factors,
                    shape.y_range,
                    shape.bias,
                    shape.rating_scale,
                )
        except (OSError, ValueError, SafetensorError) as error:
            raise ModelFileError(
                f"The factor model in {folder} cannot be read: {str(error).rstrip('.')}. {REMEDY}"
            ) from error
        _check_vocabularies(folder, shape, users, movies)
        _check_weights(folder, weights, model, tables)
        model.load_state_dict(tables, assign=True)
        model.vocabularies = (users, movies)
        return model.eval()


def _table(n_rows: int, width: int) -> nn.Embedding:
    """Return what `nn.Embedding` does, but for the device meta at once.

    There is nothing to draw there, and torch would take a second to import its compiler for it.
    """
    weight = torch.empty(n_rows, width)
    if not weight.is_meta:
        nn.init.normal_(weight)
    table: nn.Embedding = nn.Embedding.from_pretrained(weight, freeze=False)
    return table


def _check_vocabularies(
    folder: Path, shape: ModelShape, users: Vocabulary, movies: Vocabulary
) -> None:
    for kind, n_rows, digest, vocabulary in (
        ("user", shape.n_users, shape.user_vocabulary_sha256, users),
        ("movie", shape.n_items, shape.movie_vocabulary_sha256, movies),
    ):
        if len(vocabulary) != n_rows:
            raise ModelFileError(
                f"The factor model in {folder} has {n_rows} rows for {kind}s, but the {kind} "
                f"vocabulary has {len(vocabulary)}: they are not of the same fit. {REMEDY}"
            )
        if vocabulary.digest() != digest:
            raise ModelFileError(
                f"The factor model in {folder} was fitted with another {kind} vocabulary than the "
                f"one beside it. {REMEDY}"
            )


def _check_weights(folder: Path, file: str, model: FactorModel, weights: dict[str, Tensor]) -> None:
    def form(tables: dict[str, Tensor]) -> dict[str, str]:
        return {name: f"{tuple(table.shape)} {table.dtype}" for name, table in tables.items()}

    expected, found = form(model.state_dict()), form(weights)
    if found != expected:
        raise ModelFileError(
            f"The factor model in {folder} should have the tables {expected}, but {file} has "
            f"{found}. {REMEDY}"
        )
    for name, table in weights.items():
        if not table.isfinite().all():
            raise ModelFileError(f"The table {name} in {folder} is not finite. {REMEDY}")
