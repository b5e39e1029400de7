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
import torch

from cf_pipeline.recommender.vocabulary import Vocabulary

try:
    import scipy.sparse
    import surprise
    from fastai import collab as fastai  # type: ignore  # it has no types
    from myfm import MyFMGibbsRegressor, RelationBlock
except ImportError as error:
    raise ImportError(
        f"A peer cannot be imported: {error}. The peers come with the extra `bench`: "
        "pip install -e '.[bench]'"
    ) from error

COLUMNS = ("user", "movie")
Ratings: TypeAlias = npt.NDArray[np.floating]
Vocabularies: TypeAlias = tuple[Vocabulary, Vocabulary]


@dataclass(frozen=True)
class Fitted:
    """How long a fit took, and what it predicts (n,) for pairs (columns user, movie)."""

    seconds: float
    predict: Callable[[pd.DataFrame], Ratings]


Method: TypeAlias = Callable[[pd.DataFrame], Fitted]


def surprise_svd(train: pd.DataFrame) -> Fitted:
    """Biased matrix factorization by stochastic gradient descent."""
    return _surprise(surprise.SVD(random_state=0), train)


def surprise_svdpp(train: pd.DataFrame) -> Fitted:
    """The same, with factors for what a user rated, whatever the stars."""
    return _surprise(surprise.SVDpp(random_state=0), train)


def surprise_knn_baseline(train: pd.DataFrame) -> Fitted:
    """Nearest items by their ratings' correlation about the baselines."""
    similarity = {"name": "pearson_baseline", "user_based": False}
    return _surprise(surprise.KNNBaseline(sim_options=similarity, verbose=False), train)


def myfm_ids_only(train: pd.DataFrame) -> Fitted:
    """A Bayesian factorization machine on ids alone: rank 10, 300 sweeps of Gibbs sampling."""
    vocabularies = _vocabularies(train)
    groups = [len(vocabulary) - 1 for vocabulary in vocabularies]

    def form(pairs: pd.DataFrame) -> tuple[scipy.sparse.csr_matrix, list[RelationBlock]]:
        return scipy.sparse.hstack(_one_hots(pairs, vocabularies), "csr"), []

    return _myfm(train, form, groups)


def myfm_implicit(train: pd.DataFrame) -> Fitted:
    """The same with who rated what on both sides, as in myFM's own MovieLens example, less dates.

    A user is its id and, each 1 / √n, the n movies it rated in training; a movie likewise.
    """
    vocabularies = _vocabularies(train)
    n_users, n_movies = (len(vocabulary) - 1 for vocabulary in vocabularies)
    user, movie = _one_hots(train, vocabularies)
    met = user.T @ movie
    blocks = [
        scipy.sparse.hstack([every, every @ _normed(by)], "csr")
        for every, by in zip(map(_one_hot, vocabularies), (met, met.T), strict=True)
    ]

    def form(pairs: pd.DataFrame) -> tuple[None, list[RelationBlock]]:
        parts = zip(vocabularies, COLUMNS, blocks, strict=True)
        return None, [RelationBlock(v.encode(pairs[c]), block) for v, c, block in parts]

    return _myfm(train, form, [n_users, n_movies, n_movies, n_users])


def fastai_collab(train: pd.DataFrame) -> Fitted:
    """The lesson's own: 50 factors and biases under a sigmoid, five epochs, weight decay."""
    fastai.set_seed(0)
    data = fastai.TabularCollab(
        train,
        [fastai.Categorify],
        list(COLUMNS),
        y_names=["rating"],
        y_block=fastai.TransformBlock(),
        splits=[list(range(len(train))), []],  # all is trained on: the test part is elsewhere
    ).dataloaders(bs=64)
    learner = fastai.collab_learner(data, n_factors=50, y_range=(0, 5.5))
    with learner.no_bar(), learner.no_logging():
        start = time.perf_counter()
        learner.fit_one_cycle(5, 5e-3, wd=0.1, cbs=_NoValidation())
        seconds = time.perf_counter() - start

    @torch.no_grad()
    def predict(pairs: pd.DataFrame) -> Ratings:
        indices = [[data.classes[column].o2i[i] for i in pairs[column]] for column in COLUMNS]
        predicted: Ratings = learner.model(torch.tensor(indices).T).numpy()
        return predicted

    return Fitted(seconds, predict)


class _NoValidation(fastai.Callback):  # type: ignore[misc]  # its base has no types
    """Leaves out the pass over the validation part, which is empty."""

    def before_validate(self) -> None:
        raise fastai.CancelValidException


def _surprise(algorithm: Any, train: pd.DataFrame) -> Fitted:
    reader = surprise.Reader(rating_scale=(1, 5))
    trainset = surprise.Dataset.load_from_df(
        train[["user", "movie", "rating"]], reader
    ).build_full_trainset()
    start = time.perf_counter()
    algorithm.fit(trainset)
    seconds = time.perf_counter() - start

    def predict(pairs: pd.DataFrame) -> Ratings:
        ids = zip(pairs["user"], pairs["movie"], strict=True)
        return np.array([algorithm.predict(user, movie).est for user, movie in ids])

    return Fitted(seconds, predict)


def _myfm(
    train: pd.DataFrame,
    form: Callable[[pd.DataFrame], tuple[scipy.sparse.csr_matrix | None, list[RelationBlock]]],
    groups: list[int],
) -> Fitted:
    """Fit to what `form` makes of pairs; the columns come in `groups` of one prior each."""
    ids, blocks = form(train)
    ratings = train["rating"].to_numpy(np.float64)
    machine = MyFMGibbsRegressor(rank=10, random_seed=0)
    start = time.perf_counter()
    machine.fit(ids, ratings, X_rel=blocks, n_iter=300, group_shapes=groups)
    seconds = time.perf_counter() - start
    return Fitted(seconds, lambda pairs: machine.predict(*form(pairs)))


def _vocabularies(train: pd.DataFrame) -> Vocabularies:
    return Vocabulary.of(train["user"]), Vocabulary.of(train["movie"])


def _one_hot(vocabulary: Vocabulary) -> scipy.sparse.csr_matrix:
    """Return each index's row (indices, known ids), that of the unknown zero."""
    return scipy.sparse.eye(len(vocabulary), len(vocabulary) - 1, k=-1, format="csr")


def _one_hots(pairs: pd.DataFrame, vocabularies: Vocabularies) -> list[scipy.sparse.csr_matrix]:
    """Return the pairs' users, and their movies, (n, known ids) each."""
    columns = zip(vocabularies, COLUMNS, strict=True)
    return [
        _one_hot(vocabulary)[vocabulary.encode(pairs[column])] for vocabulary, column in columns
    ]


def _normed(met: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
    """Return the rows over the roots of their sums."""
    return scipy.sparse.diags(np.asarray(met.sum(axis=1)).ravel() ** -0.5) @ met
