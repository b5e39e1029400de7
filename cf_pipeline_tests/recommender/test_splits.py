"""The splits, on the real ratings and on small ones of every shape."""

import hashlib
from collections.abc import Callable
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cf_pipeline.recommender import splits
from cf_pipeline.recommender.splits import Fold, Mask

# The SHA-256 of each file that MovieLens 100k ships: u1.base, u1.test, u2.base, ...
PUBLISHED: dict[Fold, tuple[str, str]] = {
    "u1": (
        "ce253ec86c448b44fb3ba9a30d12dcfc2e9210cbde71efada3730c22e9ac212a",
        "18c6014a4b2c7324f250a63f8904a7b16b2b19f911129e346141507b0cbac950",
    ),
    "u2": (
        "6c06f0b5df4b256da1a994f3ac66edc8da4d3f09bc9282df6b14d893366d703e",
        "4de658d1e04ed9104629509a2e2528fce833ac8e048280183f1df167632038c3",
    ),
    "u3": (
        "afdc155c291c6edc41c0407e39d7462eb98d341e064f0b0a12175b80b3c4af5d",
        "0f548b51c78327de4c156461d3e430b7e5579fe2b5681586a59416e48fd35f6d",
    ),
    "u4": (
        "219f0f4d40dfe9c5141d425f53fa91ee23ed275f14e280bbf1b50117afb064ca",
        "7c02ad0a1e7ab1083c8b9d4b627203a051dd7b5eab46d99fa44de33470de8db9",
    ),
    "u5": (
        "a9574e59ce961eec2121627760b6e9b0974ce1637b3fe69ac32cb14a4bfab485",
        "351cc52e0d15b6c721466276fc24671d40936899e3d01fadeaf312915b8c5634",
    ),
    "ua": (
        "67b5bcdb380c29f85d56a012ecd88612ae020f30a6730d117a334ee8203b91f2",
        "d0497e202417720f57a184ec8c66be2d1afa4ff41bb53787c57b28d6bf79bc42",
    ),
    "ub": (
        "237254d253b6ad7de84f919d041055428646254f34ed8f562703c899430cd881",
        "d54a72d05730d5892062734b2bec73e976f9b713d18c828a18b968d6cce442da",
    ),
}


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """Ratings of few users, so that some have many and some one, with timestamps that tie."""
    users = draw(st.lists(st.integers(1, 5), min_size=5, max_size=60))
    seconds = draw(st.lists(st.integers(0, 9), min_size=len(users), max_size=len(users)))
    return pd.DataFrame(
        {
            "user": np.array(users, dtype=np.int32),
            "movie": np.arange(len(users), dtype=np.int32),
            "rating": np.float32(3),
            "timestamp": pd.to_datetime(np.array(seconds), unit="s", utc=True),
        }
    )


def sha256_as_u_data(part: pd.DataFrame) -> str:
    """Return the digest of the part as its file in the archive: sorted, tab-separated integers."""
    part = part.sort_values(["user", "movie"]).astype({"rating": int})
    part["timestamp"] = part["timestamp"].astype("datetime64[s, UTC]").astype("int64")
    written = part.to_csv(sep="\t", header=False, index=False, lineterminator="\n")
    return hashlib.sha256(written.encode()).hexdigest()


@pytest.mark.parametrize("fold", PUBLISHED)
def test_official_folds_are_the_published_files(ratings: pd.DataFrame, fold: Fold) -> None:
    in_test = splits.official_fold(ratings, fold)
    parts = sha256_as_u_data(ratings[~in_test]), sha256_as_u_data(ratings[in_test])
    assert parts == PUBLISHED[fold]


def test_every_official_fold_is_known() -> None:
    assert set(splits.FOLDS) == set(PUBLISHED) == set(get_args(Fold))


@given(tables())
def test_the_five_folds_test_each_rating_once(ratings: pd.DataFrame) -> None:
    times_tested = sum(splits.official_fold(ratings, fold).astype(int) for fold in splits.FOLDS[:5])
    assert np.all(times_tested == 1)


@given(tables(), st.floats(0.2, 0.8), st.integers(0, 2**32))
def test_a_random_split_has_its_size_and_follows_its_seed(
    ratings: pd.DataFrame, test_fraction: float, seed: int
) -> None:
    in_test = splits.random_split(ratings, test_fraction, seed)
    assert in_test.dtype == bool
    assert abs(in_test.sum() - test_fraction * len(ratings)) <= 0.5
    assert np.array_equal(in_test, splits.random_split(ratings, test_fraction, seed))


def test_seeds_differ(ratings: pd.DataFrame) -> None:
    def share_tested_twice(one: Mask, other: Mask) -> float:
        return float((one & other).sum() / one.sum())

    randomly = [splits.random_split(ratings, 0.2, seed) for seed in (0, 1)]
    assert share_tested_twice(*randomly) == pytest.approx(0.2, abs=0.02)
    by_user = [splits.leave_k_out(ratings, 10, seed) for seed in (0, 1)]
    assert share_tested_twice(*by_user) < 0.3


