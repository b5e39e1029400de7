"""Drift: real ratings replayed by time, honest and damaged, and whatever else may come."""

import json
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cf_pipeline.recommender.drift import compare
from cf_pipeline.recommender.drift_changes import mean_by_users
from cf_pipeline.recommender.drift_limits import DRIFT_CHECKS, LEAST_USERS, LIMITS
from cf_pipeline.recommender.rating_scale import MOST_LEVELS
from cf_pipeline_tests.recommender.drifting import MONDAY, judged, made, parted, warnings

SEEN = 42_000  # of the ratings by time
NEW = 2_000

Damage = Callable[[pd.DataFrame], pd.DataFrame]


@pytest.fixture(scope="module")
def replayed(ratings: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The first ratings by time, in parts, and those that came next; not to be changed."""
    by_time = ratings.sort_values("timestamp", kind="stable").reset_index(drop=True)
    return parted(by_time[:SEEN]), by_time[SEEN : SEEN + NEW].reset_index(drop=True)


def shuffled(new: pd.DataFrame) -> pd.DataFrame:
    return new.assign(rating=np.random.default_rng(0).permutation(new["rating"]))


def in_a_burst(new: pd.DataFrame) -> pd.DataFrame:
    first = new["timestamp"].min()
    return new.assign(timestamp=first + (new["timestamp"] - first) / 100)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda new: new, set()),
        (shuffled, {"rmse_of_known"}),
        (lambda new: new.assign(rating=6 - new["rating"]), {"stars", "rmse_of_known"}),
        (lambda new: new.assign(rating=5.0), {"stars", "rmse_of_known"}),
        (lambda new: new.assign(user=new["user"] + 10_000), {"unknown_users"}),
        (lambda new: new.assign(movie=new["movie"] + 10_000), {"unknown_movies"}),
        (in_a_burst, {"ratings_per_day"}),
    ],
    ids=["honest", "shuffled", "reversed", "all_five", "new_users", "new_movies", "burst"],
)
def test_damaged_ratings_are_warned_of_by_what_was_damaged(
    replayed: tuple[pd.DataFrame, pd.DataFrame], damage: Damage, expected: set[str]
) -> None:
    seen, new = replayed
    assert warnings(judged(seen, damage(new))) == expected


def test_few_people_warn_of_nothing(replayed: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    seen, new = replayed
    few = new[new["user"].isin(new["user"].unique()[: LEAST_USERS - 1])]
    report = judged(seen, in_a_burst(few.assign(rating=5.0, movie=few["movie"] + 10_000)))
    change = report.changes["unknown_movies"]
    assert (change.now, change.users) == (1, LEAST_USERS - 1)
    assert warnings(report) == set()


def test_the_report_says_what_is_new(replayed: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    seen, new = replayed
    report = judged(seen, new)
    assert report.new_rows == report.recent_rows == report.new.count == NEW
    assert report.new_users == len(set(new["user"]) - set(seen["user"]))
    assert report.new_movies == len(set(new["movie"]) - set(seen["movie"]))
    assert report.held_out.count == (seen["part"] == "test").sum()
    known = new["user"].isin(seen.loc[seen["part"] == "train", "user"])
    assert report.unknown_now.user == pytest.approx(1 - known.mean())
    assert report.new_known.count == round((1 - report.unknown_now.either) * NEW)
    pace = report.changes["ratings_per_day"]
    days = (new["timestamp"].iloc[-1] - seen["timestamp"].iloc[-1]) / pd.Timedelta(days=1)
    assert pace.now == pytest.approx(NEW / days, rel=0.01)


def test_what_is_predicted_beyond_the_scale_is_clamped() -> None:
    seen = parted(made(10, n_of_user=20, people_a_day=10))
    new = made(11, n_of_user=1, people_a_day=1).assign(rating=5.0)
    n_test = (seen["part"] == "test").sum()
    assert compare(seen, new, np.full(n_test, 9.0), np.full(11, 5.5)).new.rmse == 0


@pytest.mark.parametrize(("low", "high"), [(0, 100), (-10, 10), (0.5, 5)])
def test_what_warns_does_so_on_every_scale(
    replayed: tuple[pd.DataFrame, pd.DataFrame], low: float, high: float
) -> None:
    """Of ids that are strings, and ratings of which hardly two are the same."""
    random = np.random.default_rng(0)

    def moved(ratings: pd.DataFrame) -> pd.DataFrame:
        noise = random.uniform(0, 0.2, len(ratings))
        rating = low + (ratings["rating"] - 1 + noise) * (high - low) / 4.2
        return ratings.assign(rating=rating).astype({"user": str, "movie": str})

    seen, new = (moved(ratings) for ratings in replayed)
    report = judged(seen, new)
    assert warnings(report) == set()
    assert len(report.stars) == MOST_LEVELS
    assert warnings(judged(seen, shuffled(new))) == {"rmse_of_known"}
    assert report.changes["rmse_of_known"].limit == pytest.approx(0.15 * (high - low) / 4, rel=0.01)
    reverse = new.assign(rating=low + high - new["rating"])
    assert warnings(judged(seen, reverse)) == {"stars", "rmse_of_known"}


def test_events_change_in_who_and_when_alone() -> None:
    ratings = made(60, n_of_user=20, people_a_day=10).assign(rating=1.0)
    report = judged(parted(ratings[:800]), ratings[800:])
    assert report.new.rmse == report.held_out.rmse == 0
    assert report.stars == [{"rating": 1, "before": 1, "now": 1}]
    assert not {"stars", "rmse_of_known"} & warnings(report)


def test_nothing_to_compare_is_refused() -> None:
    ratings = made(3, n_of_user=4, people_a_day=1)
    seen = parted(ratings, 1)
    nothing = np.array([])
    for has, new in ((seen, ratings[:0]), (seen.assign(part="train"), ratings)):
        with pytest.raises(ValueError, match=r"There are \d+ new ratings, and the champion saw"):
            compare(has, new, nothing, nothing)


def test_standard_errors_hold_what_they_promise() -> None:
    """Two of them hold the true mean about 19 times in 20, though each person rates alike."""
    random = np.random.default_rng(0)
    users = pd.Series(np.repeat(np.arange(60), random.integers(1, 40, 60))).astype(int)
    held = 0
    for _ in range(500):
        own = random.normal(size=60)  # everybody's mean
        values = own[users.to_numpy()] + random.normal(size=len(users))
        mean, error = mean_by_users(values, users)
        held += int(abs(mean) < 2 * error)
    assert 0.9 < held / 500 < 0.98


@given(st.lists(st.tuples(st.floats(-5, 5), st.integers(0, 4)), min_size=1, max_size=30))
def test_standard_errors_are_as_defined(rows: list[tuple[float, int]]) -> None:
    values, users = np.array([value for value, _ in rows]), pd.Series([user for _, user in rows])
    mean, error = mean_by_users(values, users)
    groups = users.nunique()
    sums = pd.Series(values - values.mean()).groupby(users).sum()
    assert mean == pytest.approx(values.mean())
    if groups == 1:
        assert np.isnan(error)
    else:
        expected = np.sqrt(groups / (groups - 1) * (sums**2).sum()) / len(values)
        assert error == pytest.approx(expected, abs=1e-12)


RATINGS = st.lists(
    st.tuples(st.integers(0, 14), st.integers(0, 9), st.integers(1, 5), st.integers(0, 10**7)),
    min_size=1,
    max_size=40,
)


def frame(rows: list[tuple[int, int, int, int]]) -> pd.DataFrame:
    ratings = pd.DataFrame(rows, columns=["user", "movie", "rating", "timestamp"])
    seconds = pd.to_timedelta(ratings["timestamp"], unit="s")
    return ratings.assign(rating=ratings["rating"].astype(float), timestamp=MONDAY + seconds)


@given(RATINGS, RATINGS, RATINGS)
def test_any_ratings_make_a_report_that_is_json_and_adds_up(
    train: list[tuple[int, int, int, int]],
    test: list[tuple[int, int, int, int]],
    rows: list[tuple[int, int, int, int]],
) -> None:
    parts = [frame(train).assign(part="train"), frame(test).assign(part="test")]
    seen, new = pd.concat(parts, ignore_index=True), frame(rows)
    predicted = np.linspace(1, 5, len(new))
    report = compare(seen, new, np.full(len(test), 3.0), predicted)
    json.dumps(asdict(report), allow_nan=False)
    assert sum(week.all.count for week in report.weeks) == len(new)
    assert sum(week.known.count for week in report.weeks) == report.new_known.count
    squares = sum(week.all.count * (week.all.rmse or 0) ** 2 for week in report.weeks)
    assert report.new.rmse == pytest.approx((squares / len(new)) ** 0.5)
    for key in ("before", "now"):
        assert sum(row[key] for row in report.stars) == pytest.approx(1)
    assert 0 <= (report.changes["stars"].size or 0) <= 1
    assert report.unknown_before is not None
    for unknown in (report.unknown_now, report.unknown_before, report.unknown_in_test):
        of = unknown.user + unknown.movie - unknown.both
        assert unknown.either == pytest.approx(of)
    order = np.random.default_rng(0).permutation(len(new))
    reordered = compare(seen, new.iloc[order], np.full(len(test), 3.0), predicted[order])
    assert json.dumps(rounded(asdict(reordered))) == json.dumps(rounded(asdict(report)))


def rounded(value: object) -> object:
    """Return the value with floats rounded: sums in another order differ in the last digit."""
    if isinstance(value, dict):
        return {key: rounded(of) for key, of in value.items()}
    if isinstance(value, list):
        return [rounded(of) for of in value]
    return round(value, 6) + 0.0 if isinstance(value, float) else value


def test_every_change_has_a_check_that_says_its_limit() -> None:
    assert {name for check in DRIFT_CHECKS.values() for name in check.changes} == set(LIMITS)
    for check in DRIFT_CHECKS.values():
        assert any(character.isdigit() for character in check.rule), check
