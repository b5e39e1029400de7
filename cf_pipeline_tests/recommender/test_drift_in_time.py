"""What drift is said of when ratings came: their weeks and pace, and which of them are new."""

import json
import time
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from cf_pipeline.recommender.drift import compare, new_ratings
from cf_pipeline.recommender.drift_limits import OVER_TIME
from cf_pipeline_tests.recommender.drifting import MONDAY, judged, made, parted, warnings


def parted_at_random(ratings: pd.DataFrame) -> pd.DataFrame:
    return ratings.assign(part=np.where(ratings.index % 5, "train", "test"))


def test_strangers_before_are_counted_as_they_came() -> None:
    """Ten people a day, each for the first time: all that came were strangers, then as now."""
    ratings = made(30, n_of_user=20, people_a_day=10)
    report = judged(parted(ratings[:400]), ratings[400:])
    assert report.unknown_in_test.user == 0
    assert report.unknown_before is not None
    assert report.unknown_before.user == report.unknown_now.user == 1
    assert report.changes["unknown_users"].size == 0


def test_weeks_begin_on_monday_and_have_each_its_errors() -> None:
    seen = parted(made(10, n_of_user=20, people_a_day=10))
    days = [0, 6.99, 7, 30]  # a Monday, the Sunday after, the next Monday, and a Wednesday
    new = pd.DataFrame(
        {
            "user": [0, 99, 1, 2],
            "movie": [0, 0, 1, 2],
            "rating": [4.0, 5.0, 3.0, 3.0],
            "timestamp": MONDAY + pd.to_timedelta(days, unit="D"),
        }
    )
    predicted_test = np.full((seen["part"] == "test").sum(), 3.0)
    report = compare(seen, new, predicted_test, np.full(4, 3.0))
    assert [week.week for week in report.weeks] == ["1998-01-05", "1998-01-12", "1998-02-02"]
    first, second, _ = report.weeks
    assert (first.all.count, first.all.users) == (2, 2)
    assert first.all.rmse == pytest.approx(2.5**0.5)
    assert (first.known.count, first.known.rmse) == (1, 1.0)
    assert first.known.standard_error is None  # of one person
    assert second.all.rmse == 0


def test_ratings_at_one_time_or_from_before_have_no_pace() -> None:
    ratings = made(40, n_of_user=20, people_a_day=4)
    early = ratings[:200].assign(user=lambda rows: rows["user"] + 100)
    for seen, new in (
        (ratings, early),
        (ratings.assign(timestamp=MONDAY), early.assign(timestamp=MONDAY)),
    ):
        change = judged(parted(seen), new).changes["ratings_per_day"]
        assert change.now is None
        assert change.size is None
        assert not change.warns


def test_ratings_that_were_changed_are_new() -> None:
    seen = made(3, n_of_user=4, people_a_day=1)
    row = seen.index
    changed = seen.assign(
        rating=seen["rating"].where(row != 1, 0.5),
        timestamp=seen["timestamp"].where(row != 5, MONDAY - pd.Timedelta(days=1)),
    )
    later = pd.concat([changed[2:].sample(frac=1, random_state=0), changed[:2]])
    assert new_ratings(later, parted(seen, 1))["user"].sort_values().tolist() == [0, 1]
    assert new_ratings(seen.sample(frac=1, random_state=0), parted(seen, 1)).empty
    assert new_ratings(seen[3:], parted(seen, 1)).empty


def test_without_timestamps_nothing_is_said_of_time_and_all_else_is_the_same() -> None:
    ratings = made(40, n_of_user=20, people_a_day=4)
    seen, new = parted(ratings[:600]), ratings[600:].assign(rating=5.0)
    timed = judged(seen, new)
    nothing = pd.Series(pd.NaT, index=ratings.index, dtype=ratings["timestamp"].dtype)
    for before, now in ((nothing, new["timestamp"]), (seen["timestamp"], nothing)):
        report = judged(
            seen.assign(timestamp=before[seen.index]), new.assign(timestamp=now[new.index])
        )
        json.dumps(asdict(report), allow_nan=False)
        assert report.recent_rows == 0
        assert report.unknown_before is None
        assert report.weeks == ([] if now is nothing else timed.weeks)
        assert warnings(report) == {"stars"} == warnings(timed)
        for name in OVER_TIME:
            assert report.changes[name].size is None
        assert (report.stars, report.new) == (timed.stars, timed.new)
        assert report.unknown_now == timed.unknown_now


def test_ratings_without_a_timestamp_among_others_count_but_over_time() -> None:
    ratings = made(60, n_of_user=20, people_a_day=10)
    seen, new = parted(ratings[:800]), ratings[800:]
    report = judged(
        seen.assign(timestamp=seen["timestamp"].where(seen.index % 2 == 0)),
        new.assign(timestamp=new["timestamp"].where(new.index % 4 == 0)),
    )
    assert report.new_rows == report.new.count == 400
    assert report.recent_rows == sum(week.all.count for week in report.weeks) == 100
    pace = report.changes["ratings_per_day"]
    assert pace.before == pytest.approx(100, rel=0.2)  # half of ten people's 20
    assert pace.now == pytest.approx(50, rel=0.2)


def test_the_same_rating_is_not_new_for_want_of_a_timestamp_or_a_number() -> None:
    seen = made(3, n_of_user=4, people_a_day=1).astype({"user": str, "movie": str})
    seen = seen.assign(timestamp=seen["timestamp"].where(seen.index > 20))
    assert new_ratings(seen.sample(frac=1, random_state=0), parted_at_random(seen)).empty
    changed = seen.assign(user=seen["user"].where(seen.index != 2, "somebody else"))
    assert new_ratings(changed, parted_at_random(seen))["user"].tolist() == ["somebody else"]


def test_a_thousand_weeks_of_ratings_with_ids_that_are_words_are_no_matter() -> None:
    seen, random = parted(made(10, n_of_user=20, people_a_day=10)), np.random.default_rng(0)
    n, n_weeks = 200_000, 1000
    new = pd.DataFrame(
        {
            "user": pd.Categorical(random.integers(0, 500, n).astype(str)),
            "movie": pd.Categorical(random.integers(0, 500, n).astype(str)),
            "rating": random.integers(1, 6, n).astype(float),
            "timestamp": MONDAY + pd.to_timedelta(7 * (np.arange(n) % n_weeks), unit="D"),
        }
    )
    seen = seen.astype({"user": str, "movie": str})
    start = time.perf_counter()
    report = compare(seen, new, np.full((seen["part"] == "test").sum(), 3.0), np.full(n, 3.0))
    assert time.perf_counter() - start < 6  # by a look at all rows for each week 10
    assert [week.all.count for week in report.weeks] == [n // n_weeks] * n_weeks
    assert len(new_ratings(pd.concat([new, seen[:9]]), seen)) == n
