"""Pictures of a fit and of its errors, as PNG bytes that are equal for equal inputs.

They stand on a light ground of their own, so they read alike in a light and in a dark UI, and are
drawn without pyplot, so drawing leaves no state behind. Ratings and errors are on any scale, an
error is predicted - actual, and arrays are (n,). What has nothing to show raises ValueError.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from cf_pipeline.recommender.rating_scale import nearest_levels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

Numbers: TypeAlias = npt.NDArray[np.floating | np.integer]

SIZE = (6.4, 3.6)  # inches
DPI = 80
GROUND, INK, QUIET, GRID = "#ffffff", "#24292f", "#6e7781", "#e6e8eb"
BLUE, ORANGE, GREY = "#0969da", "#c2570c", "#aab4be"
MOST_TICKS = 11  # of ratings on an axis
STARS_OF_A_SCALE = 4  # from its least to its greatest rating


def learning_curve(curve: Sequence[Mapping[str, float | None]]) -> bytes:
    """Draw the `train_rmse` and the `validation_rmse`, where known, of each `epoch` or `sweep`."""
    figure, axes = new_figure("Learning curve", _step(curve), "RMSE")
    names = {"train_rmse": ("training", GREY), "validation_rmse": ("validation", BLUE)}
    drawn = [_line(axes, curve, key, *names[key]) for key in names]
    refuse_empty(sum(drawn), "epochs with an RMSE")
    add_legend(axes)
    return png_of(figure)


def sampler_trace(trace: Sequence[Mapping[str, float | None]]) -> bytes:
    """Draw how far ratings and weights were from what was expected of them in each `sweep`."""
    figure, axes = new_figure("Trace of the sampler", _step(trace), "standard deviation")
    names = {
        "noise_std": ("noise", GREY),
        "user_std": ("users", BLUE),
        "item_std": ("movies", ORANGE),
    }
    for key, (name, colour) in names.items():
        _line(axes, trace, key, name, colour)
    add_legend(axes)
    return png_of(figure)


def predicted_against_actual(actual: Numbers, predicted: Numbers) -> bytes:
    """Draw what was predicted where the actual rating was 1, 2, …: its mean and its spread.

    Of more different ratings than MOST_TICKS, each is drawn at the nearest of so many even steps.
    """
    refuse_empty(len(actual), "ratings")
    x = "actual rating, and how many of them"
    figure, axes = new_figure("Predicted against actual", x, "predicted rating")
    levels, place = nearest_levels(actual, MOST_TICKS)
    given = np.unique(place)
    groups, stars = [predicted[place == level] for level in given], levels[given]
    low, first, third, high = np.array([np.quantile(g, (0.1, 0.25, 0.75, 0.9)) for g in groups]).T
    axes.plot(stars, stars, "--", color=QUIET, linewidth=1, label="perfect", zorder=1)
    axes.vlines(stars, low, high, color=GREY, linewidth=3, label="middle 80 %")
    axes.vlines(stars, first, third, color=BLUE, linewidth=12, label="middle 50 %")
    means = [group.mean() for group in groups]
    axes.plot(stars, means, "o", color=GROUND, markeredgecolor=INK, label="mean", zorder=3)
    axes.set_xticks(
        stars, [f"{star:.4g}\n{len(group):,}" for star, group in zip(stars, groups, strict=True)]
    )
    add_legend(axes)
    return png_of(figure)


def error_histogram(errors: Numbers, star: float) -> bytes:
    """Draw how often which error is made, in bins a quarter of a `star` wide.

    What is further off than the rating scale is wide counts in the last bin of its side.
    """
    refuse_empty(len(errors), "errors")
    figure, axes = new_figure("Errors", "predicted minus actual rating", "share of ratings (%)")
    reach = np.ceil(np.abs(errors).max() / star).clip(1, STARS_OF_A_SCALE)
    bins = star * np.arange(-reach, reach + 0.25, 0.25)
    counts, edges = np.histogram(errors.clip(bins[0], bins[-1]), bins)
    label = f"mean {np.mean(errors):+.3f}, standard deviation {np.std(errors):.3f}"
    share, width = 100 * counts / len(errors), 0.23 * star
    axes.bar(edges[:-1], share, width, align="edge", color=BLUE, label=label)
    axes.axvline(0, color=INK, linewidth=1)
    add_legend(axes)
    return png_of(figure)


def residual_by_user_activity(n_training_ratings: Numbers, residuals: Numbers) -> bytes:
    """Draw the RMSE and the mean error by how many training ratings the user has.

    A group reaches up to twice its least number of training ratings.
    """
    refuse_empty(len(residuals), "errors")
    x = "training ratings of the user, and how many test ratings"
    figure, axes = new_figure("Errors by the user's activity", x, "error")
    doublings = np.frexp(n_training_ratings)[1]  # 0, 1, 2-3, 4-7, … are 0, 1, 2, 3, …
    group, place = np.unique(doublings, return_inverse=True)
    count = np.bincount(place)
    mean = np.bincount(place, residuals) / count
    square = np.bincount(place, residuals**2) / count
    bars = 2 * np.sqrt((square - mean**2).clip(0) / count)
    axes.plot(group, np.sqrt(square), "o-", color=BLUE, markersize=4, label="RMSE")
    axes.errorbar(
        group,
        mean,
        bars,
        fmt="o-",
        color=ORANGE,
        markersize=4,
        capsize=3,
        label="mean ± 2 standard errors",
    )
    axes.axhline(0, color=INK, linewidth=1)
    least = ["0" if g == 0 else "1" if g == 1 else f"{2 ** (g - 1)}+" for g in group]
    axes.set_xticks(group, [f"{a}\n{n:,}" for a, n in zip(least, count, strict=True)])
    add_legend(axes)
    return png_of(figure)


def calibration(bins: Sequence[Mapping[str, float]]) -> bytes:
    """Draw how often what was probably liked was: rows `probability`, `share`, `count`.

    The bars reach over two standard errors of a share.
    """
    refuse_empty(len(bins), "bins of probabilities")
    figure, axes = new_figure("Calibration", "predicted probability to be liked", "share that was")
    probability, share, count = (
        np.array([row[key] for row in bins]) for key in ("probability", "share", "count")
    )
    axes.plot([0, 1], [0, 1], "--", color=QUIET, linewidth=1, label="perfect", zorder=1)
    bars = 2 * np.sqrt(share * (1 - share) / count)
    label = f"{count.sum():,.0f} test ratings, ± 2 standard errors"
    axes.errorbar(probability, share, bars, fmt="o-", color=BLUE, markersize=4, label=label)
    add_legend(axes)
    return png_of(figure)


def rmse_by_uncertainty(groups: Sequence[Mapping[str, float]]) -> bytes:
    """Draw the errors made where an error of some size was expected: rows `expected`, `rmse`."""
    refuse_empty(len(groups), "groups of predictions")
    figure, axes = new_figure("Errors by uncertainty", "predicted error", "RMSE")
    expected, rmse = (np.array([row[key] for row in groups]) for key in ("expected", "rmse"))
    ends = [min(expected.min(), rmse.min()), max(expected.max(), rmse.max())]
    axes.plot(ends, ends, "--", color=QUIET, linewidth=1, label="perfect", zorder=1)
    axes.plot(expected, rmse, "o-", color=BLUE, markersize=4, label="a tenth of the test ratings")
    add_legend(axes)
    return png_of(figure)


def leaderboard(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw each `method`'s mean `rmse` and its standard deviation `rmse_sd`, best at the top."""
    refuse_empty(len(rows), "methods")
    figure, axes = new_figure("Leaderboard", "RMSE, mean ± standard deviation of the folds", "")
    ordered = sorted(rows, key=lambda row: -row["rmse"])
    names = [row["method"].replace("_", " ") for row in ordered]
    axes.errorbar(
        [row["rmse"] for row in ordered],
        names,
        xerr=[row["rmse_sd"] for row in ordered],
        fmt="o",
        color=BLUE,
        ecolor=GREY,
        markersize=6,
        capsize=3,
    )
    for name, row in zip(names, ordered, strict=True):
        axes.annotate(
            f"{row['rmse']:.4f}",
            (row["rmse"], name),
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
            color=INK,
            fontsize=9,
        )
    axes.margins(x=0.08, y=0.12)
    return png_of(figure)


