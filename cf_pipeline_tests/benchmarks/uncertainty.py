"""How far the posterior's own uncertainty can be trusted, and how well it takes in newcomers.

Everywhere the posterior is the one that is kept beside the model: the default fit's, thinned.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from cf_pipeline.recommender import gibbs, metrics
from cf_pipeline.recommender.features import SideFeatures, user_side_features
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.posterior import Newcomers, Posterior
from cf_pipeline.recommender.settings import GibbsSettings
from cf_pipeline.recommender.validation import RATING_SCALE
from cf_pipeline.recommender.vocabulary import Vocabulary

COVERAGE = 0.9
LIKED = 4  # stars
BINS = 10
GROUPS = 5
FIRST_RATINGS = 20

Numbers = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Calibration:
    """What the posterior said of a test part: how often its intervals hold a rating, and more.

    `probability` (n,) is that of a test rating to be at least LIKED, `liked` (n,) whether it is.
    """

    coverage: float
    probability: Numbers
    liked: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Fit:
    posterior: Posterior
    side: SideFeatures
    users: Vocabulary
    movies: Vocabulary


def calibration(
    train: pd.DataFrame, test: pd.DataFrame, users: pd.DataFrame, movies: pd.DataFrame
) -> Calibration:
    """Fit to `train` and judge on `test`; `users` and `movies` are the side tables."""
    fit = _fit(train, users, movies)
    of_test = EncodedRatings.of(test, fit.users, fit.movies)
    predicted = fit.posterior.predict(of_test.users, of_test.items)
    low, high = predicted.interval(COVERAGE)
    ratings = of_test.ratings
    inside = (low <= ratings) & (ratings <= high)
    return Calibration(
        inside.float().mean().item(),
        predicted.probabilities[:, fit.posterior.levels >= LIKED].sum(1).numpy(),
        (ratings >= LIKED).numpy(),
    )


def expected_calibration_error(parts: list[Calibration]) -> float:
    """Return the mean over all ratings of |mean probability - share liked| of the rating's bin.

    The bins are of equal width (Naeini, Cooper & Hauskrecht 2015).
    """
    probability = np.concatenate([part.probability for part in parts])
    liked = np.concatenate([part.liked for part in parts])
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, probability - liked, BINS)  # each is its bin's gap times its count
    return float(np.abs(gaps).sum() / len(probability))


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
    predicted = posterior.predict(rows, later.items).mean.numpy().clip(*RATING_SCALE)
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
