"""The features of users and movies, by hand and against a full singular value decomposition."""

from collections import Counter

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cf_pipeline.recommender.budget import both_sides
from cf_pipeline.recommender.features import (
    SideFeatures,
    low_rank_features,
    movie_side_features,
    user_side_features,
)
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.settings import BlockSettings
from cf_pipeline.recommender.splits import official_fold
from cf_pipeline.recommender.vocabulary import Vocabulary
from cf_pipeline_tests.recommender.layouts import Tables

Matrix = npt.NDArray[np.floating]

USERS = pd.DataFrame(
    {
        "user": [9, 1, 4, 7, 5],
        "age": pd.array([24, 18, 25, None, 17], dtype="Int16"),
        "gender": ["M", "M", "F", "F", None],
        "occupation": ["writer", "writer", "writer", None, "student"],
    }
)
MOVIES = pd.DataFrame(
    {
        "movie": [8, 2, 3, 5],
        "genres": [["Drama", "War"], ["War"], [], ["Comedy", "Drama"]],
        "release_year": [1989, 1990, 1999, None],
    }
)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Matrix, Matrix]:
    """Who met whom, and side features, of a few rows; row 0 is unknown, so it has neither."""
    n_rows, n_others, n_side = (draw(st.integers(2, 9)) for _ in range(3))
    met = draw(arrays.arrays(bool, (n_rows, n_others)))
    side = draw(arrays.arrays(bool, (n_rows, n_side)))
    met[0] = side[0] = False
    assume(met.any())
    return met.astype(np.float64), side.astype(np.float64)


def low_rank(met: Matrix, side: Matrix, rank: int, seed: int = 0) -> Matrix:
    """Return the features of the rows of `met`, 1 where row and column met."""
    rated, by = (torch.tensor(indices, dtype=torch.int32) for indices in np.nonzero(met))
    of_side = torch.tensor(side, dtype=torch.float32)
    ratings, (n_rows, n_others) = EncodedRatings(rated, by, torch.ones(len(by))), met.shape
    blocks = both_sides(ratings, n_rows, n_others, BlockSettings(), with_values=False)
    return low_rank_features(*blocks, of_side, rank, seed).numpy()


def dense(met: Matrix, side: Matrix) -> Matrix:
    """Return what `low_rank` decomposes, as a matrix (n_rows, n_others + n_side)."""
    n_row, n_column = met.sum(axis=1, keepdims=True), met.sum(axis=0, keepdims=True)
    weighted = met / np.sqrt(np.maximum(n_row, 1)) / np.maximum(n_column, 1) ** 0.3
    ones = np.ones((len(met), 1))
    ones[0] = 0
    return np.hstack([ones, weighted * 2 * np.sqrt(len(met) / (weighted**2).sum()), side])


def in_common(features: Matrix) -> list[list[int]]:
    """Return how many features each two rows share, whatever the order of the columns."""
    assert features.dtype == np.float32
    assert set(np.unique(features)) <= {0, 1}
    shared: list[list[int]] = (features @ features.T).astype(int).tolist()
    return shared


def test_users_share_age_bin_gender_and_occupation() -> None:
    features = user_side_features(USERS, Vocabulary.of([1, 4, 5, 6, 7, 9]))
    assert in_common(features) == [
        # Rows: #na#; 1; 4; 5; 6, who is not in the table; 7; 9.
        [0, 0, 0, 0, 0, 0, 0],
        [0, 3, 1, 0, 0, 0, 3],
        [0, 1, 3, 0, 0, 1, 1],
        [0, 0, 0, 2, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 1, 0],
        [0, 3, 1, 0, 0, 0, 3],
    ]
    assert features.shape[1] == 3 + 2 + 2


def test_movies_share_genres_and_decade() -> None:
    features = movie_side_features(MOVIES, Vocabulary.of([2, 3, 4, 5, 8]))
    assert in_common(features) == [
        # Rows: #na#; 2; 3; 4, which is not in the table; 5; 8.
        [0, 0, 0, 0, 0, 0],
        [0, 2, 1, 0, 0, 1],
        [0, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 2, 1],
        [0, 1, 0, 0, 1, 3],
    ]
    assert features.shape[1] == 3 + 2


