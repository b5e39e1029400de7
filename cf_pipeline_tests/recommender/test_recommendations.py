"""The tables of everybody's lists, on splits of the real ratings, and of similar movies."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from cf_pipeline.recommender import recommendations
from cf_pipeline.recommender.factor_model import FactorModel
from cf_pipeline.recommender.features import user_side_features
from cf_pipeline.recommender.implicit_als import ImplicitFactors
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.posterior import Posterior
from cf_pipeline.recommender.ranking_model import RankingModel
from cf_pipeline.recommender.rating_history import History
from cf_pipeline.recommender.recommendations import (
    RECOMMENDATION_COLUMNS,
    SIMILAR_COLUMNS,
    recommendation_tables,
    sequel_rank,
    similar_tables,
    write_tables,
)
from cf_pipeline.recommender.serving import OTHERWISE, Recommender
from cf_pipeline.recommender.settings import RankingSettings
from cf_pipeline.recommender.splits import temporal_split
from cf_pipeline.recommender.vocabulary import Vocabulary
from cf_pipeline_tests.recommender.layouts import Tables
from cf_pipeline_tests.recommender.memory import MEASURED, peak_memory
from cf_pipeline_tests.recommender.recommenders import (
    ONLY_TESTED,
    Fitted,
    fit_recommender,
    some_recommender,
)

FEATURES = ["age", "gender", "occupation"]


@pytest.fixture(scope="module")
def later(ratings: pd.DataFrame, tables: Tables) -> Fitted:
    """A fit to the first 80,000 ratings: 192 users come later."""
    return fit_recommender(ratings, temporal_split(ratings, 0.2), tables)


def lists(
    recommender: Recommender, posterior: Posterior | None, users: pd.DataFrame
) -> pd.DataFrame:
    table = pa.concat_tables(recommendation_tables(recommender, posterior, users))
    frame: pd.DataFrame = table.to_pandas()
    return frame


@pytest.fixture(scope="module")
def of_u1(fitted: Fitted) -> pd.DataFrame:
    return lists(fitted.recommender, fitted.posterior, fitted.users)


@pytest.fixture(scope="module")
def of_later(later: Fitted) -> pd.DataFrame:
    return lists(later.recommender, later.posterior, later.users)


@pytest.fixture(params=["u1", "later"])
def split(request: pytest.FixtureRequest) -> tuple[Fitted, pd.DataFrame]:
    """A fit, and the lists that were made with it."""
    names = {"u1": ("fitted", "of_u1"), "later": ("later", "of_later")}[request.param]
    fit, made = (request.getfixturevalue(name) for name in names)
    return fit, made


def newcomers(fit: Fitted) -> set[int]:
    return set(fit.users["user"]) - set(fit.train["user"])


def test_everybody_has_a_sorted_list_of_20(split: tuple[Fitted, pd.DataFrame]) -> None:
    fit, made = split
    assert list(made.columns) == list(RECOMMENDATION_COLUMNS)
    expected = pd.MultiIndex.from_product([sorted(fit.users["user"]), range(1, 21)])
    assert pd.MultiIndex.from_frame(made[["user", "rank"]]).equals(expected)
    falling = made.groupby("user")["score"].agg(lambda score: score.is_monotonic_decreasing)
    assert falling.all()
    assert not made.duplicated(["user", "movie"]).any()
    assert not made.drop(columns=["rating_low", "rating_high"]).isna().any().any()


def test_nobody_is_listed_what_they_rated_in_either_part(
    split: tuple[Fitted, pd.DataFrame],
) -> None:
    fit, made = split
    rated = pd.concat([fit.train, fit.test])
    assert made.merge(rated, on=["user", "movie"]).empty
    assert set(made["movie"]) <= set(fit.train["movie"])


def test_intervals_are_about_the_predicted_ratings_on_the_scale(
    split: tuple[Fitted, pd.DataFrame],
) -> None:
    _, made = split
    low, mean, high = (made[name] for name in ("rating_low", "predicted_rating", "rating_high"))
    assert (low >= 1).all()
    assert (low <= mean).all()
    assert (mean <= high).all()
    assert (high <= 5).all()
    assert (high - low).min() > 0.5


def test_a_table_s_list_is_the_one_that_the_user_is_recommended(
    fitted: Fitted, of_u1: pd.DataFrame
) -> None:
    for user in (1, 13, 405, 943):
        alone = fitted.recommender.recommend(user)
        listed = of_u1[of_u1["user"] == user].reset_index(drop=True)
        columns = ["rank", "movie", "title", "reason"]
        pd.testing.assert_frame_equal(listed[columns], alone[columns], check_dtype=False)
        assert listed["score"].to_numpy() == pytest.approx(alone["score"].to_numpy(), abs=1e-5)


def test_ratings_are_predicted_as_by_the_model_with_the_posterior_s_intervals(
    fitted: Fitted, of_u1: pd.DataFrame
) -> None:
    rows = of_u1.iloc[::97]
    known = fitted.recommender.users, fitted.recommender.movies
    users, movies = (
        torch.tensor(ids.encode(rows[name]))
        for ids, name in zip(known, ("user", "movie"), strict=True)
    )
    predicted = fitted.posterior.predict(users, movies)
    for name, column in zip(("rating_low", "rating_high"), predicted.interval(0.9), strict=True):
        assert rows[name].to_numpy() == pytest.approx(column.clamp(1, 5).numpy(), abs=1e-5)
    expected = fitted.recommender.model.rating.predict(rows["user"], rows["movie"]).clip(1, 5)
    assert rows["predicted_rating"].to_numpy() == pytest.approx(expected, abs=1e-5)


def test_newcomers_ratings_are_predicted_by_what_else_is_known(
    later: Fitted, of_later: pd.DataFrame
) -> None:
    new = of_later[~of_later["user"].isin(later.train["user"])]
    of_nobody = later.recommender.model.rating.predict([10**6] * len(new), new["movie"])
    assert not np.allclose(new["predicted_rating"], of_nobody.clip(1, 5), atol=0.02)
    spread = new.groupby("movie")["predicted_rating"].std().max()
    assert spread > 0.01


def test_without_a_posterior_there_are_no_intervals(later: Fitted, of_later: pd.DataFrame) -> None:
    made = lists(later.recommender, None, later.users)
    assert made["rating_low"].isna().all()
    assert made["rating_high"].isna().all()
    columns = ["user", "rank", "movie", "score", "reason"]
    pd.testing.assert_frame_equal(made[columns], of_later[columns])
    expected = later.recommender.model.rating.predict(made["user"], made["movie"]).clip(1, 5)
    assert made["predicted_rating"].to_numpy() == pytest.approx(expected, abs=1e-5)
    [table] = recommendation_tables(later.recommender, None, later.users)
    assert table["rating_low"].null_count == table["rating_high"].null_count == len(made)


def test_newcomers_are_listed_what_people_alike_watch(
    later: Fitted, of_later: pd.DataFrame
) -> None:
    made = of_later[of_later["user"].isin(newcomers(later))]
    assert made["user"].nunique() == 192
    assert set(made["reason"]) == {OTHERWISE}
    vocabulary = Vocabulary.of(later.users["user"])
    features = user_side_features(later.users, vocabulary)[vocabulary.encode(made["user"])]
    kind = pd.Series([row.tobytes() for row in features], made.index, name="kind")
    scores = made.groupby([kind, made["movie"]])["score"]
    assert scores.agg(np.ptp).max() < 1e-5  # the same to those who are described alike
    assert made.groupby("movie")["score"].agg(np.ptp).median() > 0.02  # not to the others


def test_newcomers_of_whom_nothing_is_known_are_listed_what_everybody_watches(
    later: Fitted,
) -> None:
    known = later.users[~later.users["user"].isin(newcomers(later))]
    made = lists(later.recommender, later.posterior, known)
    assert set(made["user"]) == set(later.users["user"])  # those with a rating in the test part
    stranger = later.recommender.recommend(10**6, 2000)
    scores = stranger.set_index("movie")["score"]
    for user in sorted(newcomers(later))[:20]:
        listed = made[made["user"] == user]
        seen = set(later.test["movie"][later.test["user"] == user])
        expected = stranger[~stranger["movie"].isin(seen)]["movie"][:20]
        assert listed["movie"].tolist() == expected.tolist()
        assert listed["score"].to_numpy() == pytest.approx(scores[expected].to_numpy(), abs=1e-5)


def test_users_taken_a_few_at_a_time_have_the_same_lists(
    later: Fitted, of_later: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Newcomers once were drawn with those whose turn it was, and predicted otherwise."""
    monkeypatch.setattr(recommendations, "ROWS_AT_ONCE", 100)
    tables = list(recommendation_tables(later.recommender, later.posterior, later.users))
    assert len(tables) == 10
    made = pa.concat_tables(tables).to_pandas()
    pd.testing.assert_frame_equal(made, of_later, rtol=1e-4, atol=1e-5)


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
    made = lists(recommender, None, users)
    history = recommender.history
    seen = torch.bincount(history.raters, minlength=len(history.vocabulary)).numpy()
    kind = str if strings else int
    expected = dict(zip(history.vocabulary.ids, (30 - seen[1:]).clip(max=20), strict=True))
    assert expected[kind(1)] == 5
    assert made["user"].value_counts().to_dict() == {**expected, kind(99): 20}
    assert kind(ONLY_TESTED) in expected
    assert list(made["user"]) == sorted(made["user"])


