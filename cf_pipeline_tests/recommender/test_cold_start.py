"""Users and movies without a training rating: what side features say of them, on real ratings."""

import numpy as np
import pandas as pd
import pytest
import torch

from cf_pipeline.recommender import cold_start, gibbs
from cf_pipeline.recommender.features import SideFeatures
from cf_pipeline.recommender.metrics import rmse
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.settings import GibbsSettings
from cf_pipeline.recommender.vocabulary import Vocabulary
from cf_pipeline_tests.recommender.layouts import Tables

FAST = GibbsSettings(sampled_factors=8, sweeps=40, burn_in=10, samples=30)


def test_side_features_say_more_of_newcomers_than_that_they_are_unknown(
    ratings: pd.DataFrame, tables: Tables
) -> None:
    users, movies = tables.users.to_pandas(), tables.movies.to_pandas()
    random = np.random.default_rng(0)
    new_users = random.choice(users["user"], 100, replace=False)
    new_movies = random.choice(movies["movie"], 300, replace=False)
    of_new_user, of_new_movie = ratings["user"].isin(new_users), ratings["movie"].isin(new_movies)
    train = ratings[~of_new_user & ~of_new_movie]
    known = Vocabulary.of(train["user"]), Vocabulary.of(train["movie"])
    side = SideFeatures.of(users, movies, *known)
    posterior = gibbs.fit(EncodedRatings.of(train, *known), side, FAST).posterior

    def errors(pairs: pd.DataFrame, described: bool) -> float:
        user_table, movie_table = users, movies
        if not described:
            user_table = users[users["user"].isin(known[0].ids)]
            movie_table = movies[movies["movie"].isin(known[1].ids)]
        predicted = cold_start.predict(posterior, pairs, *known, user_table, movie_table)
        assert predicted.mean.isfinite().all()
        return rmse(pairs["rating"], predicted.mean.numpy())

    of_movies = ratings[~of_new_user & of_new_movie]
    assert errors(of_movies, described=True) < errors(of_movies, described=False) - 0.01
    of_users = ratings[of_new_user & ~of_new_movie]
    of_described = errors(of_users, described=True)
    assert of_described < errors(of_users, described=False)
    # They hardly matter for users: with seeds, the error is .002 below the means' to .001 above.
    assert of_described < rmse(of_users["rating"], _movie_means(train, of_users)) + 0.003


def test_the_known_are_predicted_as_without_newcomers(
    ratings: pd.DataFrame, tables: Tables
) -> None:
    train = ratings[ratings["user"] <= 900]
    known = Vocabulary.of(train["user"]), Vocabulary.of(train["movie"])
    users, movies = tables.users.to_pandas(), tables.movies.to_pandas()
    side = SideFeatures.of(users, movies, *known)
    tiny = FAST.model_copy(update={"sweeps": 6, "burn_in": 2})
    posterior = gibbs.fit(EncodedRatings.of(train, *known), side, tiny).posterior
    pairs = ratings.sample(500, random_state=0)
    together = cold_start.predict(posterior, pairs, *known, users, movies)
    is_known = (pairs["user"].isin(known[0].ids) & pairs["movie"].isin(known[1].ids)).to_numpy()
    assert 0 < is_known.sum() < len(pairs)
    encoded = EncodedRatings.of(pairs[is_known], *known)
    alone = posterior.predict(encoded.users, encoded.items)
    torch.testing.assert_close(together.mean[is_known], alone.mean)
    torch.testing.assert_close(together.std[is_known], alone.std)
    # Noise that both sides had in common would add to every product of newcomers' factors.
    strangers = pairs.assign(user=-1, movie=-1)[:1]
    exact = cold_start.predict(posterior, strangers, *known, users, movies)
    weights = posterior.user_weights[:, 1:].mean(1), posterior.item_weights[:, 1:].mean(1)
    products = (weights[0][:, :-1] * weights[1][:, :-1]).sum(1)
    center = posterior.mean + weights[0][:, -1] + weights[1][:, -1] + products
    assert exact.mean.item() == pytest.approx(center.mean().item(), abs=0.35)
    nobody = pairs.assign(user=-1, movie=-1)[:1]
    unknown = cold_start.predict(posterior, nobody, *known, users, movies)
    zero = torch.zeros(1, dtype=torch.int64)
    torch.testing.assert_close(unknown.mean, posterior.predict(zero, zero).mean)


def _movie_means(train: pd.DataFrame, test: pd.DataFrame) -> pd.Series:
    means = train.groupby("movie")["rating"].mean()
    return test["movie"].map(means).fillna(train["rating"].mean())
