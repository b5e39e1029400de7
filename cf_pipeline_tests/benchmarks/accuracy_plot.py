"""The accuracy benchmark's picture: RMSE against fit seconds, ours and peers in two colours."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation, Text
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from matplotlib.transforms import Bbox

from cf_pipeline.recommender.plots import (
    BLUE,
    GRID,
    INK,
    ORANGE,
    add_legend,
    new_figure,
    png_of,
)

SIZE = (9.6, 6.0)  # inches
RADIUS = 4.0  # points, of a mark
GAP = 7.0  # points, between a mark and its label at the nearest
SHIFTS = (0, 13, -13, 26, -26, 39, -39)  # points, of a label up or down


@dataclass(frozen=True)
class Point:
    """A method, its median fit seconds, its 5-fold RMSE, and whether it is ours."""

    name: str
    seconds: float
    rmse: float
    is_ours: bool


def draw(points: Sequence[Point]) -> bytes:
    """Draw the methods, each with its name beside it, as PNG bytes."""
    figure, axes = new_figure(
        "Accuracy against fit time, MovieLens 100k, one thread",
        "median fit seconds (log scale)",
        "5-fold RMSE (stars)",
    )
    figure.set_size_inches(SIZE)
    for is_ours, colour, label in ((True, BLUE, "ours"), (False, ORANGE, "peers")):
        chosen = [point for point in points if point.is_ours == is_ours]
        axes.plot(
            [point.seconds for point in chosen],
            [point.rmse for point in chosen],
            "o",
            color=colour,
            markersize=2 * RADIUS,
            label=label,
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:g}"))
    axes.grid(axis="x", color=GRID)
    axes.margins(x=0.2, y=0.1)
    add_legend(axes)
    figure.draw_without_rendering()  # to know where everything comes to lie
    figure.set_layout_engine("none")
    _label(axes, points)
    return png_of(figure)


def _label(axes: Axes, points: Sequence[Point]) -> None:
    """Write each name where it covers no mark and no other name, as near to its mark as it can."""
    radius = RADIUS * axes.figure.dpi / 72
    places = axes.transData.transform([(point.seconds, point.rmse) for point in points])
    taken = [Bbox([place - radius, place + radius]) for place in places]
    for point in points:
        label = axes.annotate(
            point.name,
            (point.seconds, point.rmse),
            (GAP, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=INK,
            zorder=1,  # its line ends under the mark
            arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.5},
        )
        costs = []
        for shift, side in product(SHIFTS, (1, -1)):
            _move(label, side, shift)
            box = _box(label)
            covered = sum(_overlap(box, other) for other in taken)
            outside = box.width * box.height - _overlap(box, axes.bbox)
            costs.append((covered + outside, abs(shift), -side, shift))
        _, _, opposite, shift = min(costs)
        _move(label, -opposite, shift)
        taken.append(_box(label))


def _move(label: Annotation, side: int, shift: float) -> None:
    """Put the label to the right (1) or left (-1) of its mark, `shift` points up."""
    label.set_position((side * (GAP + abs(shift) / 4), shift))
    label.set_horizontalalignment("left" if side == 1 else "right")


def _box(label: Annotation) -> Bbox:
    """Return where the text itself lies, without its line, in pixels."""
    label.get_window_extent()  # moves the text to where its mark is
    return Text.get_window_extent(label)


def _overlap(a: Bbox, b: Bbox) -> float:
    """Return the area that two boxes share."""
    low, high = np.maximum(a.min, b.min), np.minimum(a.max, b.max)
    return float(np.prod((high - low).clip(min=0)))
