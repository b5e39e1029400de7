"""The pictures of drift, looked at as pixels."""

import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from cf_pipeline.recommender import drift_plots, plots
from cf_pipeline.recommender.drift import Errors, Week
from cf_pipeline_tests.recommender.test_plots import LARGEST, drawn_in, pixels

LEGEND = 60  # pixels from the top, below which is data alone
HELD_OUT = Errors(4000, 400, 0.95, 0.01)
NONE = Errors(0, 0, None, None)
WEEKS = [
    Week(f"1998-01-{day:02}", Errors(500, 40, rmse + 0.1, 0.05), Errors(200, 20, rmse, 0.08))
    for day, rmse in ((5, 0.9), (12, 1.0), (26, 0.95))
]
STARS = [
    {"rating": float(star), "before": before, "now": now}
    for star, before, now in zip(range(1, 6), (0.1, 0.1, 0.2, 0.4, 0.2), (0.2,) * 5, strict=True)
]
DRAWN: dict[str, Callable[[], bytes]] = {
    "rmse_by_week": lambda: drift_plots.rmse_by_week(WEEKS, HELD_OUT),
    "one_week": lambda: drift_plots.rmse_by_week(WEEKS[:1], HELD_OUT),
    "stars": lambda: drift_plots.stars_before_and_now(STARS),
}


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_pictures_are_as_all_others_are(draw: Callable[[], bytes]) -> None:
    png = draw()
    assert len(png) < LARGEST
    height, width, _ = pixels(png).shape
    assert (width, height) == tuple(round(inches * plots.DPI) for inches in plots.SIZE)
    for colour in (plots.BLUE, plots.GREY):
        assert drawn_in(png, colour)[LEGEND:].sum() > 8
    assert np.all(np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))[..., 3] == 255)
    edges = drawn_in(png, plots.GROUND)
    assert edges[0].all()
    assert edges[:, -1].all()
    assert draw() == png


def bluish(png: bytes) -> npt.NDArray[np.bool_]:
    """Return which pixels below the legend are blue, thin lines included, whose edges are light."""
    red, _, blue = np.moveaxis(pixels(png)[LEGEND:].astype(int), 2, 0)
    mask: npt.NDArray[np.bool_] = blue - red > 60
    return mask


def test_bars_are_as_long_as_the_standard_errors_and_a_single_person_has_none() -> None:
    far = Errors(10, 2, 0.2, None)  # which keeps the axis as it is

    def length(standard_error: float | None) -> int:
        week = Week("1998-01-05", far, Errors(200, 20, 1.0, standard_error))
        return int(bluish(drift_plots.rmse_by_week([week], HELD_OUT)).any(axis=1).sum())

    lengths = [length(None), length(0.1), length(0.2)]
    assert lengths[0] < 10
    assert lengths[2] / lengths[1] == pytest.approx(1.7, abs=0.2)  # and the axis is longer


def test_weeks_lie_where_they_are_in_time() -> None:
    weeks = [
        replace(week, known=Errors(200, 20, 1.0, 0.3), all=replace(week.all, rmse=1.0))
        for week in WEEKS
    ]
    tall = np.flatnonzero(bluish(drift_plots.rmse_by_week(weeks, HELD_OUT)).sum(axis=0) > 60)
    bars = tall[np.diff(tall, prepend=-9) > 2]
    assert len(bars) == 3
    assert (bars[2] - bars[1]) / (bars[1] - bars[0]) == pytest.approx(2, abs=0.1)


def test_weeks_and_parts_without_known_pairs_are_drawn() -> None:
    strangers = [replace(week, known=NONE) for week in WEEKS]
    png = drift_plots.rmse_by_week(strangers, NONE)
    assert not bluish(png).any()
    assert drawn_in(png, plots.GREY)[LEGEND:].any()


def test_a_year_of_weeks_is_drawn() -> None:
    mondays = np.datetime64("1997-01-06") + 7 * np.arange(52)
    weeks = [replace(WEEKS[0], week=str(monday)) for monday in mondays]
    assert len(drift_plots.rmse_by_week(weeks, HELD_OUT)) < LARGEST


def test_bars_of_stars_are_as_high_as_the_shares() -> None:
    heights = drawn_in(DRAWN["stars"](), plots.GREY)[LEGEND:].sum(axis=0)
    assert heights[heights > 20].min() / heights.max() == pytest.approx(0.25, abs=0.02)


def test_nothing_to_draw_is_refused() -> None:
    pictures: list[Callable[[], bytes]] = [
        lambda: drift_plots.rmse_by_week([], HELD_OUT),
        lambda: drift_plots.stars_before_and_now([]),
    ]
    for draw in pictures:
        with pytest.raises(ValueError, match=r"There are 0 .* to draw: leave the picture out"):
            draw()


def test_drawing_needs_neither_pyplot_nor_torch() -> None:
    program = (
        "import sys; from cf_pipeline.recommender import drift, drift_plots; "
        "drift_plots.stars_before_and_now([{'rating': 1.0, 'before': 1.0, 'now': 1.0}]); "
        "assert not {'matplotlib.pyplot', 'torch', 'dagster'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
