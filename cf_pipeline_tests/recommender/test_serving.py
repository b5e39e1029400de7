"""Lists for people: by their id, and by a few ratings of movies that they name."""

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cf_pipeline.recommender.serving import OTHERWISE, Recommender
from cf_pipeline_tests.recommender.recommenders import ONLY_TESTED, Fitted, some_recommender

STRANGER = 10**6
USERS = (1, 13, 405, 655, 943)  # of few ratings and of many
SPACE = [
    *("Star Trek: First Contact", "Star Trek III: The Search for Spock"),
    *("Star Trek: The Wrath of Khan", "Star Trek VI: The Undiscovered Country"),
]
FOR_CHILDREN = ["Lion King, The", "Beauty and the Beast", "Aladdin", "Pinocchio", "Cinderella"]
SMALL = {strings: some_recommender(strings) for strings in (False, True)}


def rated_by(user: int, *parts: pd.DataFrame) -> set[int]:
    return {movie for part in parts for movie in part["movie"][part["user"] == user]}


def seen_by(recommender: Recommender, user: pd.Index) -> set[int | str]:
    """Return what the `user`, an index of one id, has rated in either part."""
    history = recommender.history
    rows = history.raters == int(history.vocabulary.encode(user)[0])
    return set(recommender.movies.decode(history.items[rows].numpy()).tolist())


@pytest.mark.parametrize("user", USERS)
def test_a_user_is_listed_the_best_unseen_movies(fitted: Fitted, user: int) -> None:
    listed = fitted.recommender.recommend(user)
    assert len(listed) == 20
    assert listed["rank"].tolist() == list(range(1, 21))
    assert listed["score"].is_monotonic_decreasing
    assert listed["movie"].is_unique
    assert not rated_by(user, fitted.train, fitted.test) & set(listed["movie"])
    titles = fitted.movies.set_index("movie")["title"]
    assert listed["title"].tolist() == titles[listed["movie"]].tolist()


def test_the_scores_are_the_model_s_and_no_unseen_movie_has_a_greater_one(fitted: Fitted) -> None:
    model, (users, movies) = fitted.recommender.model, fitted.recommender._vocabularies
    listed = fitted.recommender.recommend(405).set_index("movie")["score"]
    scores = model.items @ model.users[int(users.encode([405])[0])]
    of_movie = pd.Series(scores[1:].numpy(), movies.ids)
    assert listed.to_numpy() == pytest.approx(of_movie[listed.index].to_numpy(), abs=1e-5)
    unseen = of_movie.drop(list(rated_by(405, fitted.train, fitted.test)), errors="ignore")
    assert unseen.drop(listed.index).max() <= listed.min() + 1e-5


@pytest.mark.parametrize("user", USERS)
def test_predicted_ratings_are_the_factor_model_s_on_the_scale(fitted: Fitted, user: int) -> None:
    listed = fitted.recommender.recommend(user, 2000)  # the worst are off the scale
    expected = fitted.recommender.model.rating.predict([user] * len(listed), listed["movie"])
    assert listed["predicted_rating"].to_numpy() == pytest.approx(expected.clip(1, 5), abs=1e-5)


def test_a_list_ends_with_the_last_unseen_movie(fitted: Fitted) -> None:
    listed = fitted.recommender.recommend(1, 5000)
    seen = rated_by(1, fitted.train, fitted.test)
    assert set(listed["movie"]) == set(fitted.train["movie"]) - seen


@settings(deadline=None)  # a busy machine takes its time
@given(st.integers(-2, 100), st.integers(1, 40), st.booleans())
def test_no_id_of_either_kind_is_listed_what_it_rated(user: int, n: int, strings: bool) -> None:
    recommender = SMALL[strings]
    listed = recommender.recommend(str(user) if strings else user, n)
    seen = seen_by(recommender, pd.Index([str(user) if strings else user]))
    assert not seen & set(listed["movie"])
    assert len(listed) == min(n, 30 - len(seen))
    assert {type(movie) for movie in listed["movie"]} <= {str if strings else int}


@pytest.mark.parametrize("who", [None, 1.5, True, "1"])
def test_what_cannot_be_an_id_is_refused(fitted: Fitted, who: Any) -> None:
    with pytest.raises(TypeError, match=r"is no id of a user: they are of type int"):
        fitted.recommender.recommend(who)
    if not isinstance(who, str):
        with pytest.raises(TypeError, match=r"is no id of a user: they are of type str"):
            SMALL[True].recommend(who)


def test_no_list_is_shorter_than_one(fitted: Fitted) -> None:
    with pytest.raises(ValueError, match=r"0 movies cannot be listed: give 1 or more"):
        fitted.recommender.recommend(1, 0)


def test_a_title_is_a_string(fitted: Fitted) -> None:
    with pytest.raises(TypeError, match=r"50 is no title"):
        fitted.recommender.recommend({50: 5})  # type: ignore[dict-item]


def test_the_history_is_of_both_parts(fitted: Fitted) -> None:
    """As it comes out row by row, of the movies that the training part knows."""
    history, movies = fitted.recommender.history, fitted.recommender.movies
    listed = set(movies.ids)
    expected = [
        (row["user"], row["movie"], stars, trained)
        for part, trained in ((fitted.train, True), (fitted.test, False))
        for row in part.to_dict("records")
        for stars in [row["rating"] if trained else 0]
        if row["movie"] in listed
    ]
    users = history.vocabulary.decode(history.raters.numpy())
    ids = movies.decode(history.items.numpy())
    rows = zip(users, ids, history.ratings.tolist(), history.in_training.tolist(), strict=True)
    assert list(rows) == expected


