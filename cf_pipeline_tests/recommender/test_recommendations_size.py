"""How long everybody's lists are, and how much memory they take while they are made."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cf_pipeline.recommender.factor_model import FactorModel
from cf_pipeline.recommender.implicit_als import ImplicitFactors
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.ranking_model import RankingModel
from cf_pipeline.recommender.rating_history import History
from cf_pipeline.recommender.recommendations import recommendation_tables
from cf_pipeline.recommender.serving import Recommender
from cf_pipeline.recommender.settings import RankingSettings
from cf_pipeline.recommender.vocabulary import Vocabulary
from cf_pipeline_tests.recommender.memory import MEASURED, peak_memory
from cf_pipeline_tests.recommender.recommenders import (
    ONLY_TESTED,
    lists_of_all,
    some_recommender,
)

N_MOVIES = 5000


def described(ids: list[int]) -> pd.DataFrame:
    """Return side features of users, of some nothing."""
    ages = pd.array([None if user % 3 == 0 else 20 + user for user in ids], "Int64")
    genders, jobs = (
        [None if user % 3 == 0 else kinds[user % 2] for user in ids]
        for kinds in ("MF", ("writer", "other"))
    )
    return pd.DataFrame({"user": ids, "age": ages, "gender": genders, "occupation": jobs})


@pytest.mark.parametrize("strings", [False, True], ids=["numbers", "strings"])
def test_a_list_is_as_long_as_there_are_unseen_movies(strings: bool) -> None:
    recommender = some_recommender(strings)
    users = described([*range(1, 21), 99])
    if strings:
        users["user"] = users["user"].astype(str)
    made = lists_of_all(recommender, None, users)
    history = recommender.history
    seen = torch.bincount(history.raters, minlength=len(history.vocabulary)).numpy()
    kind = str if strings else int
    expected = dict(zip(history.vocabulary.ids, (30 - seen[1:]).clip(max=20), strict=True))
    assert expected[kind(1)] == 5
    assert made["user"].value_counts().to_dict() == {**expected, kind(99): 20}
    assert kind(ONLY_TESTED) in expected
    assert list(made["user"]) == sorted(made["user"])


def _many(n_users: int) -> None:
    """Make the lists of `n_users`, who rated 20 of 5,000 movies each; drop them as they come."""
    random = np.random.default_rng(0)
    users = np.arange(n_users).repeat(20)
    movies = (random.integers(0, N_MOVIES, (n_users, 1)) + np.arange(20) ** 2).flatten() % N_MOVIES
    rows = pd.DataFrame(
        {"user": users, "movie": movies, "rating": random.integers(1, 6, len(users))}
    )
    known = Vocabulary.of(rows["user"]), Vocabulary.of(range(N_MOVIES))
    rating = FactorModel(len(known[0]), len(known[1]), 4).eval()
    rating.vocabularies = known
    implicit = ImplicitFactors(*(torch.randn(len(ids), 16) for ids in known))
    implicit.items[0] = 0
    model = RankingModel(rating, implicit, 0.1, 0.9, RankingSettings(n_factors=16))
    titles = [str(movie) for movie in range(N_MOVIES + 1)]
    recommender = Recommender(model, titles, History.of(EncodedRatings.of(rows, *known), *known))
    n_rows = sum(len(t) for t in recommendation_tables(recommender, None, described([1, 2])))
    assert n_rows == 20 * n_users


def _some(folder: Path) -> None:
    _many(5_000)


def _more(folder: Path) -> None:
    _many(20_000)


@MEASURED
def test_no_table_of_all_users_and_movies_is_in_memory(tmp_path: Path) -> None:
    """One more of those users by these movies would take 300 MB."""
    assert peak_memory(_more, tmp_path) - peak_memory(_some, tmp_path) < 100 << 20