def test_tables_are_written_as_they_come(later: Fitted, tmp_path: Path) -> None:
    path, said = tmp_path / "lists.parquet", list[str]()
    [table] = recommendation_tables(later.recommender, later.posterior, later.users)
    write_tables(path, iter([table[:7], table[7:1000]]), said.append)
    assert pq.read_table(path).equals(table[:1000].combine_chunks())
    assert said == ["7 rows written.", "1,000 rows written."]


# --- similar movies


@pytest.fixture(scope="module")
def similar(recommender: Recommender) -> pd.DataFrame:
    frame: pd.DataFrame = pa.concat_tables(similar_tables(recommender)).to_pandas()
    return frame


def test_every_movie_has_its_20_nearest_by_the_cosine(
    recommender: Recommender, similar: pd.DataFrame
) -> None:
    assert list(similar.columns) == list(SIMILAR_COLUMNS)
    factors = recommender.model.rating.item_factors.weight.detach().double().numpy()[1:]
    directions = factors / np.linalg.norm(factors, axis=1, keepdims=True)
    cosines = directions @ directions.T
    rows, columns = (
        recommender.movies.encode(similar[name]) - 1 for name in ("movie", "similar_movie")
    )
    assert similar["cosine"].to_numpy() == pytest.approx(cosines[rows, columns], abs=1e-5)
    np.fill_diagonal(cosines, -np.inf)  # no movie is listed for itself
    nearest = -np.sort(-cosines, axis=1)[:, :20]
    assert similar["cosine"].to_numpy() == pytest.approx(nearest.flatten(), abs=1e-5)
    assert (rows != columns).all()
    assert not similar.duplicated(["movie", "similar_movie"]).any()


