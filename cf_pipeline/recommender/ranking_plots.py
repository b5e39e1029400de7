"""Pictures of what a recommender learnt and of its lists, drawn as those of `plots` are.

Arrays are (n,), a value for each movie, where nothing else is said. What has nothing to show raises
ValueError.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib.patheffects import withStroke
from matplotlib.ticker import NullLocator
from matplotlib.transforms import Bbox
from PIL import Image

from cf_pipeline.recommender.plots import (
    BLUE,
    GREY,
    GRID,
    GROUND,
    INK,
    ORANGE,
    QUIET,
    Numbers,
    add_legend,
    bars_beside,
    new_figure,
    png_of,
    refuse_empty,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Strings: TypeAlias = "Sequence[str] | npt.NDArray[np.str_ | np.object_]"

LARGE = (10.0, 7.2)  # inches
N_COLOURS = 256
N_NAMED = 40  # movies on the map
LEAST_RATINGS = 10  # of a movie whose bias tells more than the prior
N_AT_AN_END = 2  # movies named at either end of a band
LONGEST = 28  # characters of a title
RADIUS = 3.0  # points, of a mark
GAP = 7.0  # points, between the middle of a mark and its label
PADDING = 2.0  # pixels, around a label or a mark
SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))  # best first

YEAR = re.compile(r"\s*\(\d{4}\)\s*$")
OTHER_TITLE = re.compile(r"\s*\([^()]*\)\s*$")  # in brackets, after the year is gone
ARTICLE_LAST = re.compile(r"^(.+), (The|An?|El|Il|La|Les?|Das|Der|Die)$")


def factor_map(factors: Numbers, titles: Strings, counts: Numbers) -> bytes:
    """Draw movies by the first two principal components of their factors (n, d).

    Of those with the most ratings, `counts`, as many are named as find room. Factors that differ
    by a rotation or a reflection, which a fit cannot tell apart, make the same picture.
    """
    refuse_empty(len(factors), "movies")
    places, shares = _principal_components(factors)
    x, y = (
        f"{nth} principal component: {100 * share:.0f} % of the variance"
        for nth, share in zip(("first", "second"), shares, strict=True)
    )
    figure, axes = new_figure("Map of the movies", x, y, LARGE)
    axes.plot(
        *places.T, "o", color=GREY, alpha=0.5, markersize=4, markeredgewidth=0, label="other movies"
    )
    axes.set_aspect("equal", "datalim")
    axes.axhline(0, color=GRID, linewidth=1, zorder=0)
    axes.axvline(0, color=GRID, linewidth=1, zorder=0)
    axes.set(xticks=[], yticks=[])
    most_rated = np.argsort(-counts, kind="stable")[:N_NAMED]
    names = [short_title(titles[n]) for n in most_rated]
    found_room = write_labels(figure, axes, places[most_rated], names, [INK] * len(names))
    axes.plot(
        *places[most_rated[found_room]].T,
        "o",
        color=BLUE,
        markersize=2 * RADIUS,
        label="most rated",
    )
    add_legend(axes)
    return _large_png(figure)


def liked_at_equal_popularity(biases: Numbers, counts: Numbers, titles: Strings) -> bytes:
    """Draw movies' biases (logits) by how often they were rated, and name the extreme ones.

    These are the most and the least liked of each band, which reaches up to twice its least number
    of training ratings, `counts`.
    """
    rated = np.flatnonzero(counts)
    refuse_empty(len(rated), "movies with a rating")
    x = "training ratings of the movie (log scale), in bands"
    figure, axes = new_figure("Liked at equal popularity", x, "bias of the movie (logit)", LARGE)
    axes.plot(
        counts[rated], biases[rated], "o", color=GREY, alpha=0.5, markersize=4, markeredgewidth=0
    )
    most, least = _extremes(biases, counts)
    for movies, colour, name in ((most, BLUE, "most liked"), (least, ORANGE, "least liked")):
        label = f"{name} of those rated as often"
        axes.plot(
            counts[movies], biases[movies], "o", color=colour, markersize=2 * RADIUS, label=label
        )
    axes.set_xscale("log")
    edges = LEAST_RATINGS * 2 ** np.arange(1 + max(0, int(_band(counts.max()))))
    axes.set_xticks([1, *edges], [f"{edge:g}" for edge in (1, *edges)])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x", color=GRID)
    add_legend(axes)
    extreme = np.concatenate([most, least])
    extreme = extreme[np.argsort(-counts[extreme], kind="stable")]
    write_labels(
        figure,
        axes,
        np.column_stack([counts, biases])[extreme],
        [short_title(titles[n]) for n in extreme],
        np.where(np.isin(extreme, most), BLUE, ORANGE),
    )
    return _large_png(figure)


def coverage(rating_counts: Numbers, recommended_counts: Numbers) -> bytes:
    """Draw which share of the ratings and of the lists' places the most rated movies have.

    Args:
        rating_counts: training ratings of each movie.
        recommended_counts: how many users' lists each movie is in.
    """
    refuse_empty(int(np.sum(rating_counts)), "ratings")
    refuse_empty(int(np.sum(recommended_counts)), "recommendations")
    x = "movies, from the most to the least rated (%)"
    figure, axes = new_figure("Coverage of the catalogue", x, "share (%)")
    order = np.argsort(-rating_counts, kind="stable")
    movies = np.linspace(0, 100, len(order) + 1)
    in_a_list = 100 * np.mean(recommended_counts > 0)
    axes.plot([0, 100], [0, 100], "--", color=QUIET, linewidth=1, label="all alike", zorder=1)
    for counts, colour, label in (
        (rating_counts, GREY, "ratings"),
        (recommended_counts, BLUE, f"lists, with {in_a_list:.0f} % of the movies"),
    ):
        share = 100 * np.cumsum(counts[order]) / np.sum(counts)
        axes.plot(movies, [0, *share], color=colour, linewidth=2, label=label)
    add_legend(axes)
    return png_of(figure)


def ndcg_by_weight(rows: Sequence[Mapping[str, float]]) -> bytes:
    """Draw `ndcg_all` and `ndcg_liked` by `weight`, and a line where a row is `chosen`."""
    refuse_empty(len(rows), "weights")
    figure, axes = new_figure(
        "Weight of the predicted rating", "weight", "NDCG@10 on rows set aside"
    )
    ordered = sorted(rows, key=lambda row: row["weight"])
    weights = [row["weight"] for row in ordered]
    for key, colour, label in (
        ("ndcg_all", BLUE, "all ratings count"),
        ("ndcg_liked", ORANGE, "what was liked counts"),
    ):
        axes.plot(
            weights, [row[key] for row in ordered], "o-", color=colour, markersize=4, label=label
        )
    for weight in (row["weight"] for row in ordered if row["chosen"]):
        axes.axvline(weight, color=INK, linewidth=1, label=f"chosen: {weight:g}", zorder=1)
    add_legend(axes)
    return png_of(figure)


def ranking_beside_baselines(values: Mapping[str, float]) -> bytes:
    """Draw the NDCG@10 of the `ranking_model` as a bar among those of others, best at the top."""
    refuse_empty(len(values), "rankings")
    bars = sorted(values.items(), key=lambda bar: bar[1])
    return bars_beside("Ranking beside the baselines", "NDCG@10", bars, "ranking_model")


def short_title(title: str) -> str:
    """Return a title without its year, its article first, and its end cut where it is long."""
    without_year = YEAR.sub("", title)
    moved, count = ARTICLE_LAST.subn(r"\2 \1", OTHER_TITLE.sub("", without_year))
    short = moved if count else without_year
    return short if len(short) <= LONGEST else short[: LONGEST - 1].rstrip() + "…"


def write_labels(
    figure: Figure,
    axes: Axes,
    places: Numbers,
    texts: Sequence[str],
    colours: Strings,
) -> npt.NDArray[np.bool_]:
    """Write the texts beside their places (n, 2), and return which of them found room.

    They neither cover each other nor a mark, nor leave the axes: those named first have the choice.
    All else must have been drawn, since nothing moves any more.
    """
    figure.draw_without_rendering()  # to know where everything comes to lie
    figure.set_layout_engine("none")
    radius = RADIUS * figure.dpi / 72 + PADDING
    taken = [Bbox([place - radius, place + radius]) for place in axes.transData.transform(places)]
    found_room = np.zeros(len(texts), bool)
    for n, (place, text, colour) in enumerate(zip(places, texts, colours, strict=True)):
        for x, y in SIDES:
            label = axes.annotate(
                text,
                place,
                (GAP * x, GAP * y),
                textcoords="offset points",
                ha=("center", "left", "right")[x],
                va=("center", "bottom", "top")[y],
                fontsize=9,
                color=colour,
                parse_math=False,
                path_effects=[withStroke(linewidth=3, foreground=GROUND)],
            )
            box = label.get_window_extent()
            if _is_free(box, taken, axes.bbox):
                taken.append(box.padded(PADDING))
                found_room[n] = True
                break
            label.remove()
    return found_room


def _large_png(figure: Figure) -> bytes:
    """Return the figure as a PNG of few colours, a third as large as one of all."""
    picture = Image.open(io.BytesIO(png_of(figure))).convert("RGB")
    written = io.BytesIO()
    few = picture.quantize(N_COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(written, "png", optimize=True)
    return written.getvalue()


def _is_free(box: Bbox, taken: Sequence[Bbox], within: Bbox) -> bool:
    """Return whether the box lies inside and meets none of those taken."""
    inside = np.all(box.min >= within.min) and np.all(box.max <= within.max)
    return bool(inside) and box.count_overlaps(taken) == 0


def _principal_components(
    factors: Numbers,
) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]:
    """Return the places (n, 2) of the rows (n, d), and the two shares of their variance."""
    left, strengths, _ = np.linalg.svd(factors - factors.mean(axis=0), full_matrices=False)
    refuse_empty(int(np.count_nonzero(strengths)), "directions in which movies differ")
    shares = strengths**2 / np.sum(strengths**2)
    places = left * strengths
    # The farthest movie fixes the sign: the columns of the factors may have any.
    farthest = np.abs(places).argmax(axis=0, keepdims=True)
    places = places * np.sign(np.take_along_axis(places, farthest, axis=0))
    missing = max(0, 2 - len(shares))  # of one factor, or of one movie
    return np.pad(places, ((0, 0), (0, missing)))[:, :2], np.pad(shares, (0, missing))[:2]


def _extremes(
    biases: Numbers, counts: Numbers
) -> tuple[npt.NDArray[np.int_], npt.NDArray[np.int_]]:
    """Return the most and the least liked movies of all bands."""
    most: list[int] = []
    least: list[int] = []
    enough = np.flatnonzero(counts >= LEAST_RATINGS)
    bands = _band(counts[enough])
    for band in np.unique(bands):
        inside = enough[bands == band]
        order = inside[np.argsort(biases[inside], kind="stable")]
        at_an_end = min(N_AT_AN_END, len(order) // 2)
        least.extend(order[:at_an_end])
        most.extend(order[len(order) - at_an_end :])
    return np.array(most, int), np.array(least, int)


def _band(counts: Numbers) -> npt.NDArray[np.int_]:
    """Return how often the least number of ratings was doubled: 10-19, 20-39, … are 0, 1, …."""
    return np.frexp(counts / LEAST_RATINGS)[1] - 1
