"""The pictures of a ranking, looked at as pixels."""

import io
import subprocess
import sys
from collections.abc import Callable
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from matplotlib.transforms import Bbox
from PIL import Image

from cf_pipeline.recommender import plots, ranking_plots
from cf_pipeline_tests.recommender.test_plots import drawn_in, pixels

N_MOVIES = 400
RANDOM = np.random.default_rng(0)
FACTORS = RANDOM.normal(size=(N_MOVIES, 8)) * np.linspace(2, 0.5, 8)
BIASES = RANDOM.normal(size=N_MOVIES)
COUNTS = np.sort(RANDOM.geometric(0.01, N_MOVIES))[::-1]
LISTS = np.where(np.arange(N_MOVIES) < 100, COUNTS, 0)
TITLES = [f"Movie of the Number {n}, The (19{n % 100:02})" for n in range(N_MOVIES)]
ROWS = [
    {"weight": n / 10, "ndcg_all": 0.28 - n / 90, "ndcg_liked": 0.26 - n / 80, "chosen": n == 1}
    for n in range(3)
]
VALUES = {"ranking_model": 0.29, "most_popular": 0.15, "item_cosine": 0.25}
LEGEND = 60  # pixels, down to where it ends
LARGEST = 40_000  # bytes

DRAWN: dict[str, Callable[[], bytes]] = {
    "factor_map": lambda: ranking_plots.factor_map(FACTORS, TITLES, COUNTS),
    "liked": lambda: ranking_plots.liked_at_equal_popularity(BIASES, COUNTS, TITLES),
    "coverage": lambda: ranking_plots.coverage(COUNTS, LISTS),
    "weight": lambda: ranking_plots.ndcg_by_weight(ROWS),
    "baselines": lambda: ranking_plots.ranking_beside_baselines(VALUES),
}


@pytest.fixture(scope="module")
def pictures() -> dict[str, tuple[bytes, bytes]]:
    """Every picture, drawn twice."""
    return {name: (draw(), draw()) for name, draw in DRAWN.items()}


def rows_of(png: bytes, colour: str) -> float:
    """Return how far down what has the colour is on average, legend aside."""
    return float(np.nonzero(drawn_in(png, colour)[LEGEND:])[0].mean())


def test_pictures_are_small_and_not_blank(pictures: dict[str, tuple[bytes, bytes]]) -> None:
    for name, (png, _) in pictures.items():
        assert len(png) < LARGEST, name
        size = ranking_plots.LARGE if name in ("factor_map", "liked") else plots.SIZE
        height, width, _ = pixels(png).shape
        assert (width, height) == tuple(round(inches * plots.DPI) for inches in size), name
        assert drawn_in(png, plots.BLUE)[LEGEND:].sum() > 100, name


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


def test_reflected_and_rotated_factors_make_the_same_map(
    pictures: dict[str, tuple[bytes, bytes]],
) -> None:
    png, _ = pictures["factor_map"]
    rotation = np.linalg.qr(RANDOM.normal(size=(8, 8)))[0]
    assert ranking_plots.factor_map(-FACTORS, TITLES, COUNTS) == png
    for turned in (FACTORS * [-1, *[1] * 7], FACTORS @ rotation):
        drawn = ranking_plots.factor_map(turned, TITLES, COUNTS)
        assert np.mean(pixels(drawn) != pixels(png)) < 0.001


def test_the_farthest_movie_is_to_the_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking_plots, "N_NAMED", 1)
    for n, sign in product((0, 1, 99), (1, -1)):
        factors = np.random.default_rng(n).normal(size=(100, 2))
        factors[n] = (sign * 40, 0)
        counts = np.where(np.arange(100) == n, 2, 1)
        blue = drawn_in(ranking_plots.factor_map(factors, TITLES, counts), plots.BLUE)
        assert np.nonzero(blue[LEGEND:])[1].mean() > 600, (n, sign)


