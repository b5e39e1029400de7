"""The movies that are like a movie, the table of them, and the rank of a sequel."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from cf_pipeline.recommender import recommendations
from cf_pipeline.recommender.recommendations import SIMILAR_COLUMNS, sequel_rank, similar_tables
from cf_pipeline.recommender.serving import Recommender
from cf_pipeline_tests.recommender.recommenders import Fitted


def test_similar_movies_come_nearest_first_and_never_the_movie_itself(
    recommender: Recommender,
) -> None:
    similar = recommender.similar("Star Wars", 30)
    assert similar["rank"].tolist() == list(range(1, 31))
    assert similar["cosine"].is_monotonic_decreasing
    assert similar["cosine"].max() <= 1 + 1e-6
    assert "Star Wars (1977)" not in set(similar["title"])
    assert "Empire Strikes Back, The (1980)" in set(similar["title"][:5])


def test_similar_movies_have_their_number_of_training_ratings(fitted: Fitted) -> None:
    similar = fitted.recommender.similar("Toy Story")
    counts = fitted.train["movie"].value_counts()
    assert similar["ratings"].tolist() == counts[similar["movie"]].tolist()


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