def test_similar_movies_are_those_that_a_title_has(
    recommender: Recommender, similar: pd.DataFrame
) -> None:
    alone = recommender.similar("Star Wars")
    listed = similar[similar["title"] == "Star Wars (1977)"].reset_index(drop=True)
    assert listed["similar_title"].tolist() == alone["title"].tolist()
    assert listed["ratings"].tolist() == alone["ratings"].tolist()
    assert listed["rank"].tolist() == list(range(1, 21))


def test_movies_taken_a_few_at_a_time_have_the_same_neighbours(
    recommender: Recommender, similar: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recommendations, "ROWS_AT_ONCE", 500)
    made = pa.concat_tables(similar_tables(recommender)).to_pandas()
    pd.testing.assert_frame_equal(made, similar, rtol=1e-4, atol=1e-5)


def test_the_sequel_has_its_rank_0_if_it_is_not_alike_and_none_if_it_is_not_there(
    recommender: Recommender,
) -> None:
    rank = sequel_rank(recommender)
    assert rank is not None
    assert 1 <= rank <= 5
    titles = list(recommender.titles)
    place = titles.index("Empire Strikes Back, The (1980)")
    farthest = recommender.similar("Star Wars", 5000)["title"].iloc[-1]
    other = titles.index(farthest)
    titles[place], titles[other] = titles[other], titles[place]
    assert sequel_rank(replace(recommender, titles=titles)) == 0
    titles[other] = "Empire"
    assert sequel_rank(replace(recommender, titles=titles)) is None


# --- memory

N_MOVIES = 5000


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