def rmse_beside_baselines(model: float, baselines: Mapping[str, float]) -> bytes:
    """Draw the model's RMSE as a bar among those of the baselines, best at the top."""
    bars = sorted({**baselines, "model": model}.items(), key=lambda bar: -bar[1])
    return bars_beside("RMSE beside the baselines", "RMSE", bars, "model")


def _step(curve: Sequence[Mapping[str, float | None]]) -> str:
    """Return what the rows are of: `epoch` or `sweep`, which stands first in each."""
    refuse_empty(len(curve), "epochs or sweeps")
    return next(iter(curve[0]))


def _line(
    axes: Axes, curve: Sequence[Mapping[str, float | None]], key: str, name: str, colour: str
) -> int:
    """Draw the values of `key` that are not None against their steps, and return how many."""
    points = [
        (next(iter(row.values())), value) for row in curve if (value := row.get(key)) is not None
    ]
    if points:
        steps, values = zip(*points, strict=True)
        label = f"{name}, ends at {values[-1]:.4f}"
        marker = "o" if len(points) <= 20 else ""
        axes.plot(
            steps, values, marker=marker, color=colour, markersize=4, linewidth=2, label=label
        )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return len(points)


def bars_beside(title: str, x: str, bars: Sequence[tuple[str, float]], model: str) -> bytes:
    """Draw named bars from the bottom up, and the one of the model's name in its own colour."""
    figure, axes = new_figure(title, x, "")
    names, values = zip(*bars, strict=True)
    drawn = axes.barh(
        [name.replace("_", " ") for name in names],
        values,
        color=[BLUE if name == model else GREY for name in names],
        height=0.65,
    )
    axes.bar_label(drawn, fmt="%.4f", padding=4, color=INK)
    axes.margins(x=0.12)
    axes.set_xticks([])
    axes.grid(visible=False)
    return png_of(figure)