def test_the_map_names_the_most_rated() -> None:
    factors = np.column_stack([np.linspace(0, 1, 100) ** 2, np.zeros(100)])
    ranks = np.arange(100)
    left, right = (
        np.nonzero(
            drawn_in(ranking_plots.factor_map(factors, TITLES, counts), plots.BLUE)[LEGEND:]
        )[1].mean()
        for counts in (100 - ranks, ranks)
    )
    assert left < 400 < right


def test_movies_of_one_factor_are_drawn() -> None:
    png = ranking_plots.factor_map(FACTORS[:, :1], TITLES, COUNTS)
    assert drawn_in(png, plots.BLUE)[LEGEND:].any()


def test_labels_cover_neither_each_other_nor_marks() -> None:
    figure, axes = plots.new_figure("Labels", "x", "y", ranking_plots.LARGE)
    places = np.random.default_rng(1).normal(size=(80, 2))
    axes.plot(*places.T, "o", markersize=2 * ranking_plots.RADIUS)
    texts = [f"the label {n}" for n in range(80)]
    found_room = ranking_plots.write_labels(figure, axes, places, texts, ["black"] * 80)
    written = [label.get_text() for label in axes.texts]
    assert written == [text for text, found in zip(texts, found_room, strict=True) if found]
    assert 10 < found_room.sum() < 80
    boxes = [label.get_window_extent() for label in axes.texts]
    assert not any(Bbox.intersection(a, b) for a, b in combinations(boxes, 2))
    for box in boxes:
        assert not any(box.contains(*mark) for mark in axes.transData.transform(places))
        assert axes.bbox.count_contains(box.corners()) == 4


def test_where_room_is_short_the_first_labels_are_written() -> None:
    figure, axes = plots.new_figure("Labels", "x", "y")
    places = np.full((20, 2), 0.5)
    found_room = ranking_plots.write_labels(figure, axes, places, ["label"] * 20, ["black"] * 20)
    assert 2 <= found_room.sum() <= 8
    assert found_room[: found_room.sum()].all()


def test_the_most_liked_of_a_band_are_above_the_least_liked(
    pictures: dict[str, tuple[bytes, bytes]],
) -> None:
    png, _ = pictures["liked"]
    assert rows_of(png, plots.BLUE) < rows_of(png, plots.ORANGE)
    upside_down = ranking_plots.liked_at_equal_popularity(-BIASES, COUNTS, TITLES)
    assert rows_of(upside_down, plots.BLUE) < rows_of(upside_down, plots.ORANGE)


def test_liked_are_named_in_every_band_and_where_rated_enough() -> None:
    counts = np.repeat([9, 10, 19, 20, 40], [50, 1, 1, 2, 1])
    biases = np.linspace(1, 0, len(counts))
    titles = [""] * len(counts)
    png = ranking_plots.liked_at_equal_popularity(biases, counts, titles)
    for colour in (plots.BLUE, plots.ORANGE):
        columns = np.flatnonzero(drawn_in(png, colour)[LEGEND:].any(axis=0))
        assert np.count_nonzero(np.diff(columns) > 1) == 1  # 10-19 and 20-39 alone have two movies
    rare = ranking_plots.liked_at_equal_popularity(biases, np.full(len(counts), 9), titles)
    assert not drawn_in(rare, plots.BLUE)[LEGEND:].any()
    assert not drawn_in(rare, plots.ORANGE)[LEGEND:].any()


def test_a_movie_without_ratings_is_left_out() -> None:
    unrated = ranking_plots.liked_at_equal_popularity(
        np.append(BIASES, 9), np.append(COUNTS, 0), [*TITLES, "Unrated"]
    )
    assert unrated == DRAWN["liked"]()


def test_lists_of_the_most_rated_lie_above_the_ratings() -> None:
    ratings = np.arange(100, 0, -1)
    popular = ranking_plots.coverage(ratings, ratings**3)
    niche = ranking_plots.coverage(ratings, ratings[::-1])
    assert rows_of(popular, plots.BLUE) < rows_of(popular, plots.GREY)
    assert rows_of(niche, plots.BLUE) > rows_of(niche, plots.GREY)
    shuffled = np.random.default_rng(2).permutation(100)
    assert ranking_plots.coverage(ratings[shuffled], ratings[shuffled] ** 3) == popular