@given(tables(), st.floats(0.2, 0.8))
def test_a_temporal_split_tests_on_the_latest_ratings(
    ratings: pd.DataFrame, test_fraction: float
) -> None:
    in_test = splits.temporal_split(ratings, test_fraction)
    assert abs(in_test.sum() - test_fraction * len(ratings)) <= 0.5
    last_trained = max(zip(ratings["timestamp"][~in_test], np.flatnonzero(~in_test), strict=True))
    first_tested = min(zip(ratings["timestamp"][in_test], np.flatnonzero(in_test), strict=True))
    assert last_trained < first_tested


@given(tables(), st.integers(1, 4), st.integers(0, 2**32))
def test_leave_k_out_tests_k_ratings_of_each_user_with_more(
    ratings: pd.DataFrame, k: int, seed: int
) -> None:
    assume(ratings["user"].value_counts().max() > k)
    in_test = splits.leave_k_out(ratings, k, seed)
    for _, of_user in ratings.groupby("user"):
        assert in_test[of_user.index].sum() == (k if len(of_user) > k else 0)
    assert np.array_equal(in_test, splits.leave_k_out(ratings, k, seed))


@given(tables(), st.integers(1, 4))
def test_last_k_per_user_tests_each_users_latest_ratings(ratings: pd.DataFrame, k: int) -> None:
    assume(ratings["user"].value_counts().max() > k)
    in_test = splits.last_k_per_user(ratings, k)
    for _, of_user in ratings.groupby("user"):
        latest = sorted(zip(of_user["timestamp"], of_user.index, strict=True))[-k:]
        expected = {row for _, row in latest} if len(of_user) > k else set()
        assert set(of_user.index[in_test[of_user.index]]) == expected


def test_leave_k_out_draws_every_rating_alike() -> None:
    ratings = pd.DataFrame({"user": [1] * 5})
    drawn = sum(splits.leave_k_out(ratings, 2, seed).astype(int) for seed in range(500))
    assert drawn == pytest.approx(200, abs=45)  # four standard deviations


def test_an_index_of_the_table_is_not_looked_at(ratings: pd.DataFrame) -> None:
    few = ratings.head(1000)
    reindexed = few.set_axis(few.index[::-1], axis=0)
    strategies: list[Callable[[pd.DataFrame], Mask]] = [
        lambda table: splits.official_fold(table, "ua"),
        lambda table: splits.random_split(table, 0.2, 0),
        lambda table: splits.leave_k_out(table, 2, 0),
        lambda table: splits.temporal_split(table, 0.2),
        lambda table: splits.last_k_per_user(table, 2),
    ]
    for split in strategies:
        assert np.array_equal(split(few), split(reindexed))


def test_ratings_without_a_timestamp_are_not_parted_by_time(ratings: pd.DataFrame) -> None:
    few = ratings.head(100).copy()
    few.loc[3:5, "timestamp"] = pd.NaT
    cause = r"3 of 100 ratings have no timestamp.*'random' or"
    with pytest.raises(ValueError, match=cause):
        splits.temporal_split(few, 0.2)
    with pytest.raises(ValueError, match=cause):
        splits.last_k_per_user(few, 1)


@given(tables(), st.integers(1, 4))
def test_users_may_be_of_any_kind(ratings: pd.DataFrame, k: int) -> None:
    assume(ratings["user"].value_counts().max() > k)
    names = ratings["user"].map("user {}".format)
    last, drawn = splits.last_k_per_user(ratings, k), splits.leave_k_out(ratings, k, 0)
    for users in (names, names.astype("category"), ratings["user"].astype("category")):
        same = ratings.assign(user=users)
        assert np.array_equal(splits.last_k_per_user(same, k), last)
        assert np.array_equal(splits.leave_k_out(same, k, 0), drawn)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.2, 20, float("nan")])
def test_a_fraction_outside_0_and_1_is_refused(ratings: pd.DataFrame, fraction: float) -> None:
    cause = rf"test_fraction is {fraction}, .*between 0 and 1"
    with pytest.raises(ValueError, match=cause):
        splits.random_split(ratings, fraction, 0)
    with pytest.raises(ValueError, match=cause):
        splits.temporal_split(ratings, fraction)


def test_a_split_that_leaves_a_part_empty_is_refused(ratings: pd.DataFrame) -> None:
    few = ratings.head(4)
    with pytest.raises(ValueError, match=r"test_fraction 0\.1 of 4 ratings leaves 0 to test"):
        splits.random_split(few, 0.1, 0)
    with pytest.raises(ValueError, match=r"k = 10, 0 of 4 ratings"):
        splits.leave_k_out(few, 10, 0)
    with pytest.raises(ValueError, match=r"fold 'ua', 4 of 4 ratings"):
        splits.official_fold(few, "ua")


def test_wrong_settings_are_refused(ratings: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"k is 0, .* at least 1"):
        splits.last_k_per_user(ratings, 0)
    with pytest.raises(ValueError, match=r"k is -1, .* at least 1"):
        splits.leave_k_out(ratings, -1, 0)
    with pytest.raises(ValueError, match=r"no official fold 'u6': choose one of u1, "):
        splits.official_fold(ratings, "u6")  # type: ignore[arg-type]
