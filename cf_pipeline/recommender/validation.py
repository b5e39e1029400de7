"""What must hold of ratings before anything is learned from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

RATING_SCALE = (1.0, 5.0)  # stars, in whole steps
FIRST_RATING = datetime(1995, 1, 1, tzinfo=UTC)  # MovieLens opened in that year
EXAMPLES = 5

RATINGS_CHECKS: Mapping[str, str] = {
    "ratings_are_there": "There is at least one rating.",
    "ratings_have_no_duplicates": "No user rates a movie twice.",
    "ratings_are_on_the_scale": "Every rating is a whole number of stars from 1 to 5.",
    "ratings_have_possible_timestamps": "No rating is older than MovieLens (1995) or yet to come.",
}


@dataclass(frozen=True)
class Fault:
    """One rule of RATINGS_CHECKS that is broken: by how many ratings, and the first few of them."""

    count: int
    examples: list[dict[str, object]]


class BadRatingsError(ValueError):
    """Ratings break rules of RATINGS_CHECKS; `faults` maps each one's name to what was found."""

    def __init__(self, faults: Mapping[str, Fault]) -> None:
        super().__init__(
            " ".join(
                f"{name}: {RATINGS_CHECKS[name]} {fault.count} do not hold to it, "
                f"for example {fault.examples}."
                for name, fault in faults.items()
            )
            + " Mend the ratings at their source, then materialize movielens_archive again."
        )
        self.faults = dict(faults)


def check_ratings(ratings: pd.DataFrame) -> None:
    """Hold ratings (user, movie, rating, timestamp) to every rule of RATINGS_CHECKS.

    Raises:
        BadRatingsError: a rule is broken; it says which, how often, and where.
    """
    low, high = RATING_SCALE
    rating, timestamp = ratings["rating"], ratings["timestamp"]
    broken: dict[str, pd.Series[bool]] = {
        "ratings_have_no_duplicates": ratings.duplicated(["user", "movie"], keep=False),
        # Written so that NaN is off the scale.
        "ratings_are_on_the_scale": ~(rating.between(low, high) & (rating % 1 == 0)),
        "ratings_have_possible_timestamps": ~timestamp.between(FIRST_RATING, datetime.now(UTC)),
    }
    faults = {
        name: Fault(int(rows.sum()), _examples(ratings[rows]))
        for name, rows in broken.items()
        if rows.any()
    }
    if ratings.empty:
        faults["ratings_are_there"] = Fault(0, [])
    if faults:
        raise BadRatingsError(faults)


def _examples(ratings: pd.DataFrame) -> list[dict[str, object]]:
    first = ratings.head(EXAMPLES).assign(row=lambda frame: frame.index)
    return [
        {str(key): str(value) for key, value in row.items()} for row in first.to_dict("records")
    ]
