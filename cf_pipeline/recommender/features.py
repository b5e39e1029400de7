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

if TYPE_CHECKING:
    import numpy.typing as npt

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


def low_rank_features(
    rated: Tensor, by: Tensor, side: Tensor, n_others: int, rank: int, seed: int
) -> Tensor:
    """Return the truncated singular value decomposition P·S of one side's features, (n, rank).

    A row's features are a 1, which others it met in the training ratings, and its side features.
    `rated` (n_ratings,) are the row indices of the ratings and `by` (n_ratings,) the indices of the
    other side, of which there are `n_others`; `side` is (n, any). For users, `rated` are the users
    and `by` the items; for items it is the other way round. Fewer than `rank` columns are returned
    where the features have no more. Columns are orthogonal, and row 0 is zero. The decomposition is
    a randomized one (Halko, Martinsson & Tropp 2011, algorithm 5.1), reproducible for a `seed`.
    """
    device = side.device
    if device.type == "mps":  # it has no sparse products
        rated, by, side = rated.cpu(), by.cpu(), side.cpu()
    met = _met(rated, by, len(side), n_others)
    known = torch.cat([side.new_ones(len(side), 1), side], dim=1)
    known[0] = 0  # the unknown
    features = torch.cat([met, known.to_sparse()], dim=1).coalesce()
    width = min(rank + OVERSAMPLING, *features.shape)
    with torch.random.fork_rng():  # svd_lowrank draws from the global generator
        torch.manual_seed(seed)
        left, singular, _ = torch.svd_lowrank(features, width, POWER_ITERATIONS)
    low_rank = (left * singular)[:, :rank]
    low_rank[0] = 0  # but for rounding it is
    return low_rank.to(device)


def _met(rows: Tensor, columns: Tensor, n_rows: int, n_columns: int) -> Tensor:
    """Return 1 / (√n_row · n_column^.3) where row and column met, sparse (n_rows, n_columns).

    n_row and n_column count their ratings. The whole is scaled to Frobenius norm √n_rows, that of a
    one-hot feature, times WEIGHT_OF_MET.
    """
    per_row = torch.bincount(rows, minlength=n_rows)[rows]
    per_column = torch.bincount(columns, minlength=n_columns)[columns]
    values = per_row**-0.5 * per_column**-0.3
    values *= WEIGHT_OF_MET * math.sqrt(n_rows) / values.norm()
    return torch.sparse_coo_tensor(
        torch.stack([rows, columns]), values, (n_rows, n_columns), check_invariants=False
    )


def _rows(one_hot: pd.DataFrame, vocabulary: Vocabulary) -> npt.NDArray[np.float32]:
    known = one_hot.reindex(vocabulary.ids, fill_value=0).to_numpy(np.float32)
    return np.vstack([np.zeros_like(known, shape=(1, known.shape[1])), known])
