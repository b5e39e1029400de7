"""Synthetic ratings: as many as asked for, reproducible, and with a truth that is told rightly."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cf_pipeline.recommender import gibbs
from cf_pipeline.recommender.features import SideFeatures
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.movielens import RATINGS_SCHEMA
from cf_pipeline.recommender.settings import GibbsSettings
from cf_pipeline.recommender.synthetic import (
    KINDS,
    ROWS_OF_A_BLOCK,
    TO_TASTE,
    ZIPF_EXPONENT,
    Synthetic,
)
from cf_pipeline.recommender.synthetic_settings import SyntheticSettings
from cf_pipeline_tests.recommender.memory import MEASURED, peak_memory


@st.composite
def sizes(draw):
    n_users, n_movies = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    n_ratings = draw(st.integers(n_users, n_users * ((n_movies + 1) // 2)))
    return SyntheticSettings(n_ratings=n_ratings, n_users=n_users, n_movies=n_movies)


def drawn(**sizes: int) -> tuple[Synthetic, dict[str, np.ndarray]]:
    """Return what was drawn, and its columns in one piece."""
    synthetic = Synthetic(SyntheticSettings(**sizes))
    table = pa.Table.from_batches(synthetic.batches())
    return synthetic, {name: table[name].to_numpy() for name in table.schema.names}


def check(synthetic: Synthetic, asked: SyntheticSettings) -> None:
    table = pa.Table.from_batches(synthetic.batches())
    assert table.schema == RATINGS_SCHEMA
    assert table.num_rows == asked.n_ratings
    user, movie, rating, time = (column.to_numpy() for column in table.columns)
    assert len(np.unique(user.astype(np.int64) << 32 | movie)) == len(user)
    np.testing.assert_array_equal(np.unique(user), np.arange(1, asked.users + 1))
    assert movie.min() >= 1
    assert movie.max() <= asked.movies
    assert np.bincount(user).max() <= asked.most_of_a_user
    assert set(rating) <= {1, 2, 3, 4, 5}
    assert (np.diff(time)[np.diff(user) == 0] >= np.timedelta64(0)).all()
    assert time.min() >= np.datetime64("1996-01-01")
    assert time.max() <= np.datetime64("2016-01-01")


@settings(max_examples=40, deadline=None)
@given(sizes())
def test_any_sizes_that_have_room(asked):
    check(Synthetic(asked), asked)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3000))
def test_any_number_of_ratings_has_users_and_movies_by_default(n):
    check(Synthetic(SyntheticSettings(n_ratings=n)), SyntheticSettings(n_ratings=n))


def test_several_blocks():
    asked = SyntheticSettings(n_ratings=1_000_000)
    synthetic = Synthetic(asked)
    check(synthetic, asked)
    assert synthetic.n_blocks == 4
    assert max(map(len, synthetic.batches())) < 1.01 * ROWS_OF_A_BLOCK


def test_more_pairs_than_a_block_has_room_for():
    asked = SyntheticSettings(n_ratings=20_000, n_users=1200, n_movies=1 << 22)
    synthetic = Synthetic(asked)
    check(synthetic, asked)
    assert synthetic.n_blocks > 1


@pytest.mark.parametrize(
    "sizes", [{"n_ratings": 10, "n_users": 11}, {"n_ratings": 1001, "n_users": 10, "n_movies": 199}]
)
def test_sizes_without_room_are_refused(sizes):
    with pytest.raises(ValueError, match="give other numbers of users or movies"):
        SyntheticSettings(**sizes)
    SyntheticSettings(**sizes | {"n_users": 10, "n_ratings": sizes["n_ratings"] // 10 * 10})


def test_a_block_is_the_same_whatever_was_drawn_before():
    asked = SyntheticSettings(n_ratings=600_000)
    synthetic = Synthetic(asked)
    blocks = list(synthetic.batches())
    for number in (2, 0, 1):
        assert Synthetic(asked).block(number).equals(blocks[number])
        assert synthetic.block(number).equals(blocks[number])


def test_another_seed_is_other_ratings():
    first, second = (drawn(n_ratings=5000, seed=seed)[1] for seed in (0, 1))
    assert (first["movie"] != second["movie"]).mean() > 0.9


def test_popularity_follows_zipf_and_activity_is_log_normal():
    # With few ratings of each of many movies hardly any pair is drawn twice.
    _, columns = drawn(n_ratings=1_000_000, n_users=200_000, n_movies=8000)
    popularity = np.sort(np.bincount(columns["movie"]))[::-1][:2000]
    rank = np.arange(1, 2001)
    slope = np.polyfit(np.log(rank[100:]), np.log(popularity[100:]), 1)[0]
    assert slope == pytest.approx(-ZIPF_EXPONENT, abs=0.05)
    _, columns = drawn(n_ratings=1_000_000, n_users=60_000, n_movies=2000)
    activity = np.log(np.bincount(columns["user"])[1:])
    assert activity.std() == pytest.approx(1, abs=0.1)
    assert np.median(activity) == pytest.approx(activity.mean(), abs=0.05)


@pytest.mark.parametrize("n_movies", [8, 40])  # by either way of drawing
def test_half_of_the_choices_are_of_the_favourite_kind(n_movies):
    synthetic, columns = drawn(n_ratings=60_000, n_users=60_000, n_movies=n_movies)
    rank = np.empty(n_movies, int)
    rank[synthetic._movie_of] = np.arange(n_movies)
    kinds = rank[columns["movie"] - 1] % KINDS
    favourite = synthetic._favourite[columns["user"] - 1]
    assert (kinds == favourite).mean() == pytest.approx(TO_TASTE + (1 - TO_TASTE) / KINDS, abs=0.01)


def test_ids_tell_nothing_of_popularity():
    _, columns = drawn(n_ratings=200_000)
    counts = np.bincount(columns["movie"])[1:]
    assert abs(np.corrcoef(np.arange(len(counts)), counts)[0, 1]) < 0.1


def test_ratings_look_like_movielens():
    synthetic, columns = drawn(n_ratings=1_000_000)
    rating = columns["rating"]
    assert rating.mean() == pytest.approx(3.5, abs=0.1)
    assert rating.std() == pytest.approx(1.1, abs=0.1)
    assert 0.75 < synthetic.noise_floor(columns["user"], columns["movie"]) < 0.85
    counts = np.bincount(columns["movie"])[1:]
    liked = np.bincount(columns["movie"], rating)[1:] / counts.clip(1)
    assert np.corrcoef(np.log(counts[counts > 50]), liked[counts > 50])[0, 1] > 0.2


def test_expectation_and_floor_are_those_of_the_ratings_drawn_at_every_level():
    synthetic, columns = drawn(n_ratings=1_000_000)
    expected = synthetic.expected(columns["user"], columns["movie"])
    assert expected.dtype == np.float32
    for some in np.array_split(np.argsort(expected), 20):
        errors = columns["rating"][some] - expected[some]
        floor = synthetic.noise_floor(columns["user"][some], columns["movie"][some])
        assert abs(errors.mean()) < 4 * floor / np.sqrt(len(some))
        assert np.sqrt(np.mean(errors**2)) == pytest.approx(floor, rel=0.02)


def test_what_is_expected_reaches_the_floor_and_no_other_prediction_beats_it():
    synthetic, columns = drawn(n_ratings=1_000_000)
    users, movies, rating = columns["user"], columns["movie"], columns["rating"]
    floor = synthetic.noise_floor(users, movies)
    expected = synthetic.expected(users, movies)

    def rmse(predicted: np.ndarray) -> float:
        return float(np.sqrt(np.mean((predicted - rating) ** 2)))

    assert rmse(expected) == pytest.approx(floor, rel=0.003)  # four standard errors
    for other in (0.95 * (expected - 3.5) + 3.5, 1.05 * (expected - 3.5) + 3.5, expected + 0.05):
        assert rmse(other) > rmse(expected)


def test_the_sampler_comes_nearer_to_the_floor_the_more_a_user_rates():
    excess = []
    for per_user in (20, 80, 240):
        synthetic, columns = drawn(n_ratings=300 * per_user, n_users=300, n_movies=500)
        user, movie, rating = (
            torch.from_numpy(columns[name].copy()) for name in ("user", "movie", "rating")
        )
        train, test = EncodedRatings(user, movie, rating).carve(0.1, seed=0)
        side = SideFeatures(torch.zeros(301, 0), torch.zeros(501, 0))
        few = GibbsSettings(sampled_factors=8, sweeps=40, burn_in=15, samples=25)
        predicted = gibbs.fit(train, side, few).posterior.predict(test.users, test.items).mean
        error = (predicted - test.ratings).square().mean().sqrt().item()
        pairs = test.users.numpy(), test.items.numpy()
        excess.append(error - synthetic.noise_floor(*pairs))
    assert excess[0] > 2 * excess[2] > 0
    assert excess == sorted(excess, reverse=True)


def pass_over(folder):
    for _ in Synthetic(SyntheticSettings(n_ratings=2_000_000)).batches():
        pass


def draw_one(folder):
    Synthetic(SyntheticSettings(n_ratings=2_000_000)).block(0)


@MEASURED
def test_memory_does_not_grow_with_the_ratings(tmp_path):
    assert peak_memory(pass_over, tmp_path) < peak_memory(draw_one, tmp_path) + (30 << 20)
