"""Reasons for what is listed, against a float64 solution, and their words."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cf_pipeline.recommender import explanations
from cf_pipeline.recommender.explanations import REASONS, Rated, Reasons, reasons, sentences
from cf_pipeline.recommender.ranking_model import RankingModel
from cf_pipeline.recommender.rating_scale import STARS
from cf_pipeline.recommender.serving import Recommender
from cf_pipeline_tests.recommender.recommenders import Fitted, some_recommender

USERS = (1, 13, 300, 405, 655)  # of 11 training ratings to 678
LISTED = torch.tensor([50, 100, 181, 7, 1500])


def system(model: RankingModel, items: Tensor) -> tuple[Tensor, Tensor, float]:
    """Return all items' factors, A of who rated `items`, and the weight of their prior."""
    factors, settings = model.implicit.items.double(), model.settings
    own = settings.regularization * (len(items) + 1) ** 0.5
    matrix = factors.T @ factors + own * torch.eye(factors.shape[1])
    rated = factors[items]
    return factors, matrix + settings.confidence * rated.T @ rated, own


def shares(model: RankingModel, items: Tensor, listed: Tensor) -> Tensor:
    """Return how much each of the rated `items` adds to the score of each of the `listed`."""
    factors, matrix, _ = system(model, items)
    solved: Tensor = torch.linalg.solve(matrix, factors[items].T)
    return (1 + model.settings.confidence) * factors[listed] @ solved


def of_user(recommender: Recommender, user: int) -> Rated:
    return recommender.rated.take(torch.tensor(recommender.users.encode([user])))


@pytest.mark.parametrize("user", USERS)
def test_what_was_rated_and_the_prior_add_up_to_the_score(
    recommender: Recommender, user: int
) -> None:
    model, rated = recommender.model, of_user(recommender, user)
    items = rated.items.columns
    added = model.with_user(items, rated.ratings).implicit
    factors, matrix, own = system(model, items)
    prior = own * factors[LISTED] @ torch.linalg.solve(matrix, added.users[0].double())
    scores = added.items[LISTED] @ added.users[-1]
    total = shares(model, items, LISTED).sum(dim=1) + prior
    torch.testing.assert_close(total.float(), scores, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("user", USERS)
def test_the_reasons_are_what_weighs_most_of_what_was_liked(
    recommender: Recommender, user: int
) -> None:
    rated = of_user(recommender, user)
    found = reasons(recommender.model, rated, LISTED.unsqueeze(0))
    liked = rated.ratings >= rated.ratings.mean()
    expected = shares(recommender.model, rated.items.columns, LISTED) * liked
    most = expected.topk(REASONS)[0].clamp(min=0)
    torch.testing.assert_close(found.weights[0], most.float(), rtol=1e-3, atol=1e-5)
    there = found.places[0] >= 0
    assert there.equal(found.weights[0] > 0)
    assert there.any()
    at_places = expected.gather(1, found.places[0].clamp(min=0))
    torch.testing.assert_close(at_places[there], most[there], rtol=1e-3, atol=1e-5)


def test_blocks_of_any_size_find_the_same_reasons(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = LISTED.expand(len(recommender.users), -1)
    at_once = reasons(recommender.model, recommender.rated, listed)
    for numbers in (1, 50_000):
        monkeypatch.setattr(explanations, "NUMBERS_AT_ONCE", numbers)
        in_blocks = reasons(recommender.model, recommender.rated, listed)
        torch.testing.assert_close(in_blocks.weights, at_once.weights, rtol=1e-3, atol=1e-5)
        assert (in_blocks.places == at_once.places).float().mean() > 0.999  # but for ties


def test_who_rated_nothing_has_no_reasons_beside_those_who_did(recommender: Recommender) -> None:
    users = torch.tensor([0, *recommender.users.encode([1]), 0])
    found = reasons(recommender.model, recommender.rated.take(users), LISTED.expand(3, -1))
    assert (found.places[[0, 2]] == -1).all()
    assert (found.weights[[0, 2]] == 0).all()
    assert (found.places[1] >= 0).any()


def test_reasons_name_what_the_user_liked_in_the_training_part(fitted: Fitted) -> None:
    titles = fitted.movies.set_index("movie")["title"]
    for user in USERS:
        rows = fitted.train[fitted.train["user"] == user]
        liked = rows[rows["rating"] >= rows["rating"].mean()]
        known = {
            f"{title}, {stars:g} star{'s' * (stars != 1)}"
            for title, stars in zip(titles[liked["movie"]], liked["rating"], strict=True)
        }
        listed = fitted.recommender.recommend(user)
        for reason in listed["reason"]:
            parts = reason.split("; ")
            assert 1 <= len(parts) <= REASONS
            assert set(parts) <= known


def test_what_somebody_new_rated_is_the_reason(recommender: Recommender) -> None:
    given_ratings = {"Star Wars": 4.5, "Toy Story (1995)": 5, "Jungle2Jungle": 1}
    listed = recommender.recommend(given_ratings)["reason"]
    assert listed.str.contains("Star Wars (1977), 4.5 stars", regex=False).all() or (
        listed.str.contains("Toy Story (1995), 5 stars", regex=False).any()
    )
    assert not listed.str.contains("Jungle2Jungle").any()  # below the mean of the three


TITLES = st.lists(st.text(min_size=1), min_size=2, max_size=6)
SOME_STARS = st.sampled_from([1.0, 1.5, 2.0, 4.5, 5.0])


@given(TITLES, st.data())
def test_words_are_each_reason_s_title_and_stars(titles: list[str], data: st.DataObject) -> None:
    """Whatever the titles: commas, semicolons, markup, other alphabets."""
    items = data.draw(st.lists(st.integers(0, len(titles) - 1), min_size=1, max_size=8))
    ratings = data.draw(st.lists(SOME_STARS, min_size=len(items), max_size=len(items)))
    chosen = st.lists(st.integers(0, len(items) - 1), max_size=REASONS)
    rows = data.draw(st.lists(chosen, min_size=1, max_size=4))
    places = torch.tensor([[*row, *[-1] * (REASONS - len(row))] for row in rows]).unsqueeze(1)
    rated = Rated.of(torch.zeros(len(items)).int(), torch.tensor(items), torch.tensor(ratings), 1)
    words = sentences(Reasons(places, torch.zeros(places.shape)), rated, titles, STARS)
    expected = [
        "; ".join(
            f"{titles[items[place]]}, {ratings[place]:g} star{'s' * (ratings[place] != 1)}"
            for place in row
        )
        for row in rows
    ]
    assert words.to_pylist() == [sentence or None for sentence in expected]


def test_words_of_nobody_s_ratings_are_null() -> None:
    nothing = Rated.of(torch.empty(0).int(), torch.empty(0).long(), torch.empty(0), 1)
    none = Reasons(torch.full((1, 4, REASONS), -1), torch.zeros(1, 4, REASONS))
    assert sentences(none, nothing, ["#na#"], STARS).to_pylist() == [None] * 4


def test_a_rating_in_the_test_part_is_no_reason() -> None:
    recommender = some_recommender()
    history = recommender.history
    held_out = ~history.in_training
    for user in recommender.users.ids:
        rater = int(history.vocabulary.encode(pd.Index([user]))[0])
        items = history.items[held_out & (history.raters == rater)]
        titles = np.array(recommender.titles)[items]
        reason = " ".join(recommender.recommend(int(user), 30)["reason"])
        assert not [title for title in titles if title in reason]
