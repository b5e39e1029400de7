"""Pictures of what the gate found; see `plots` for what all pictures have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.ticker import MaxNLocator

from cf_pipeline.recommender.plots import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    add_legend,
    new_figure,
    png_of,
    refuse_empty,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COLOURS = {True: (BLUE, "challenger, better"), False: (ORANGE, "challenger, not better")}


def compared_rmse(comparisons: Sequence[Mapping[str, float]]) -> bytes:
    """Draw, of one comparison after the other, the `champion_rmse` and the `compared_rmse`.

    The last is that of the challenger. Both are on the ratings of the comparison, which neither
    had seen; they differ from one comparison to the next.
    """
    refuse_empty(len(comparisons), "comparisons")
    figure, axes = new_figure(
        "Challengers beside the champion", "comparison, the latest last", "RMSE"
    )
    numbers = range(1, len(comparisons) + 1)
    champion = [one["champion_rmse"] for one in comparisons]
    challenger = [one["compared_rmse"] for one in comparisons]
    axes.vlines(numbers, champion, challenger, color=GREY, linewidth=1, zorder=1)
    axes.plot(numbers, champion, "_", color=INK, markersize=10, label="champion")
    for better, (colour, label) in COLOURS.items():
        places = [
            place
            for place, pair in enumerate(zip(challenger, champion, strict=True))
            if (pair[0] < pair[1]) == better
        ]
        if places:
            of = [challenger[place] for place in places]
            axes.plot([numbers[place] for place in places], of, "o", color=colour, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    add_legend(axes)
    return png_of(figure)