def test_the_chosen_weight_is_marked() -> None:
    def lines(chosen: set[int]) -> list[int]:
        rows = [{**row, "chosen": n in chosen} for n, row in enumerate(ROWS)]
        ink = drawn_in(ranking_plots.ndcg_by_weight(rows), plots.INK)[LEGEND:]
        return [int(column) for column in np.flatnonzero(ink.sum(axis=0) > 100)]

    assert lines(set()) == []
    [first], [second], [third] = (lines({n}) for n in range(3))
    assert first < second < third
    assert second - first == pytest.approx(third - second, abs=2)


def test_weights_may_come_in_any_order(pictures: dict[str, tuple[bytes, bytes]]) -> None:
    assert ranking_plots.ndcg_by_weight(ROWS[::-1]) == pictures["weight"][0]


def test_the_best_ranking_is_at_the_top() -> None:
    for ndcg in (0.3, 0.1):
        png = ranking_plots.ranking_beside_baselines({**VALUES, "ranking_model": ndcg})
        assert (rows_of(png, plots.BLUE) < rows_of(png, plots.GREY)) == (ndcg == 0.3)


def test_titles_are_shortened() -> None:
    for title, short in {
        "Empire Strikes Back, The (1980)": "The Empire Strikes Back",
        "American in Paris, An (1951)": "An American in Paris",
        "Postino, Il (1994)": "Il Postino",
        "Cook the Thief His Wife & Her Lover, The (1989)": "The Cook the Thief His Wife…",
        "2001: A Space Odyssey (1968)": "2001: A Space Odyssey",
        "Crying Game, The": "The Crying Game",
        "Gone with the Wind": "Gone with the Wind",
        "Ghost (Again) (1990)": "Ghost (Again)",
        "Blue Angel, The (Blaue Engel, Der) (1930)": "The Blue Angel",
        "Hate (Haine, La) (1995)": "Hate (Haine, La)",
    }.items():
        assert ranking_plots.short_title(title) == short


@given(st.text())
@example("(1995)")
@example(", The")
@example("A" * 40 + ", The (1995)")
def test_a_title_of_any_characters_is_at_most_so_long(title: str) -> None:
    assert len(ranking_plots.short_title(title)) <= ranking_plots.LONGEST


def test_titles_are_not_read_as_formulas() -> None:
    for title in (r"$\nonsense{$ (1995)", "Cité_des^enfants $ & $$"):
        titles = [title] * N_MOVIES
        assert ranking_plots.factor_map(FACTORS, titles, COUNTS)
        assert ranking_plots.liked_at_equal_popularity(BIASES, COUNTS, titles)


def test_nothing_to_draw_is_refused() -> None:
    nothing = np.array([])
    pictures: list[Callable[[], bytes]] = [
        lambda: ranking_plots.factor_map(np.empty((0, 8)), [], nothing),
        lambda: ranking_plots.factor_map(np.ones((3, 8)), TITLES, COUNTS[:3]),
        lambda: ranking_plots.factor_map(np.empty((3, 0)), TITLES, COUNTS[:3]),
        lambda: ranking_plots.liked_at_equal_popularity(nothing, nothing, []),
        lambda: ranking_plots.liked_at_equal_popularity(BIASES, 0 * COUNTS, TITLES),
        lambda: ranking_plots.coverage(nothing, nothing),
        lambda: ranking_plots.coverage(COUNTS, 0 * COUNTS),
        lambda: ranking_plots.ndcg_by_weight([]),
        lambda: ranking_plots.ranking_beside_baselines({}),
    ]
    for draw in pictures:
        with pytest.raises(ValueError, match=r"There are 0 .* to draw: leave the picture out"):
            draw()


def test_drawing_needs_neither_pyplot_nor_torch() -> None:
    program = (
        "import sys; from cf_pipeline.recommender import ranking_plots; "
        "ranking_plots.factor_map(__import__('numpy').eye(3), 'abc', __import__('numpy').ones(3)); "
        "assert not {'matplotlib.pyplot', 'torch', 'dagster'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
