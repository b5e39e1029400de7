"""How far the posterior's own uncertainty can be trusted, and how well it takes in newcomers.

Everywhere the posterior is the one that is kept beside the model: the default fit's, thinned.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from cf_pipeline.recommender import gibbs, metrics
from cf_pipeline.recommender.features import SideFeatures, user_side_features
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.newcomers import Newcomers
from cf_pipeline.recommender.posterior import Posterior
from cf_pipeline.recommender.predictive import Predicted
from cf_pipeline.recommender.rating_scale import STARS
from cf_pipeline.recommender.settings import GibbsSettings
from cf_pipeline.recommender.splits import Mask
from cf_pipeline.recommender.uncertainty import UncertaintyReport, evaluate
from cf_pipeline.recommender.vocabulary import Vocabulary

GROUPS = 5
FIRST_RATINGS = 20


@dataclass(frozen=True)
class _Fit:
    posterior: Posterior
    side: SideFeatures
    users: Vocabulary
    movies: Vocabulary


def uncertainty_of(
    ratings: pd.DataFrame, folds: Sequence[Mask], users: pd.DataFrame, movies: pd.DataFrame
) -> UncertaintyReport:
    """Fit to all but each fold, and judge the predictions of all folds together.

    `users` and `movies` are the side tables.
    """
    parts = []
    for in_test in folds:
        fit = _fit(ratings[~in_test], users, movies)
        of_test = EncodedRatings.of(ratings[in_test], fit.users, fit.movies)
        predicted = fit.posterior.predict(of_test.users, of_test.items)
        parts.append((of_test.ratings, *predicted))
    actual, *columns = (torch.cat(column) for column in zip(*parts, strict=True))
    return evaluate(actual, Predicted(*columns), fit.posterior.levels)


def fold_in_rmses(
    ratings: pd.DataFrame, users: pd.DataFrame, movies: pd.DataFrame, seed: int
) -> list[float]:
    """Return the RMSE on the later ratings of each fifth of the users, folded in from their first.

    The posterior is fitted to the ratings of the others. Who rated no more than the first ratings
    has no later ones.
    """
    everyone = np.random.default_rng(seed).permutation(ratings["user"].unique())
    return [
        _fold_in_rmse(ratings, ratings["user"].isin(group).to_numpy(), users, movies)
        for group in np.array_split(everyone, GROUPS)
    ]


def _fold_in_rmse(
    ratings: pd.DataFrame,
    is_new: npt.NDArray[np.bool_],
    users: pd.DataFrame,
    movies: pd.DataFrame,
) -> float:
    fit = _fit(ratings[~is_new], users, movies)
    new = ratings[is_new].sort_values("timestamp", kind="stable")
    is_first = new.groupby("user").cumcount() < FIRST_RATINGS
    newcomers = Vocabulary.of(new["user"])
    features = torch.from_numpy(user_side_features(users, newcomers))[1:]
    first, later = (
        EncodedRatings.of(part, newcomers, fit.movies) for part in (new[is_first], new[~is_first])
    )
    posterior = fit.posterior.with_users(_weights(fit, first, features))
    rows = later.users + len(fit.users) - 1  # after the known ones; 0 is nobody in `newcomers`
    predicted = posterior.predict(rows, later.items).mean.numpy().clip(*STARS)
    return metrics.rmse(later.ratings.numpy(), predicted)


def _weights(fit: _Fit, first: EncodedRatings, features: Tensor) -> Tensor:
    """Return the weights (n_samples, n_newcomers, width) of newcomers with `features`."""
    prior = Newcomers.like(fit.posterior.user_weights[:, 1:], fit.side.users[1:])
    each = [first.take(first.users == row) for row in range(1, len(features) + 1)]
    weights = [
        fit.posterior.fold_in(of.items, of.ratings, prior, features[row : row + 1])
        for row, of in enumerate(each)
    ]
    return torch.cat(weights, dim=1)


def _fit(train: pd.DataFrame, users: pd.DataFrame, movies: pd.DataFrame) -> _Fit:
    settings = GibbsSettings()
    known = Vocabulary.of(train["user"]), Vocabulary.of(train["movie"])
    side = SideFeatures.of(users, movies, *known)
    sampled = gibbs.fit(EncodedRatings.of(train, *known), side, settings)
    return _Fit(sampled.posterior.thinned(settings.kept_samples), side, *known)
