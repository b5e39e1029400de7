"""What must hold of ratings before anything is learned from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cf_pipeline.recommender.datasets import STARS, Scale

if TYPE_CHECKING:
    import pandas as pd

FIRST_RATING = datetime(1995, 1, 1, tzinfo=UTC)  # MovieLens opened in that year
EXAMPLES = 5
DUPLICATES = "ratings_have_no_duplicates"
ON_SCALE = "ratings_are_on_the_scale"
GREATEST = 1e15  # far below the root of float32's greatest number: squares are added up

RATINGS_CHECKS: Mapping[str, str] = {
    "ratings_are_there": "There is at least one rating.",
    DUPLICATES: "No user rates a movie twice.",
    ON_SCALE: "Every rating is on the dataset's scale, such as whole stars from 1 to 5; without "
    f"one it is a number from -{GREATEST:g} to {GREATEST:g}.",
    "ratings_have_possible_timestamps": "No rating is yet to come, and none of MovieLens is "
    "older than it (1995).",
}


@dataclass(frozen=True)
class Fault:
    """One rule of RATINGS_CHECKS that is broken: by how many ratings, and the first few of them."""

    count: int
    examples: list[dict[str, object]]


class BadRatingsError(ValueError):
    """Ratings break rules of RATINGS_CHECKS; `faults` maps each one's name to what was found.

    The message says what the scale is, where there is one.
    """

    def __init__(self, faults: Mapping[str, Fault], scale: Scale | None) -> None:
        on = f" The scale is {scale.low:g} to {scale.high:g}." if scale else ""
        super().__init__(
            " ".join(
                f"{name}: {RATINGS_CHECKS[name]}{on if name == ON_SCALE else ''} "
                f"{fault.count} do not hold to it, for example {fault.examples}."
                for name, fault in faults.items()
            )
            + " Mend the ratings at their source, then materialize movielens_archive again."
        )
        self.faults = dict(faults)


def check_ratings(
    ratings: pd.DataFrame,
    scale: Scale | None = STARS,
    first: datetime | None = FIRST_RATING,
) -> None:
    """Hold ratings (user, movie, rating, timestamp) to every rule of RATINGS_CHECKS.

    Without a scale every finite rating is on it, and without a `first` time there is no oldest one.
    A timestamp may be missing.

    Raises:
        BadRatingsError: a rule is broken; it says which, how often, and where.
    """
    twice = ratings.duplicated(["user", "movie"], keep=False)
    broken = {DUPLICATES: twice, **broken_rows(ratings, scale, first)}
    faults = {
        name: Fault(int(rows.sum()), examples(ratings[rows]))
        for name, rows in broken.items()
        if rows.any()
    }
    refuse(faults, len(ratings), scale)


def broken_rows(
    ratings: pd.DataFrame, scale: Scale | None, first: datetime | None
) -> dict[str, pd.Series[bool]]:
    """Return, by rule, which rows break those rules that a row breaks by itself."""
    rating, timestamp = ratings["rating"], ratings["timestamp"]
    if scale:
        on_scale = rating.between(scale.low, scale.high)
        if scale.step:
            on_scale &= (rating - scale.low) % scale.step == 0
    else:
        on_scale = rating.abs() <= GREATEST
    possible = timestamp <= datetime.now(UTC)
    if first:
        possible &= timestamp >= first
    return {
        # Written so that NaN is off the scale.
        ON_SCALE: ~on_scale,
        "ratings_have_possible_timestamps": ~(possible | timestamp.isna()),
    }


def refuse(faults: Mapping[str, Fault], n_ratings: int, scale: Scale | None) -> None:
    """Raise BadRatingsError if there are faults, or no ratings."""
    if not n_ratings:
        faults = {**faults, "ratings_are_there": Fault(0, [])}
    if faults:
        raise BadRatingsError(faults, scale)


def examples(ratings: pd.DataFrame) -> list[dict[str, object]]:
    """Return the first few ratings for a Fault; the frame's index are their rows."""
    first = ratings.head(EXAMPLES).assign(row=lambda frame: frame.index)
    return [
        {str(key): str(value) for key, value in row.items()} for row in first.to_dict("records")
    ]
