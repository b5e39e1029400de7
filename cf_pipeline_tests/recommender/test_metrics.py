"""The metrics and baselines, against the same thing computed row by row."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cf_pipeline.recommender import metrics
from cf_pipeline.recommender.metrics import Errors, EvaluationReport, Ratings
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.splits import official_fold
from cf_pipeline_tests.recommender.simulation import encoded

STARS = (1.0, 5.0)
ERRORS = arrays.arrays(
    np.float64, st.integers(1, 30), elements=st.floats(-4, 4, allow_subnormal=False)
)


def some_ratings(seed: int, n: int) -> pd.DataFrame:
    """Return n ratings of 12 users and 9 movies."""
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "user": random.integers(1, 13, n).astype(np.int32),
            "movie": random.integers(1, 10, n).astype(np.int32),
            "rating": random.integers(1, 6, n).astype(np.float32),
        }
    )


TRAIN = some_ratings(seed=0, n=25)
COLD = pd.DataFrame({"user": [3, 99, 99], "movie": [98, 3, 98], "rating": [2.0, 3.0, 5.0]})
TEST = pd.concat([some_ratings(seed=1, n=15), COLD], ignore_index=True)


Predict = Callable[[pd.DataFrame, pd.DataFrame], Ratings]


def of_frames(predict: Callable[[EncodedRatings, EncodedRatings], Ratings]) -> Predict:
    """Return a baseline that takes raw ids."""
    return lambda train, test: predict(*encoded(train, test))


def evaluate(train: pd.DataFrame, test: pd.DataFrame, predicted: Ratings) -> EvaluationReport:
    parts = encoded(train, test)
    return metrics.evaluate(parts[0], parts[1], predicted, STARS)


BASELINES = {name: of_frames(predict) for name, predict in metrics.BASELINES.items()}


@pytest.fixture(scope="module")
def u1(ratings: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    in_test = official_fold(ratings, "u1")
    return ratings[~in_test], ratings[in_test]


def test_rmse_and_mae_by_hand() -> None:
    assert metrics.rmse([3, 4, 5, 1], [3, 2, 4, 3]) == 1.5
    assert metrics.mae([3, 4, 5, 1], [3, 2, 4, 3]) == 1.25


@given(ERRORS)
def test_mae_is_at_most_rmse_is_at_most_the_largest_error(errors: Ratings) -> None:
    actual = np.full(len(errors), 3.0)
    mae, rmse = metrics.mae(actual, actual + errors), metrics.rmse(actual, actual + errors)
    assert 0 <= mae <= rmse + 1e-12
    assert rmse <= np.abs(errors).max() + 1e-12


def test_float32_predictions_are_summed_in_float64() -> None:
    actual = np.full(10_000, 3.0, dtype=np.float32)
    predicted = np.random.default_rng(0).uniform(1, 5, len(actual)).astype(np.float32)
    squares = ((float(prediction) - 3) ** 2 for prediction in predicted)
    expected = math.sqrt(math.fsum(squares) / len(actual))
    assert metrics.rmse(actual, predicted) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("metric", [metrics.rmse, metrics.mae])
def test_what_cannot_be_judged_is_refused(
    metric: Callable[[list[float], list[float]], float],
) -> None:
    with pytest.raises(ValueError, match=r"shape \(2,\) and predictions of shape \(1,\): predict"):
        metric([1, 2], [1])
    with pytest.raises(ValueError, match="0 ratings to judge by: choose"):
        metric([], [])
    with pytest.raises(ValueError, match="1 rows are not finite, first row 1 .*prediction nan"):
        metric([1, 2], [1, np.nan])


def test_the_means_are_the_means_of_the_training_rows() -> None:
    overall = TRAIN["rating"].astype(float).mean()
    assert BASELINES["global_mean"](TRAIN, TEST) == pytest.approx([overall] * len(TEST))
    for column in ("user", "movie"):
        expected = []
        for key in TEST[column]:
            known = TRAIN["rating"][TRAIN[column] == key].tolist()
            expected.append(sum(known) / len(known) if known else overall)
        assert overall in expected
        assert BASELINES[f"{column}_mean"](TRAIN, TEST) == pytest.approx(expected)


def test_the_biases_solve_their_normal_equations() -> None:
    users, movies = sorted(set(TRAIN["user"])), sorted(set(TRAIN["movie"]))

    def design(rows: pd.DataFrame) -> Ratings:
        columns = [rows["user"] == key for key in users] + [rows["movie"] == key for key in movies]
        return np.stack(columns, axis=1).astype(float)

    one_hot, mean = design(TRAIN), TRAIN["rating"].astype(float).mean()
    gram = one_hot.T @ one_hot + metrics.RIDGE * np.eye(one_hot.shape[1])
    biases = np.linalg.solve(gram, one_hot.T @ (TRAIN["rating"] - mean))
    expected = mean + design(TEST) @ biases
    assert BASELINES["regularised_bias"](TRAIN, TEST) == pytest.approx(expected, abs=1e-6)


def test_no_baseline_looks_at_the_test_ratings_or_the_order_of_rows() -> None:
    shuffled = TRAIN.sample(frac=1, random_state=0)
    for predict in BASELINES.values():
        blind = predict(shuffled, TEST.assign(rating=np.nan))
        assert blind == pytest.approx(predict(TRAIN, TEST), abs=1e-9)


def test_training_ratings_are_counted() -> None:
    train, test = encoded(TRAIN, TEST)
    for column, trained, tested in (
        ("user", train.users, test.users),
        ("movie", train.items, test.items),
    ):
        expected = [(TRAIN[column] == key).sum() for key in TEST[column]]
        assert metrics.training_ratings(trained, tested).tolist() == expected


def test_each_baseline_betters_the_one_before_on_real_ratings(
    u1: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    train, test = u1
    report = evaluate(train, test, BASELINES["user_mean"](train, test))
    errors = [report.baselines[name].rmse or 0 for name in metrics.BASELINES]
    assert errors == sorted(errors, reverse=True)
    assert report.rmse == report.baselines["user_mean"].rmse
    assert report.mae == report.baselines["user_mean"].mae


def test_a_report_groups_the_errors_as_a_loop_over_the_rows_does(
    u1: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    train, test = u1[0], u1[1].head(3000)
    predicted = BASELINES["movie_mean"](train, test)
    report = evaluate(train, test, predicted)
    errors = predicted - test["rating"].to_numpy()
    counts = {key: train[key].value_counts().to_dict() for key in ("user", "movie")}
    groups = [
        {key: counts[key].get(row[key], 0) for key in ("user", "movie")}
        for row in test.to_dict("records")
    ]
    bounds = [*metrics.ACTIVITY_GROUPS.values(), 10**9]
    for key, grouped in (
        ("user", report.by_user_training_ratings),
        ("movie", report.by_movie_training_ratings),
    ):
        for place, found in enumerate(grouped.values()):
            lowest, highest = bounds[place], bounds[place + 1] - 1
            of_group = [lowest <= group[key] <= highest for group in groups]
            assert_errors_are(found, errors[of_group])
    assert_errors_are(report.cold, errors[[0 in group.values() for group in groups]])
    assert_errors_are(report.warm, errors[[0 not in group.values() for group in groups]])
    assert report.cold.count > 0
    assert report.n_test == len(test) == report.cold.count + report.warm.count


def assert_errors_are(found: Errors, errors: Ratings) -> None:
    if len(errors) == 0:
        assert found == Errors(0, None, None)
    else:
        assert found.count == len(errors)
        assert found.rmse == pytest.approx((sum(errors**2) / len(errors)) ** 0.5)
        assert found.mae == pytest.approx(sum(abs(errors)) / len(errors))


def test_predictions_are_clamped_to_the_scale() -> None:
    test = TEST.assign(rating=5.0)
    report = evaluate(TRAIN, test, np.full(len(test), 5.4))
    assert report.rmse == 0
    assert evaluate(TRAIN, test, np.full(len(test), -3.0)).mae == 4


def test_a_report_is_json_and_the_same_each_time() -> None:
    predicted = BASELINES["regularised_bias"](TRAIN, TEST)
    written = [
        json.dumps(asdict(evaluate(TRAIN, TEST, predicted)), allow_nan=False) for _ in range(2)
    ]
    assert written[0] == written[1]
    assert set(json.loads(written[0])["baselines"]) == set(metrics.BASELINES)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_prediction_that_is_not_finite_is_refused(value: float) -> None:
    predicted = np.full(len(TEST), 3.0)
    predicted[4] = value
    with pytest.raises(ValueError, match="1 rows are not finite, first row 4 "):
        evaluate(TRAIN, TEST, predicted)
