"""Pictures of drift, drawn as those of `plots` are. What has nothing to show raises ValueError."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from cf_pipeline.recommender.plots import (
    BLUE,
    GREY,
    MOST_TICKS,
    QUIET,
    add_legend,
    new_figure,
    png_of,
    refuse_empty,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cf_pipeline.recommender.drift import Errors, Week

WIDTH = 0.38  # of a bar, of two side by side
MOST_DATES = 5  # that are written on an axis


def rmse_by_week(weeks: Sequence[Week], held_out_known: Errors) -> bytes:
    """Draw the champion's RMSE in each week, beside that on its own held-out part.

    That part is nearly all of people and movies that the champion knows, so ratings of these are
    drawn for comparison, with bars of two standard errors, which a single person lacks.
    """
    refuse_empty(len(weeks), "weeks")
    figure, axes = new_figure(
        "The champion week by week", "week from (Monday)", "RMSE ± 2 standard errors"
    )
    mondays = np.array([week.week for week in weeks], "datetime64[D]")
    for colour, label, errors in (
        (GREY, "all new ratings", [week.all for week in weeks]),
        (BLUE, "of known people and movies", [week.known for week in weeks]),
    ):
        rmse, bars = (
            np.array([np.nan if of is None else of for of in values])
            for values in zip(*((of.rmse, of.standard_error) for of in errors), strict=True)
        )
        axes.errorbar(
            mondays,
            rmse,
            2 * np.nan_to_num(bars) if colour == BLUE else None,
            fmt="o-",
            color=colour,
            markersize=4,
            capsize=3,
            label=label,
        )
    if held_out_known.rmse is not None:
        label = f"held out: {held_out_known.rmse:.3f}"
        axes.axhline(held_out_known.rmse, linestyle="--", color=QUIET, linewidth=1, label=label)
    axes.set_xticks(mondays[:: math.ceil(len(weeks) / MOST_DATES)])
    add_legend(axes)
    return png_of(figure)


def stars_before_and_now(rows: Sequence[Mapping[str, float]]) -> bytes:
    """Draw the share of each `rating`, `before` and `now`, as bars side by side."""
    refuse_empty(len(rows), "ratings")
    figure, axes = new_figure("Ratings given", "rating", "share of ratings (%)")
    places = np.arange(len(rows))
    for key, colour, label, side in (
        ("before", GREY, "that the champion saw", -WIDTH / 2),
        ("now", BLUE, "new", WIDTH / 2),
    ):
        shares = [100 * row[key] for row in rows]
        axes.bar(places + side, shares, WIDTH, color=colour, label=label)
    step = math.ceil(len(rows) / MOST_TICKS)
    axes.set_xticks(places[::step], [f"{row['rating']:.4g}" for row in rows[::step]])
    add_legend(axes)
    return png_of(figure)
