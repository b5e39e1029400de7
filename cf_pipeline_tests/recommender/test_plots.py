"""The pictures, looked at as pixels."""

import io
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from PIL import Image, ImageColor

from cf_pipeline.recommender import metrics, plots
from cf_pipeline.recommender.splits import official_fold
from cf_pipeline_tests.recommender.simulation import encoded

Pixels = npt.NDArray[np.uint8]

CURVE = [
    {"epoch": epoch, "train_rmse": 0.8 + 0.3 / epoch, "validation_rmse": 0.9 + 0.2 / epoch}
    for epoch in range(1, 6)
]
TRACE = [
    {"sweep": sweep, "noise_std": 0.8 + 0.3 / sweep, "user_std": 0.3, "item_std": 0.2}
    for sweep in range(1, 151)
]
BINS = [{"probability": p / 10, "share": (p + 0.2) / 10, "count": 200} for p in range(1, 10)]
GROUPS = [{"expected": 0.6 + n / 20, "rmse": 0.65 + n / 22} for n in range(10)]
LEADERBOARD = [
    {"method": f"method_{n}", "rmse": 0.87 + n / 20, "rmse_sd": 0.004 * n} for n in range(1, 7)
]
LARGEST = 30_000  # bytes: a picture lives inside an event of Dagster's history


def pixels(png: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def drawn_in(png: bytes, colour: str) -> npt.NDArray[np.bool_]:
    """Return which pixels (height, width) have the colour."""
    drawn: npt.NDArray[np.bool_] = np.all(pixels(png) == ImageColor.getrgb(colour), axis=2)
    return drawn


@pytest.fixture(scope="module")
def pictures(ratings: pd.DataFrame) -> dict[str, tuple[bytes, bytes]]:
    """Every picture, drawn twice, from a baseline's real errors on u1."""
    in_test = official_fold(ratings, "u1")
    train, test = encoded(ratings[~in_test], ratings[in_test])
    actual = test.ratings.numpy()
    predicted = metrics.regularised_bias(train, test)
    of_user = metrics.training_ratings(train.users, test.users)

    def draw() -> dict[str, bytes]:
        return {
            "learning_curve": plots.learning_curve(CURVE),
            "sampler_trace": plots.sampler_trace(TRACE),
            "calibration": plots.calibration(BINS),
            "rmse_by_uncertainty": plots.rmse_by_uncertainty(GROUPS),
            "leaderboard": plots.leaderboard(LEADERBOARD),
            "predicted_against_actual": plots.predicted_against_actual(actual, predicted),
            "error_histogram": plots.error_histogram(predicted - actual, 1.0),
            "residuals": plots.residual_by_user_activity(of_user, predicted - actual),
            "baselines": plots.rmse_beside_baselines(0.9, {"global_mean": 1.2}),
        }

    first, second = draw(), draw()
    return {name: (first[name], second[name]) for name in first}


def test_pictures_are_small_and_not_blank(pictures: dict[str, tuple[bytes, bytes]]) -> None:
    for name, (png, _) in pictures.items():
        assert len(png) < LARGEST, name
        height, width, _ = pixels(png).shape
        assert (width, height) == tuple(round(inches * plots.DPI) for inches in plots.SIZE), name
        assert drawn_in(png, plots.BLUE).sum() > 100, name


def test_pictures_have_an_opaque_light_ground(pictures: dict[str, tuple[bytes, bytes]]) -> None:
    for name, (png, _) in pictures.items():
        assert np.all(np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))[..., 3] == 255), name
        edges = drawn_in(png, plots.GROUND)
        assert edges[0].all(), name
        assert edges[:, -1].all(), name


def test_equal_inputs_make_equal_bytes(pictures: dict[str, tuple[bytes, bytes]]) -> None:
    for name, (first, second) in pictures.items():
        assert first == second, name
        assert Image.open(io.BytesIO(first)).info.keys() <= {"dpi"}, name


def test_bars_are_as_long_as_the_errors() -> None:
    png = plots.rmse_beside_baselines(0.5, {"user_mean": 1.0})
    model = drawn_in(png, plots.BLUE).sum(axis=1).max()
    baseline = drawn_in(png, plots.GREY).sum(axis=1).max()
    assert model / baseline == pytest.approx(0.5, abs=0.02)


def test_the_best_bar_is_at_the_top() -> None:
    for rmse in (0.9, 1.3):
        png = plots.rmse_beside_baselines(rmse, {"user_mean": 1.0, "movie_mean": 1.1})
        model = np.flatnonzero(drawn_in(png, plots.BLUE).any(axis=1)).mean()
        others = np.flatnonzero(drawn_in(png, plots.GREY).any(axis=1)).mean()
        assert (model < others) == (rmse < 1)


def test_bars_of_the_histogram_are_as_high_as_the_shares() -> None:
    png = plots.error_histogram(np.array([-0.6] * 30 + [0.6] * 60), 1.0)
    blue = drawn_in(png, plots.BLUE)[60:]  # below the legend
    middle = np.flatnonzero(drawn_in(png, plots.INK)[60:].sum(axis=0) > 100).mean()
    left, right = blue[:, : int(middle)].sum(axis=0).max(), blue[:, int(middle) :].sum(axis=0).max()
    assert left / right == pytest.approx(0.5, abs=0.03)


def test_errors_beyond_the_scale_are_in_the_last_bin_of_the_histogram() -> None:
    errors = np.array([-4.0] * 5 + [4.0] * 10)
    beyond = np.append(errors[:-1], 1e12)
    within, further = (
        drawn_in(plots.error_histogram(of, 1.0), plots.BLUE)[60:] for of in (errors, beyond)
    )
    assert np.array_equal(within, further)


def test_a_curve_may_lack_its_validation_part() -> None:
    untested = [{**row, "validation_rmse": None} for row in CURVE]
    png = plots.learning_curve(untested)
    assert not drawn_in(png, plots.BLUE).any()
    assert drawn_in(png, plots.GREY).any()
    trained = [{key: row[key] for key in ("epoch", "train_rmse")} for row in CURVE]
    assert plots.learning_curve(trained) == png


def test_cold_users_and_ratings_in_halves_are_drawn() -> None:
    activity = np.array([0, 1, 2, 3, 700])
    cold = plots.residual_by_user_activity(activity, np.array([2.0, 0.1, 0.2, 0.3, 0.4]))
    assert drawn_in(cold, plots.ORANGE).any()
    halves = np.arange(0.5, 5.5, 0.5)
    assert drawn_in(plots.predicted_against_actual(halves, halves), plots.GREY).any()


def test_nothing_to_draw_is_refused() -> None:
    nothing = np.array([])
    pictures: list[Callable[[], bytes]] = [
        lambda: plots.learning_curve([]),
        lambda: plots.sampler_trace([]),
        lambda: plots.calibration([]),
        lambda: plots.rmse_by_uncertainty([]),
        lambda: plots.leaderboard([]),
        lambda: plots.learning_curve([{"epoch": 1}]),
        lambda: plots.predicted_against_actual(nothing, nothing),
        lambda: plots.error_histogram(nothing, 1.0),
        lambda: plots.residual_by_user_activity(nothing, nothing),
    ]
    for draw in pictures:
        with pytest.raises(ValueError, match=r"There are 0 .* to draw: leave the picture out"):
            draw()


def test_drawing_needs_neither_pyplot_nor_torch() -> None:
    program = (
        "import sys; from cf_pipeline.recommender import metrics, plots; "
        "plots.rmse_beside_baselines(1.0, {}); "
        "assert not {'matplotlib.pyplot', 'torch', 'dagster'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