def new_figure(title: str, x: str, y: str, size: tuple[float, float] = SIZE) -> tuple[Figure, Axes]:
    """Return a figure of `size` inches and its axes, with the title and both axes named."""
    figure = Figure(
        size, DPI, facecolor=GROUND, layout=ConstrainedLayoutEngine(h_pad=0.1, w_pad=0.1)
    )
    axes = figure.add_subplot(facecolor=GROUND)
    axes.set_title(title, loc="left", color=INK, fontsize=13, fontweight="bold", pad=26)
    axes.set_xlabel(x, color=QUIET)
    axes.set_ylabel(y, color=QUIET)
    axes.tick_params(colors=QUIET, labelcolor=INK, length=0)
    axes.grid(axis="y", color=GRID)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    return figure, axes


def add_legend(axes: Axes) -> None:
    """Name what is drawn in one line under the title, where it covers no data."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        borderaxespad=0,
        ncols=4,
        fontsize=9,
        handlelength=1.5,
        frameon=False,
        labelcolor=INK,
    )


def png_of(figure: Figure) -> bytes:
    """Return the figure as a PNG."""
    written = io.BytesIO()
    # Without matplotlib's version among the metadata, equal pictures are equal bytes.
    figure.savefig(
        written, format="png", metadata={"Software": None}, pil_kwargs={"optimize": True}
    )
    return written.getvalue()


def refuse_empty(count: int, of: str) -> None:
    """Raise ValueError where there is nothing to draw."""
    if count == 0:
        raise ValueError(f"There are 0 {of} to draw: leave the picture out, or give some.")
