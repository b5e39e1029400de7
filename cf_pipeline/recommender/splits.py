"""Ways to part ratings into a training and a test part.

Each takes ratings (columns user, movie, rating, timestamp) in the archive's order and returns
`in_test`, a boolean mask (n_ratings,). None leaves a part empty: it raises ValueError instead.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd

Mask: TypeAlias = npt.NDArray[np.bool_]
Order: TypeAlias = npt.NDArray[np.integer]
Fold: TypeAlias = Literal["u1", "u2", "u3", "u4", "u5", "ua", "ub"]
Part: TypeAlias = Literal["train", "test"]
FOLDS: tuple[Fold, ...] = get_args(Fold)
PARTS: tuple[Part, ...] = get_args(Part)
SETTINGS = b"split"
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
        place = ratings.groupby("user").cumcount().to_numpy()
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


def with_part(ratings: pa.Table, in_test: Mask) -> pa.Table:
    """Return the ratings with a column `part`, 'train' or 'test'."""
    part = pa.array(np.where(in_test, "test", "train"), pa.string())
    return ratings.append_column(pa.field("part", pa.string(), nullable=False), part)


def with_settings(parts: pa.Table, settings: Mapping[str, object]) -> pa.Table:
    """Return the table of a `with_part` with the settings of the split in its schema's metadata."""
    return parts.replace_schema_metadata({SETTINGS: json.dumps(settings)})


def read_settings(path: Path) -> dict[str, object]:
    """Return the settings of the split from the parquet file of a `with_settings` table."""
    settings: dict[str, object] = json.loads(pq.read_schema(path).metadata[SETTINGS])
    return settings


def read_part(path: Path, part: Part) -> pd.DataFrame:
    """Return one part's ratings in their order from the parquet file of a `with_part` table.

    Raises:
        ValueError: there is no such part.
    """
    if part not in PARTS:
        raise ValueError(f"There is no part {part!r}: choose one of {', '.join(PARTS)}.")
    ratings = pq.read_table(path).to_pandas()
    rows: pd.DataFrame = ratings[ratings["part"] == part]
    return rows.drop(columns="part").reset_index(drop=True)


def _by_time(ratings: pd.DataFrame) -> Order:
    return ratings["timestamp"].argsort(kind="stable").to_numpy()


def _last(order: Order, n_test: int) -> Mask:
    in_test = np.zeros(len(order), dtype=bool)
    in_test[order[len(order) - n_test :]] = True
    return in_test


def _last_of_each_user(ratings: pd.DataFrame, order: Order, k: int) -> Mask:
    if k < 1:
        raise ValueError(f"k is {k}, but each user must have at least 1 rating to test on.")
    users = ratings["user"].iloc[order]
    of_user = users.groupby(users)
    in_test = np.zeros(len(order), dtype=bool)
    in_test[order] = (of_user.cumcount(ascending=False) < k) & (of_user.transform("size") > k)
    return _both_parts(in_test, f"k = {k}")


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
