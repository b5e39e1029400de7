"""Predictions for users and movies without a training rating, from what else is known of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from cf_pipeline.recommender.features import movie_side_features, user_side_features
from cf_pipeline.recommender.newcomers import ITEM_SEED, USER_SEED, Newcomers
from cf_pipeline.recommender.posterior import Posterior
from cf_pipeline.recommender.predictive import Predicted
from cf_pipeline.recommender.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    import pandas as pd

    Features = Callable[[pd.DataFrame, Vocabulary], npt.NDArray[np.float32]]


def predict(
    posterior: Posterior,
    pairs: pd.DataFrame,
    known_users: Vocabulary,
    known_movies: Vocabulary,
    users: pd.DataFrame,
    movies: pd.DataFrame,
) -> Predicted:
    """Return the predictive distributions of `pairs` (columns user, movie) of raw ids.

    `known_users` and `known_movies` are the vocabularies of the posterior's rows, `users` and
    `movies` the side tables. Someone who is in a side table only is drawn by its features; someone
    in neither is `#na#`.
    """
    with_users, user_rows = with_newcomers(posterior, pairs["user"], known_users, users)
    movie_rows, new_movies = _rows(
        pairs["movie"], known_movies, movies, movie_side_features, posterior.item_weights, ITEM_SEED
    )
    return with_users.with_items(new_movies).predict(user_rows, movie_rows)


def with_newcomers(
    posterior: Posterior, ids: pd.Series, known: Vocabulary, users: pd.DataFrame
) -> tuple[Posterior, Tensor]:
    """Return the posterior with a row for everybody who is new, and the row of each of `ids`.

    Newcomers are drawn together: with others, somebody is drawn otherwise.
    """
    rows, weights = _rows(ids, known, users, user_side_features, posterior.user_weights, USER_SEED)
    return posterior.with_users(weights), rows


def _rows(
    ids: pd.Series,
    known: Vocabulary,
    table: pd.DataFrame,
    features: Features,
    weights: Tensor,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """Return each id's row, and the weights of the rows to append, those of the newcomers."""
    index = known.encode(ids)
    strangers = ids[index == 0]
    described = strangers[strangers.isin(table[ids.name])]
    newcomers = Vocabulary.of(described)
    device = weights.device
    of_known, of_newcomers = (
        torch.tensor(features(table, vocabulary)[1:], device=device)
        for vocabulary in (known, newcomers)
    )
    prior = Newcomers.like(weights[:, 1:], of_known)
    place = newcomers.encode(ids)
    rows = np.where(place, len(known) - 1 + place, index)
    return torch.tensor(rows, device=device), prior.draw(of_newcomers, seed)
