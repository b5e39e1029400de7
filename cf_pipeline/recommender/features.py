"""What is known of users and items beside single ratings, as a few numbers for each.

Only the training part enters: not even that a test pair was rated is known here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cf_pipeline.recommender.draws import TINY, normal

if TYPE_CHECKING:
    import numpy.typing as npt

    from cf_pipeline.recommender.blocks import Blocks
    from cf_pipeline.recommender.vocabulary import Vocabulary

AGES = (0, 18, 25, 35, 45, 50, 56, math.inf)  # the bins of MovieLens 1M, in years
OVERSAMPLING = 10
POWER_ITERATIONS = 2
WEIGHT_OF_MET = 2.0  # of who met whom, beside a one-hot feature; chosen on rows carved from u1.base


class SideFeatures(NamedTuple):
    """One-hot features on one device: `users` (n_users, any) and `items` (n_items, any)."""

    users: Tensor
    items: Tensor

    @classmethod
    def of(
        cls,
        users: pd.DataFrame,
        movies: pd.DataFrame,
        user_vocabulary: Vocabulary,
        movie_vocabulary: Vocabulary,
        device: str | torch.device = "cpu",
    ) -> Self:
        """Return the features of the vocabularies' users and movies from the tables of both."""
        return cls(
            torch.tensor(user_side_features(users, user_vocabulary), device=device),
            torch.tensor(movie_side_features(movies, movie_vocabulary), device=device),
        )


def user_side_features(users: pd.DataFrame, vocabulary: Vocabulary) -> npt.NDArray[np.float32]:
    """Return each known user's age bin, gender and occupation one-hot, (len(vocabulary), any).

    `users` has the columns user, age, gender, occupation. Row 0, `#na#`, is zero, and so is what is
    null or not in `users`.
    """
    age = pd.cut(users["age"], AGES, right=False).astype(str).where(users["age"].notna())
    labels = users[["gender", "occupation"]].assign(age=age)
    return _rows(pd.get_dummies(labels, dtype=np.float32).set_axis(users["user"]), vocabulary)


def movie_side_features(movies: pd.DataFrame, vocabulary: Vocabulary) -> npt.NDArray[np.float32]:
    """Return each known movie's genres and decade of release one-hot, (len(vocabulary), any).

    `movies` has the columns movie, genres (lists), release_year. Row 0, `#na#`, is zero, and so is
    what is null or not in `movies`.
    """
    movies = movies.reset_index(drop=True)  # the groups below come sorted by it
    decades = pd.get_dummies(movies["release_year"] // 10, dtype=np.float32)
    genres = pd.get_dummies(movies["genres"].explode(), dtype=np.float32).groupby(level=0).max()
    return _rows(pd.concat([genres, decades], axis=1).set_axis(movies["movie"]), vocabulary)


def low_rank_features(met: Blocks, met_by: Blocks, side: Tensor, rank: int, seed: int) -> Tensor:
    """Return the truncated singular value decomposition P·S of one side's features, (n, rank).

    A row's features are a 1, which others it met in the training ratings, and its side features.
    `met` are the ratings of this side's rows and `met_by` the same ratings, those of the other's;
    `side` is (n, any). Fewer than `rank` columns are returned where the features have no more.
    Columns are orthogonal, and row 0 is zero. The decomposition is a randomized one (Halko,
    Martinsson & Tropp 2011, algorithms 4.4 and 5.1), reproducible for a `seed`. It needs a few
    tables of `rank` + OVERSAMPLING columns, and no copy of the ratings.
    """
    if rank == 0:
        return side.new_empty(len(side), 0)
    matrix = _Features.of(met, met_by, side)
    width = min(rank + OVERSAMPLING, *matrix.shape)
    generator = torch.Generator(side.device).manual_seed(seed)
    basis = _orthonormal(matrix.transposed_times(normal(generator, matrix.shape[0], width)))
    for _ in range(POWER_ITERATIONS):
        basis = _orthonormal(matrix.transposed_times(_orthonormal(matrix.times(basis))))
    # A basis Q of the right vectors: the matrix is about (A Q) Qᵀ, and A Q is P S times a rotation.
    product = matrix.times(basis)
    _, _, rotation = torch.linalg.svd(product, full_matrices=False)
    low_rank: Tensor = product @ rotation[:rank].T
    low_rank[0] = 0  # the unknown
    return low_rank


class _Features(NamedTuple):
    """The matrix (n, n_others + 1 + any) of all features, which is never made: only multiplied.

    Where row and column met it is 1 / (√n_row · n_column^.3), n_row and n_column counting their
    ratings. This part is scaled to Frobenius norm √n, that of a one-hot feature, times
    WEIGHT_OF_MET. It is `met` between `of_rows` (n, 1) and `of_columns` (n_others, 1); the other
    part is `known` (n, 1 + any).
    """

    met: Blocks
    met_by: Blocks
    of_rows: Tensor
    of_columns: Tensor
    known: Tensor

    @classmethod
    def of(cls, met: Blocks, met_by: Blocks, side: Tensor) -> Self:
        known = torch.cat([side.new_ones(len(side), 1), side], dim=1)
        known[0] = 0  # the unknown
        of_rows, of_columns = (
            sums.counts.clamp(min=1).to(side).unsqueeze(1) ** power
            for sums, power in ((met, -0.5), (met_by, -0.3))
        )
        squares = (of_rows.square() * met.total(of_columns.square())).sum()
        scale = WEIGHT_OF_MET * math.sqrt(len(side)) / squares.clamp(min=TINY).sqrt()
        return cls(met, met_by, of_rows, scale * of_columns, known)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.known), len(self.of_columns) + self.known.shape[1]

    def times(self, table: Tensor) -> Tensor:
        others = len(self.of_columns)
        product = self.of_rows * self.met.total(self.of_columns * table[:others])
        return product.addmm_(self.known, table[others:])

    def transposed_times(self, table: Tensor) -> Tensor:
        others = self.of_columns * self.met_by.total(self.of_rows * table)
        return torch.cat([others, self.known.T @ table])


def _orthonormal(table: Tensor) -> Tensor:
    basis: Tensor = torch.linalg.qr(table).Q
    return basis


def _rows(one_hot: pd.DataFrame, vocabulary: Vocabulary) -> npt.NDArray[np.float32]:
    known = one_hot.reindex(vocabulary.ids, fill_value=0).to_numpy(np.float32)
    return np.vstack([np.zeros_like(known, shape=(1, known.shape[1])), known])