def test_the_stars_of_the_test_part_are_not_kept(fitted: Fitted) -> None:
    history = fitted.recommender.history
    assert (history.ratings > 0).equal(history.in_training)


def test_a_stranger_is_listed_what_everybody_watches(fitted: Fitted) -> None:
    listed = fitted.recommender.recommend(STRANGER)
    most_rated = fitted.train["movie"].value_counts().index[:60]
    assert set(listed["movie"]) <= set(most_rated)
    assert set(listed["reason"]) == {OTHERWISE}


def test_who_is_in_the_test_part_only_is_a_stranger_who_has_seen_something() -> None:
    recommender = SMALL[False]
    strangers = recommender.recommend(STRANGER, 30)["movie"].tolist()
    seen = seen_by(recommender, pd.Index([ONLY_TESTED]))
    assert len(seen) == 3
    listed = recommender.recommend(ONLY_TESTED, 30)["movie"].tolist()
    assert listed == [movie for movie in strangers if movie not in seen]


def test_somebody_new_with_a_user_s_ratings_is_listed_about_what_the_user_is(
    fitted: Fitted,
) -> None:
    recommender = fitted.recommender
    titles = fitted.movies.set_index("movie")["title"]
    lists = {user: set(recommender.recommend(user)["movie"]) for user in USERS}
    for user in USERS:
        rows = fitted.train[fitted.train["user"] == user]
        given_ratings = dict(zip(titles[rows["movie"]], rows["rating"], strict=True))
        listed = recommender.recommend(given_ratings, 2000)
        listed = listed[~listed["movie"].isin(rated_by(user, fitted.test))][:20]
        assert not set(given_ratings) & set(listed["title"])
        in_common = {other: len(set(listed["movie"]) & lists[other]) for other in USERS}
        assert in_common[user] >= 12
        assert all(n <= 6 for other, n in in_common.items() if other != user)


def test_what_was_rated_by_its_title_is_not_listed_under_the_same_title(
    recommender: Recommender,
) -> None:
    """MovieLens 100k has Fly Away Home twice."""
    listed = recommender.recommend({"Fly Away Home": 5}, 2000)
    assert "Fly Away Home (1996)" in recommender.titles
    assert "Fly Away Home (1996)" not in set(listed["title"])


def test_a_list_is_of_the_kind_of_movies_that_were_rated(fitted: Fitted) -> None:
    genres = fitted.movies.set_index("movie")["genres"]

    def share(rated: list[str], genre: str) -> float:
        listed = fitted.recommender.recommend(dict.fromkeys(rated, 5))
        return float(np.mean([genre in genres[movie] for movie in listed["movie"]]))

    assert share(FOR_CHILDREN, "Children's") > share(SPACE, "Children's") + 0.2
    assert share(SPACE, "Sci-Fi") > share(FOR_CHILDREN, "Sci-Fi") + 0.2


def test_stars_count_not_only_what_was_rated(recommender: Recommender) -> None:
    liked, hated = (recommender.recommend(dict.fromkeys(SPACE, stars)) for stars in (5, 1))
    assert liked["movie"].tolist() != hated["movie"].tolist()
    both = liked.merge(hated, on="movie")
    assert (both["predicted_rating_x"] > both["predicted_rating_y"] + 0.2).all()


def test_nobody_s_ratings_make_a_list_too(recommender: Recommender) -> None:
    listed = recommender.recommend({})
    assert len(listed) == 20
    assert set(listed["reason"]) == {OTHERWISE}


def test_a_movie_that_is_named_twice_is_rated_once(recommender: Recommender) -> None:
    twice = recommender.recommend({"star wars": 1, "Star Wars (1977)": 5})
    pd.testing.assert_frame_equal(twice, recommender.recommend({"Star Wars": 5}))


def test_an_unknown_title_is_refused_with_those_like_it(recommender: Recommender) -> None:
    with pytest.raises(ValueError, match=re.escape("'Star Wras': is it 'Star Wars (1977)'")):
        recommender.recommend({"Toy Story": 5, "Star Wras": 5})
    with pytest.raises(ValueError, match="is called 'zzzzzzzzzz': see titles"):
        recommender.similar("zzzzzzzzzz")


@pytest.mark.parametrize("stars", [0, 0.99, 5.01, -1, np.nan, np.inf])
def test_stars_off_the_scale_are_refused(recommender: Recommender, stars: float) -> None:
    with pytest.raises(ValueError, match=f"'Toy Story' is rated {stars}, but 1 to 5"):
        recommender.recommend({"Toy Story": stars})


@pytest.mark.parametrize("title", ["Star Wars (1977)", "STAR WARS (1977)", "star wars"])
def test_a_title_is_found_in_any_case_and_without_its_year(
    recommender: Recommender, title: str
) -> None:
    assert recommender.movies.decode([recommender.index_of(title)]).tolist() == [50]


def test_of_several_movies_of_one_title_it_is_the_most_rated(recommender: Recommender) -> None:
    """MovieLens 100k has some movies twice; the second is not always the more rated."""
    titles = pd.DataFrame({"title": recommender.titles, "count": recommender.counts})[1:]
    twice = titles[titles["title"].duplicated(keep=False)]
    assert len(twice) > 20
    for title, movies in twice.groupby("title"):
        for name in (str(title), str(title)[: -len(" (1997)")]):
            assert recommender.counts[recommender.index_of(name)] == movies["count"].max(), name


def test_the_unknown_movie_has_no_title(recommender: Recommender) -> None:
    with pytest.raises(ValueError, match="No movie"):
        recommender.index_of(recommender.titles[0])
