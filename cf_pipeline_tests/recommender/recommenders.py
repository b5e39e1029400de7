"""Recommenders for tests: a fit to real ratings, and a small one of random factors."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from cf_pipeline.recommender import distillation, ranking_fit
from cf_pipeline.recommender.factor_model import FactorModel
from cf_pipeline.recommender.implicit_als import ImplicitFactors
from cf_pipeline.recommender.posterior import Posterior
from cf_pipeline.recommender.ranking_model import RankingModel
from cf_pipeline.recommender.rating_history import History
from cf_pipeline.recommender.recommendations import recommendation_tables
from cf_pipeline.recommender.serving import Recommender
from cf_pipeline.recommender.settings import GibbsSettings, RankingSettings
from cf_pipeline.recommender.splits import Mask
from cf_pipeline.recommender.vocabulary import Vocabulary
from cf_pipeline_tests.recommender.layouts import Tables
from cf_pipeline_tests.recommender.simulation import Fold, encoded

FAST = GibbsSettings(sampled_factors=8, sweeps=40, burn_in=10, samples=30)
ONLY_TESTED = 77  # a user of `some_recommender` that the training part does not know


class Fitted(NamedTuple):
    """What was fitted to the `train` part of real ratings, of which `test` is the rest."""

    recommender: Recommender
    posterior: Posterior
    train: pd.DataFrame
    test: pd.DataFrame
    users: pd.DataFrame
    movies: pd.DataFrame


def fit_recommender(ratings: pd.DataFrame, in_test: Mask, tables: Tables) -> Fitted:
    """Fit quickly, as the assets do; the weight is found on rows that the rating model has seen."""
    train, test = ratings[~in_test], ratings[in_test]
    fold = Fold.of(ratings, in_test, tables)
    of_ratings = distillation.fit(fold.train, fold.side, FAST)
    assert of_ratings.posterior is not None
    rating, settings = of_ratings.model, RankingSettings()
    rating.vocabularies = Vocabulary.of(train["user"]), Vocabulary.of(train["movie"])
    carved = fold.train.carve(0.1, 0)
    fitted = ranking_fit.fit(fold.train, fold.side, rating, settings, *carved, rating)
    users, movies = tables.users.to_pandas(), tables.movies.to_pandas()
    known = rating.vocabularies
    titles = movies.set_index("movie")["title"].reindex(known[1].ids).tolist()
    history = History.of(fold.train, *known, test)
    recommender = Recommender(fitted.model, ["#na#", *titles], history)
    return Fitted(recommender, of_ratings.posterior, train, test, users, movies)


def some_recommender(strings: bool = False, n_movies: int = 30) -> Recommender:
    """Return one of 20 users, who rated 12 movies each, 3 of them in the test part.

    The ids are numbers, or `strings` of them.
    """
    random = np.random.default_rng(0)
    users = np.arange(1, 21).repeat(12)
    movies = np.concatenate([random.permutation(n_movies)[:12] for _ in range(20)]) + 1
    rows = pd.DataFrame({"user": users, "movie": movies, "rating": random.integers(1, 6, 240)})
    test = rows[rows.index % 4 == 3]
    train = rows.drop(test.index)
    newcomer = train[:3].assign(user=ONLY_TESTED)
    every = pd.DataFrame({"user": 1, "movie": range(1, n_movies + 1)})  # all movies are known
    every = every[~every["movie"].isin(rows["movie"][rows["user"] == 1])].assign(rating=3)
    train, test = pd.concat([train, every[5:]]), pd.concat([test, newcomer])
    if strings:
        kinds = {"user": str, "movie": str}
        train, test = train.astype(kinds), test.astype(kinds)
    known = Vocabulary.of(train["user"]), Vocabulary.of(train["movie"])
    generator = torch.Generator().manual_seed(0)
    tables = [torch.randn(len(ids), 4, generator=generator) / 2 for ids in known]
    tables[0][0], tables[1][0] = tables[0][1:].mean(dim=0), 0  # the unknown, as a fit leaves them
    torch.manual_seed(0)
    rating = FactorModel(len(known[0]), len(known[1]), 3).eval()
    rating.vocabularies = known
    settings = RankingSettings(n_factors=4)
    model = RankingModel(rating, ImplicitFactors(*tables), 0.1, 0.9, settings)
    titles = ["#na#", *(f"Movie {movie} (1999)" for movie in known[1].ids)]
    return Recommender(model, titles, History.of(encoded(train)[0], *known, test))


def lists_of_all(
    recommender: Recommender, posterior: Posterior | None, users: pd.DataFrame
) -> pd.DataFrame:
    """Return the table of everybody's lists."""
    table = pa.concat_tables(recommendation_tables(recommender, posterior, users))
    frame: pd.DataFrame = table.to_pandas()
    return frame