def test_the_real_users_and_movies_are_counted_by_their_features(tables: Tables) -> None:
    users, movies = tables.users.to_pandas(), tables.movies.to_pandas()
    known = Vocabulary.of(users["user"]), Vocabulary.of(movies["movie"])
    side = SideFeatures.of(users, movies, *known)
    bins = Counter(sum(age >= bound for bound in (18, 25, 35, 45, 50, 56)) for age in users["age"])
    labels = bins + Counter(users["gender"]) + Counter(users["occupation"])
    assert sorted(side.users.sum(dim=0).tolist()) == sorted(labels.values())
    assert side.users.sum(dim=1).tolist() == [0] + [3] * len(users)
    decades = Counter(year // 10 for year in movies["release_year"].dropna())
    genres = Counter(genre for of_movie in movies["genres"] for genre in of_movie)
    assert sorted(side.items.sum(dim=0).tolist()) == sorted((decades + genres).values())
    expected = movies["genres"].map(len) + movies["release_year"].notna()
    assert side.items.sum(dim=1).tolist() == [0, *expected]


@settings(deadline=None)  # torch's first calls take their time
@given(cases(), st.integers(1, 12))
def test_the_features_are_the_largest_singular_values_times_their_vectors(
    case: tuple[Matrix, Matrix], rank: int
) -> None:
    features, exact = low_rank(*case, rank), np.linalg.svd(dense(*case), compute_uv=False)
    assert features.shape == (len(case[0]), min(rank, len(exact)))
    squares = np.diag(exact[:rank] ** 2)
    np.testing.assert_allclose(features.T @ features, squares, atol=1e-4 * squares.max())


@settings(deadline=None)
@given(cases())
def test_at_full_rank_rows_are_as_alike_as_before(case: tuple[Matrix, Matrix]) -> None:
    features, exact = low_rank(*case, rank=50), dense(*case)
    gram = exact @ exact.T
    np.testing.assert_allclose(features @ features.T, gram, atol=1e-4 * gram.max())
    assert not features[0].any()


@settings(deadline=None)
@given(cases())
def test_who_met_whom_weighs_twice_as_much_as_a_one_hot_feature(
    case: tuple[Matrix, Matrix],
) -> None:
    met, side = case
    features = low_rank(met, np.zeros_like(side), rank=50)
    of_ones = len(met) - 1  # the unknown has no 1
    assert np.linalg.norm(features) ** 2 == pytest.approx(4 * len(met) + of_ones, rel=1e-4)


def test_a_row_of_no_rating_and_no_feature_has_the_1_of_all_and_no_more() -> None:
    met = np.array([[0, 0, 0], [0, 1, 1], [0, 0, 0], [0, 0, 0], [0, 0, 1]])
    side = np.array([[0, 0], [1, 0], [0, 0], [0, 1], [0, 0]])
    sizes = np.linalg.norm(low_rank(met, side, rank=5), axis=1)
    assert sizes[[0, 2]] == pytest.approx([0, 1], abs=1e-6)
    assert sizes[[1, 3, 4]].min() > 1.1


def test_the_movies_of_a_table_in_any_order_have_their_own_features() -> None:
    """A table whose index was not ascending once gave movies each other's genres."""
    known = Vocabulary.of(MOVIES["movie"])
    shuffled = MOVIES.iloc[[2, 0, 3, 1]]
    features = movie_side_features(MOVIES, known)
    assert np.array_equal(movie_side_features(shuffled, known), features)


def test_the_unknown_has_no_features_even_if_it_was_rated() -> None:
    assert not low_rank(np.ones((4, 3)), np.ones((4, 2)), rank=3)[0].any()


def test_the_features_of_the_real_ratings_hold_their_largest_singular_values(
    ratings: pd.DataFrame, tables: Tables
) -> None:
    train = ratings[~official_fold(ratings, "u1")]
    known = Vocabulary.of(train["user"]), Vocabulary.of(train["movie"])
    side = SideFeatures.of(tables.users.to_pandas(), tables.movies.to_pandas(), *known)
    users, items, _ = encoded = EncodedRatings.of(train, *known)
    met = np.zeros((len(known[0]), len(known[1])))
    met[users, items] = 1
    sizes = len(known[0]), len(known[1])
    blocks = both_sides(encoded, *sizes, BlockSettings(), with_values=False)
    features = low_rank_features(*blocks, side.users, rank=64, seed=0)
    exact = np.linalg.svd(dense(met, side.users.numpy()), compute_uv=False)[:64]
    found = features.norm(dim=0).numpy()
    np.testing.assert_allclose(found[:16], exact[:16], rtol=1e-3)
    assert 0.99 < (found**2).sum() / (exact**2).sum() <= 1


def test_the_features_follow_their_seed_and_leave_torchs_own_alone() -> None:
    random = np.random.default_rng(0)
    met, side = random.random((60, 50)).round(), random.random((60, 4)).round()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    one = low_rank(met, side, rank=3, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(8)
    assert np.array_equal(low_rank(met, side, rank=3, seed=0), one)
    other = low_rank(met, side, rank=3, seed=1)
    assert not np.array_equal(other, one)
    assert np.linalg.norm(other) == pytest.approx(np.linalg.norm(one), rel=0.01)
