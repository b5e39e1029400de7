"""Ratings for tests of drift, and what a simple champion finds of those that came since."""

import numpy as np
import pandas as pd

from cf_pipeline.recommender import metrics
from cf_pipeline.recommender.drift import DriftReport, compare
from cf_pipeline.recommender.drift_limits import LIMITS
from cf_pipeline.recommender.splits import last_k_per_user
from cf_pipeline_tests.recommender.simulation import encoded

MONDAY = pd.Timestamp("1998-01-05", tz="UTC")


def made(n_users: int, n_of_user: int, people_a_day: int) -> pd.DataFrame:
    """Ratings of movies at random, each person's at once."""
    user = np.repeat(np.arange(n_users), n_of_user)
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "user": user,
            "movie": np.concatenate([random.permutation(50)[:n_of_user] for _ in range(n_users)]),
            "rating": random.integers(1, 6, len(user)).astype(float),
            "timestamp": MONDAY + pd.to_timedelta(user / people_a_day, unit="D"),
        }
    )


def parted(ratings: pd.DataFrame, k: int = 10) -> pd.DataFrame:
    return ratings.assign(part=np.where(last_k_per_user(ratings, k), "test", "train"))


def judged(seen: pd.DataFrame, new: pd.DataFrame) -> DriftReport:
    """Compare as a simple champion would: it predicts the biases of users and movies."""
    parts = seen[seen["part"] == "train"], seen[seen["part"] == "test"]
    train, *others = encoded(*parts, new)
    return compare(seen, new, *(metrics.regularised_bias(train, rows) for rows in others))


def warnings(report: DriftReport) -> set[str]:
    assert set(report.changes) == set(LIMITS)
    return {name for name, change in report.changes.items() if change.warns}
