"""The libraries that accuracy is compared with, each with its own defaults but for what is named.

A method is fitted to ratings (columns user, movie, rating) and never sees a test row; its seconds
are those of its library's `fit` alone, not of bringing the ratings into the library's own form.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from cf_pipeline.recommender.vocabulary import Vocabulary

try:
    import scipy.sparse
    import surprise
    from myfm import MyFMGibbsRegressor
except ImportError as error:
    raise ImportError(
        f"A peer cannot be imported: {error}. The peers come with the extra `bench`: "
        "pip install -e '.[bench]'"
    ) from error


@dataclass(frozen=True)
class Fitted:
    """How long a fit took, and what it predicts (n,) for pairs (columns user, movie)."""

    seconds: float
    predict: Callable[[pd.DataFrame], npt.NDArray[np.floating]]


Method: TypeAlias = Callable[[pd.DataFrame], Fitted]


def surprise_svd(train: pd.DataFrame) -> Fitted:
    """Biased matrix factorization by stochastic gradient descent."""
    return _surprise(surprise.SVD(random_state=0), train)


def surprise_knn_baseline(train: pd.DataFrame) -> Fitted:
    """Nearest items by their ratings' correlation about the baselines."""
    similarity = {"name": "pearson_baseline", "user_based": False}
    return _surprise(surprise.KNNBaseline(sim_options=similarity, verbose=False), train)


def myfm_ids_only(train: pd.DataFrame) -> Fitted:
    """A Bayesian factorization machine on ids alone: rank 10, 300 sweeps of Gibbs sampling."""
    vocabularies = Vocabulary.of(train["user"]), Vocabulary.of(train["movie"])
    ids = _one_hot(train, vocabularies)
    ratings = train["rating"].to_numpy(np.float64)
    groups = [len(vocabulary) - 1 for vocabulary in vocabularies]
    machine = MyFMGibbsRegressor(rank=10, random_seed=0)
    start = time.perf_counter()
    machine.fit(ids, ratings, n_iter=300, group_shapes=groups)
    seconds = time.perf_counter() - start
    return Fitted(seconds, lambda pairs: machine.predict(_one_hot(pairs, vocabularies)))


def _surprise(algorithm: Any, train: pd.DataFrame) -> Fitted:
    reader = surprise.Reader(rating_scale=(1, 5))
    trainset = surprise.Dataset.load_from_df(
        train[["user", "movie", "rating"]], reader
    ).build_full_trainset()
    start = time.perf_counter()
    algorithm.fit(trainset)
    seconds = time.perf_counter() - start

    def predict(pairs: pd.DataFrame) -> npt.NDArray[np.floating]:
        ids = zip(pairs["user"], pairs["movie"], strict=True)
        return np.array([algorithm.predict(user, movie).est for user, movie in ids])

    return Fitted(seconds, predict)


def _one_hot(
    pairs: pd.DataFrame, vocabularies: tuple[Vocabulary, Vocabulary]
) -> scipy.sparse.csr_matrix:
    """Return the pairs (n, known users + known movies); an unknown id is a row of zeros."""
    indices = [
        vocabulary.encode(pairs[column])
        for vocabulary, column in zip(vocabularies, ("user", "movie"), strict=True)
    ]
    blocks = [
        scipy.sparse.csr_matrix(
            (np.ones(len(index)), (np.arange(len(index)), index)),
            shape=(len(index), len(vocabulary)),
        )[:, 1:]
        for index, vocabulary in zip(indices, vocabularies, strict=True)
    ]
    return scipy.sparse.hstack(blocks, format="csr")
