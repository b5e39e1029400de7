"""The ways of ranking that ours is compared with, each with a grid of settings to choose from.

All get the same: which user rated which item in training. Their scores are products of a user's
and an item's factors. A peer's seconds are those of its library's `fit` alone, not of bringing the
pairs into the library's own form.
"""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

try:
    import scipy.sparse
    from implicit.als import AlternatingLeastSquares
    from implicit.bpr import BayesianPersonalizedRanking
    from lenskit.als import ImplicitMFScorer
    from lenskit.data import from_interactions_df
    from lenskit.training import TrainingOptions
except ImportError as error:
    raise ImportError(
        f"A peer cannot be imported: {error}. The peers come with the extra `bench`: "
        "pip install -e '.[bench]'"
    ) from error

# 1 where a user rated an item, (n_users, n_items); row and column 0, the unknown, are empty.
Rated: TypeAlias = scipy.sparse.csr_matrix
Settings: TypeAlias = Mapping[str, Any]


class Factors(NamedTuple):
    """Factors of `users` (n_users, d) and `items` (n_items, d), and how long their fit took."""

    users: Tensor
    items: Tensor
    seconds: float


@dataclass(frozen=True)
class Peer:
    """How a peer is fitted, and the values of each setting, of which every combination is tried."""

    fit: Callable[[Rated, Settings], Factors]
    grid: Mapping[str, Sequence[float]]

    def settings(self) -> list[Settings]:
        """Return the combinations."""
        return [
            dict(zip(self.grid, values, strict=True))
            for values in itertools.product(*self.grid.values())
        ]


def implicit_als(rated: Rated, settings: Settings) -> Factors:
    """Implicit's alternating least squares, with its conjugate gradients."""
    model = AlternatingLeastSquares(**settings, use_gpu=False, num_threads=1, random_state=0)
    return _implicit(model, rated)


def implicit_bpr(rated: Rated, settings: Settings) -> Factors:
    """Implicit's Bayesian personalized ranking: an item rated before one that was not."""
    model = BayesianPersonalizedRanking(**settings, use_gpu=False, num_threads=1, random_state=0)
    return _implicit(model, rated)


def lenskit_als(rated: Rated, settings: Settings) -> Factors:
    """LensKit's alternating least squares, each step exact."""
    pairs = rated.tocoo()
    n_users, n_items = rated.shape
    data = from_interactions_df(
        pd.DataFrame({"user_id": pairs.row, "item_id": pairs.col}),
        users=np.arange(n_users),
        items=np.arange(n_items),
    )
    model: Any = ImplicitMFScorer(**settings)  # its embeddings may be None before a fit
    start = time.perf_counter()
    model.train(data, TrainingOptions(rng=0))
    seconds = time.perf_counter() - start
    return _factors(model.user_embeddings, model.item_embeddings, seconds)


def ease(rated: Rated, settings: Settings) -> Factors:
    """Each item by a ridge regression on all others (Steck 2019, algorithm 1)."""
    dense = rated.toarray()
    start = time.perf_counter()
    gram = dense.T @ dense
    gram[np.diag_indices_from(gram)] += settings["regularization"]
    inverse = np.linalg.inv(gram)
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return _factors(dense, weights.T, time.perf_counter() - start)


def popularity(rated: Rated, settings: Settings) -> Factors:
    """How many rated an item, the same for everybody."""
    start = time.perf_counter()
    counts = np.asarray(rated.sum(axis=0)).T
    return _factors(np.ones((rated.shape[0], 1)), counts, time.perf_counter() - start)


# Grids about what was best on rows carved from training parts. The libraries' own defaults, most
# of them far less regularized, rank worse there.
PEERS = {
    "implicit ALS": Peer(
        implicit_als,
        {
            "factors": (32, 64),
            "regularization": (0.01, 10, 20, 40),
            "alpha": (1, 2, 4),
            "iterations": (15, 30),
        },
    ),
    "implicit BPR": Peer(
        implicit_bpr,
        {
            "factors": (32, 64),
            "learning_rate": (0.003, 0.01),
            "regularization": (0.01, 0.05),
            "iterations": (100, 150, 200),
        },
    ),
    "LensKit iALS": Peer(
        lenskit_als,
        {
            "embedding_size": (32, 64),
            "regularization": (0.1, 10, 20, 40),
            "weight": (0.5, 1, 3),
            "epochs": (10, 20),
        },
    ),
    "EASE": Peer(ease, {"regularization": (100, 200, 300, 500, 700, 1000)}),
    "popularity": Peer(popularity, {}),
}


def _implicit(model: Any, rated: Rated) -> Factors:
    start = time.perf_counter()
    model.fit(rated, show_progress=False)
    seconds = time.perf_counter() - start
    return _factors(model.user_factors, model.item_factors, seconds)


def _factors(
    users: npt.NDArray[np.floating], items: npt.NDArray[np.floating], seconds: float
) -> Factors:
    of_users, of_items = (
        torch.from_numpy(np.asarray(table, np.float32)) for table in (users, items)
    )
    return Factors(of_users, of_items, seconds)
