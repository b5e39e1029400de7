"""The model card as a page: sound, the same for the same card, and safe whatever titles hold."""

import math
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cf_pipeline.recommender.card_contents import example_tables, ranking_tables
from cf_pipeline.recommender.model_card import ModelCard, Picture, Table, shown
from cf_pipeline.recommender.ranking_plots import ndcg_by_weight
from cf_pipeline.recommender.rating_scale import STARS
from cf_pipeline_tests.recommender.recommenders import some_recommender

VOID = {"meta", "img"}
WEIGHTS = [
    {"weight": n / 10, "ndcg_all": 0.3, "ndcg_liked": 0.2, "chosen": n == 1} for n in range(3)
]
PNG = ndcg_by_weight(WEIGHTS)


class Page(HTMLParser):
    """A page's tags with their attributes, in order, and its text, once it is found sound."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def form(self) -> list[tuple[str, list[str]]]:
        return [(tag, list(attributes)) for tag, attributes in self.tags]

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def card(text: str = "x") -> ModelCard:
    """Return a card that holds `text` wherever something is said."""
    tables = [Table(text, [{text: text, "RMSE": 0.9}, {text: None, "RMSE": 1}])]
    pictures = [Picture(text, PNG)]
    return ModelCard(
        summary={text: text},
        data={text: [text, 1]},
        scale=STARS,
        bias=True,
        settings={text: {text: text}},
        rating=tables,
        ranking=tables,
        examples=tables,
        pictures={"learnt": pictures, "rating": pictures, "ranking": pictures},
        licence=text,
        citation=text,
        made_from={text: text},
    )


def test_the_page_is_sound() -> None:
    page = Page(card().html())
    assert page.tags[0] == ("html", {"lang": "en"})
    for tag, times in (("h1", 1), ("title", 1), ("main", 1), ("img", 3), ("table", 3)):
        assert len(page.of(tag)) == times, tag
    assert len(page.of("caption")) == 3
    assert all(picture["alt"] == "x" for picture in page.of("img"))
    identities = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identities) == len(set(identities)) > 5


def test_the_page_asks_nobody_for_anything() -> None:
    html = card().html()
    page = Page(html)
    policy = page.of("meta")[1]
    assert policy["http-equiv"] == "Content-Security-Policy"
    assert str(policy["content"]).startswith("default-src 'none'; img-src data:;")
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data"):
            assert str(attributes.get(name, "data:")).startswith("data:"), tag
        assert not any(name.startswith("on") for name in attributes), tag
    assert not page.of("script")
    assert not page.of("link")
    assert "url(" not in html
    assert "@import" not in html


PLAIN = Page(card().html()).form()


@example("<script>alert(1)</script>")
@example("\" onerror='alert(1)' x=\"")
@example("</style></caption></table><img src=//evil.example>")
@example("{{ 1 + 1 }}{% raw %}")
@example("&lt;b&gt; &amp; &#60;")
@example("<!-- ")
@given(st.text())
def test_no_text_is_taken_for_markup(text: str) -> None:
    page = Page(card(text).html())
    assert page.form() == PLAIN
    assert page.text.count(text) >= 10
    assert all(picture["alt"] == text for picture in page.of("img"))


def test_titles_and_reasons_of_examples_are_text_too() -> None:
    evil = "<script>alert('x')</script>; \"quoted\", & (1999)"
    small = some_recommender()
    hostile = replace(small, titles=[evil] * len(small.titles))
    tables = example_tables(hostile)
    page = Page(replace(card(), examples=tables).html())
    assert not page.of("script")
    assert page.text.count(evil) >= 18
    assert {table.caption for table in tables} == {f"Most like {evil}"}


def test_examples_are_nobody_s_lists() -> None:
    small = some_recommender()
    [best, *_] = small.counts.argsort(descending=True, stable=True).tolist()
    first, second = example_tables(small)[:2]
    assert first.caption == f"For somebody who gave {small.titles[best]} the highest rating"
    assert second.caption == f"Most like {small.titles[best]}"
    listed = small.recommend({small.titles[best]: 5}, 5)
    assert [row["title"] for row in first.rows] == listed["title"].tolist()


def test_the_same_card_makes_the_same_page() -> None:
    assert card("Amélie").html() == card("Amélie").html()
    assert "Amélie" in card("Amélie").html()


def test_lists_that_nobody_could_judge_are_left_out() -> None:
    judged = {"ranking": {"ranking_model": {"all": None, "liked": None}}}
    assert ranking_tables(judged) == []
    bare: dict[str, list[Picture]] = {"learnt": [], "rating": [], "ranking": []}
    page = Page(replace(card(), rating=[], ranking=[], examples=[], pictures=bare).html())
    assert not page.of("table")
    assert not page.of("img")
    assert "Examples" not in page.text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (True, "yes"),
        (False, "no"),
        (0.87432, "0.8743"),
        (0.98996, "0.9900"),
        (2.0, "2"),
        (0.25, "0.25"),
        (80_000, "80,000"),
        (1_234_567.0, "1234567"),
        (12_345.6789, "12345.6789"),
        (0.00002, "2e-05"),
        ([0.0, 5.5], "0, 5.5"),
        ((), ""),
        ("a_b", "a_b"),
    ],
)
def test_values_are_shown_so_that_they_can_be_read(value: object, text: str) -> None:
    assert shown(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e15, max_value=1e15))
def test_a_number_is_shown_to_four_places_and_never_as_another(value: float) -> None:
    told = float(shown(value))
    assert math.isclose(told, value, rel_tol=0.06)
    assert math.isclose(told, value, rel_tol=1e-15, abs_tol=5.01e-5)
