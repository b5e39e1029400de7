"""Ways to part ratings into a training and a test part.

Each takes ratings in the archive's order and returns `in_test`, a boolean mask (n_ratings,). Of
their columns it reads `user` and `timestamp` at most; users may be categoricals. None leaves a part
empty: it raises ValueError instead.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

Mask: TypeAlias = npt.NDArray[np.bool_]
Order: TypeAlias = npt.NDArray[np.integer]
Fold: TypeAlias = Literal["u1", "u2", "u3", "u4", "u5", "ua", "ub"]
FOLDS: tuple[Fold, ...] = get_args(Fold)
HELD_OUT = 10  # ratings of each user that ua and ub test on


def official_fold(ratings: pd.DataFrame, fold: Fold) -> Mask:
    """Part as MovieLens 100k's own `<fold>.base` and `<fold>.test` do: by the order of u.data.

    u1 … u5 test on the first … last fifth of the rows; ua on each user's first ten rows, ub on the
    ten after them.

    Raises:
        ValueError: there is no such fold.
    """
    if fold not in FOLDS:
        raise ValueError(f"There is no official fold {fold!r}: choose one of {', '.join(FOLDS)}.")
    if fold in ("ua", "ub"):
        first = 0 if fold == "ua" else HELD_OUT
        place, _ = _place_among_users(pd.factorize(ratings["user"])[0])
        in_test = (first <= place) & (place < first + HELD_OUT)
    else:
        n, k = len(ratings), int(fold[1])
        in_test = np.zeros(n, dtype=bool)
        in_test[(k - 1) * n // 5 : k * n // 5] = True
    return _both_parts(in_test, f"fold {fold!r}")


def random_split(ratings: pd.DataFrame, test_fraction: float, seed: int) -> Mask:
    """Test on `test_fraction` of the ratings, each as likely as the other.

    Raises:
        ValueError: test_fraction is not between 0 and 1.
    """
    n_test = _n_test(ratings, test_fraction)
    return _last(np.random.default_rng(seed).permutation(len(ratings)), n_test)


def temporal_split(ratings: pd.DataFrame, test_fraction: float) -> Mask:
    """Test on the latest `test_fraction` of the ratings; of equal timestamps, the last rows.

    Raises:
        ValueError: test_fraction is not between 0 and 1.
    """
    return _last(_by_time(ratings), _n_test(ratings, test_fraction))


def leave_k_out(ratings: pd.DataFrame, k: int, seed: int) -> Mask:
    """Test on k random ratings of each user.

    A user with k ratings or fewer stays in the training part: no user is tested unseen.

    Raises:
        ValueError: k is less than 1.
    """
    return _last_of_each_user(ratings, np.random.default_rng(seed).permutation(len(ratings)), k)


def last_k_per_user(ratings: pd.DataFrame, k: int) -> Mask:
    """Test on each user's k latest ratings; of equal timestamps, the last rows.

    A user with k ratings or fewer stays in the training part: no user is tested unseen.

    Raises:
        ValueError: k is less than 1.
    """
    return _last_of_each_user(ratings, _by_time(ratings), k)


def _by_time(ratings: pd.DataFrame) -> Order:
    timestamps = ratings["timestamp"]
    if n_missing := int(timestamps.isna().sum()):
        raise ValueError(
            f"{n_missing:,} of {len(ratings):,} ratings have no timestamp, and cannot be parted by "
            "time: choose the strategy 'random' or 'leave_k_out', or give every rating its time."
        )
    # With a time zone numpy would have an object of each.
    order: Order = timestamps.astype(np.int64).to_numpy().argsort(kind="stable")
    return order


def _last(order: Order, n_test: int) -> Mask:
    in_test = np.zeros(len(order), dtype=bool)
    in_test[order[len(order) - n_test :]] = True
    return in_test


def _last_of_each_user(ratings: pd.DataFrame, order: Order, k: int) -> Mask:
    if k < 1:
        raise ValueError(f"k is {k}, but each user must have at least 1 rating to test on.")
    place, n_of_user = _place_among_users(pd.factorize(ratings["user"])[0].astype(np.int32)[order])
    in_test = np.zeros(len(order), dtype=bool)
    in_test[order] = (place >= n_of_user - k) & (n_of_user > k)
    return _both_parts(in_test, f"k = {k}")


def _place_among_users(users: Order) -> tuple[Order, Order]:
    """Return each row's place among those of its user, 0 and on, and how many these are, (n,).

    The users are numbered from 0, without a gap.
    """
    counts = np.bincount(users).astype(np.int32)
    place = np.empty(len(users), np.int32)
    before = np.repeat(counts.cumsum() - counts, counts)
    place[users.argsort(kind="stable")] = np.arange(len(users)) - before
    return place, counts[users]


def _n_test(ratings: pd.DataFrame, test_fraction: float) -> int:
    if not 0 < test_fraction < 1:
        raise ValueError(
            f"test_fraction is {test_fraction}, but must lie between 0 and 1: 0.2 tests on a fifth."
        )
    n_test = round(test_fraction * len(ratings))
    if not 0 < n_test < len(ratings):
        raise ValueError(
            f"test_fraction {test_fraction} of {len(ratings)} ratings leaves "
            f"{n_test} to test and {len(ratings) - n_test} to train on: choose another fraction."
        )
    return n_test


def _both_parts(in_test: Mask, setting: str) -> Mask:
    if not in_test.any() or in_test.all():
        raise ValueError(
            f"With {setting}, {in_test.sum()} of {len(in_test)} ratings are in the test part, "
            "which leaves a part empty: choose another strategy, or give more ratings."
        )
    return in_test
