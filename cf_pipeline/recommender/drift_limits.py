"""Which changes between two sets of ratings are worth a warning.

These stand apart from the code that uses them so that Dagster can show them without importing
pandas.
"""

from collections.abc import Mapping
from typing import NamedTuple

CLEAR = 3.0  # times the noise: what is less may be chance
LEAST_USERS = 10  # of fewer clusters a standard error tells too little
# A change up to here is life. Chosen on MovieLens 100k replayed by time in slices of 500 to 2,000
# ratings: the README says how many honest and how many damaged slices go beyond.
LIMITS: Mapping[str, float] = {
    "ratings_per_day": 2.0,  # doublings, so four times as many or few
    "stars": 0.15,  # share of the ratings; so are the next two
    "unknown_users": 0.1,
    "unknown_movies": 0.1,
    "rmse_of_known": 0.15,  # stars of 1 to 5: quarters of the rating scale
}


class DriftCheck(NamedTuple):
    """What should hold of new ratings, and the names in LIMITS of the changes that tell."""

    rule: str
    changes: tuple[str, ...]


# What all have in common: no warning without clear evidence.
EVIDENCE = (
    f"A warning takes a change of more than {CLEAR:g} times what chance makes of it, with people, "
    f"not ratings, as the sample, and at least {LEAST_USERS} of them before and now."
)
# What takes ratings with timestamps.
OVER_TIME = ("ratings_per_day", "unknown_users", "unknown_movies")
DRIFT_CHECKS: Mapping[str, DriftCheck] = {
    "new_ratings_come_as_often_as_before": DriftCheck(
        "Since the champion's last rating, as many came a day as among its latest: at most "
        f"{2 ** LIMITS['ratings_per_day']:g} times and at least "
        f"{2 ** -LIMITS['ratings_per_day']:.0%} as many. "
        "New ratings from before that day do not count.",
        ("ratings_per_day",),
    ),
    "stars_are_given_as_before": DriftCheck(
        f"At most {LIMITS['stars']:.0%} of the new ratings would need to be others for each to be "
        "given as often as among those the champion saw (total variation distance).",
        ("stars",),
    ),
    "strangers_are_as_few_as_before": DriftCheck(
        "The shares of ratings by people, and of movies, that the champion does not know are at "
        f"most {LIMITS['unknown_users']:.0%} of all ratings higher than they were of its latest "
        "ratings when these came.",
        ("unknown_users", "unknown_movies"),
    ),
    "the_champion_predicts_new_ratings_as_well": DriftCheck(
        "The champion's RMSE on new ratings of people and movies that it knows is at most "
        f"{LIMITS['rmse_of_known']:g} stars (of 1 to 5; of another scale, quarters of it) above "
        "that on its own held-out part.",
        ("rmse_of_known",),
    ),
}
