"""Encoded ratings, and the order and size of the minibatches of a pass."""

import pickle
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cf_pipeline.recommender import minibatches
from cf_pipeline.recommender.minibatches import EncodedRatings, Minibatches
from cf_pipeline.recommender.splits import official_fold
from cf_pipeline.recommender.vocabulary import NA, Vocabulary
from cf_pipeline_tests.recommender.layouts import Tables


def numbered(n: int) -> EncodedRatings:
    """Return n ratings, each of which says its row in every column."""
    row = torch.arange(n, dtype=torch.int32)
    return EncodedRatings(row, row + 1000, row.float())


def assert_same_parts(found: Iterable[EncodedRatings], expected: Iterable[EncodedRatings]) -> None:
    for part, as_expected in zip(found, expected, strict=True):
        for column, other in zip(part, as_expected, strict=True):
            assert column.dtype == other.dtype
            assert torch.equal(column, other)


def rows(batches: Minibatches) -> list[list[int]]:
    """Return the rows of a pass, minibatch by minibatch."""
    return [batch.users.tolist() for batch in batches]


def test_real_ratings_are_encoded_and_unknown_ids_are_index_0(ratings: pd.DataFrame) -> None:
    in_test = official_fold(ratings, "u1")
    test = ratings[in_test]
    users, movies = (Vocabulary.of(ratings[key][~in_test]) for key in ("user", "movie"))
    encoded = EncodedRatings.of(test, users, movies)
    assert [column.dtype for column in encoded] == [torch.int32, torch.int32, torch.float32]
    assert users.decode(encoded.users.numpy()).tolist() == test["user"].tolist()
    expected = test["movie"].where(test["movie"].isin(movies.ids), other=0)
    decoded = movies.decode(encoded.items.numpy())
    assert np.where(decoded == NA, 0, decoded).tolist() == expected.tolist()
    assert 0 in encoded.items
    assert encoded.ratings.tolist() == test["rating"].tolist()


def test_ratings_are_taken_by_rows_and_by_a_mask() -> None:
    by_rows = numbered(4).take(torch.tensor([3, 1]))
    assert [column.tolist() for column in by_rows] == [[3, 1], [1003, 1001], [3.0, 1.0]]
    by_mask = numbered(4).take(torch.tensor([False, True, False, True]))
    assert [column.tolist() for column in by_mask] == [[1, 3], [1001, 1003], [1.0, 3.0]]


@given(st.integers(2, 50), st.floats(0.01, 0.5), st.integers(0, 2**32))
def test_carving_parts_the_ratings_in_two(n: int, fraction: float, seed: int) -> None:
    rest, carved = numbered(n).carve(fraction, seed)
    assert len(carved.ratings) == max(1, round(fraction * n))
    assert sorted([*rest.users.tolist(), *carved.users.tolist()]) == list(range(n))
    for part in (rest, carved):
        assert part.users.tolist() == sorted(part.users.tolist())
    again, _ = numbered(n).carve(fraction, seed)
    assert torch.equal(again.users, rest.users)


def test_carving_takes_other_rows_for_another_seed_and_any_row_about_as_often() -> None:
    taken = [numbered(20).carve(0.25, seed)[1].users.tolist() for seed in range(400)]
    assert len(set(map(tuple, taken))) > 350
    assert np.bincount(np.concatenate(taken)) == pytest.approx([100] * 20, abs=40)


def test_carving_takes_the_same_rows_whatever_was_drawn_before() -> None:
    """So that what one fit sets aside is what another must not have seen."""
    first = numbered(1000).carve(0.1, seed=3)
    torch.manual_seed(9)
    torch.rand(5)
    assert_same_parts(numbered(1000).carve(0.1, seed=3), first)


def test_carving_that_leaves_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"0\.9 of 3 ratings cannot be carved out"):
        numbered(3).carve(0.9, seed=0)
    with pytest.raises(ValueError, match=r"0\.9 of 3 ratings cannot be carved out"):
        numbered(3).carve_into(tmp_path, 0.9, seed=0)


@settings(deadline=None)
@given(st.integers(2, 50), st.floats(0.01, 0.5), st.integers(0, 2**32), st.integers(1, 60))
def test_what_is_carved_into_files_is_what_is_carved_in_memory(
    tmp_path_factory: pytest.TempPathFactory, n: int, fraction: float, seed: int, at_once: int
) -> None:
    folder = tmp_path_factory.mktemp("carved") / "new"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(minibatches, "RATINGS_AT_ONCE", at_once)
        in_files = numbered(n).carve_into(folder, fraction, seed)
        once_more = in_files[0].carve_into(folder / "again", 0.5, seed) if n > 3 else None
    in_memory = numbered(n).carve(fraction, seed)
    assert_same_parts(in_files, in_memory)
    assert_same_parts(numbered(n).carve_into(folder, fraction, seed), in_memory)  # another attempt
    if once_more:
        assert_same_parts(once_more, in_memory[0].carve(0.5, seed))


def test_mapped_ratings_are_pickled_as_the_names_of_their_files(tmp_path: Path) -> None:
    for part in numbered(100_000).carve_into(tmp_path, 0.2, seed=0):
        pickled = pickle.dumps(part)
        assert len(pickled) < 1000
        assert_same_parts([pickle.loads(pickled)], [part])
        assert_same_parts([pickle.loads(pickle.dumps(pickle.loads(pickled)))], [part])
        some = part.take(slice(10, 20))  # which are in no file of their own
        assert_same_parts([pickle.loads(pickle.dumps(some))], [some])
        inverted = part._replace(ratings=-part.ratings)
        assert_same_parts([pickle.loads(pickle.dumps(inverted))], [inverted])


@settings(deadline=None)  # torch's first calls take their time
@given(st.integers(1, 50), st.integers(1, 60), st.integers(0, 2**32))
def test_every_pass_holds_every_rating_once(n: int, batch_size: int, seed: int) -> None:
    batches = Minibatches(numbered(n), batch_size, seed)
    for _ in range(2):
        found = list(batches)
        sizes = [len(batch.ratings) for batch in found]
        assert sizes[:-1] == [batch_size] * (len(batches) - 1)
        assert 1 <= sizes[-1] <= batch_size
        assert sorted(torch.cat([batch.users for batch in found]).tolist()) == list(range(n))
        for users, items, rated in found:
            assert items.tolist() == (users + 1000).tolist()
            assert rated.tolist() == users.tolist()
            assert (users.dtype, rated.dtype) == (torch.int32, torch.float32)


def test_the_order_is_new_at_every_pass_and_follows_the_seed() -> None:
    batches, again, other = (Minibatches(numbered(300), 64, seed) for seed in (0, 0, 1))
    passes = [rows(batches) for _ in range(3)]
    assert [rows(again) for _ in range(3)] == passes
    orders = {tuple(map(tuple, order)) for order in [*passes, rows(other)]}
    assert len(orders) == 4


@pytest.mark.parametrize("at_once", [1, 64, 100, 128])
def test_how_much_is_gathered_at_once_makes_no_difference(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed, parts = rows(Minibatches(numbered(300), 64, seed=2)), numbered(300).carve(0.3, seed=2)
    monkeypatch.setattr(minibatches, "RATINGS_AT_ONCE", at_once)
    assert rows(Minibatches(numbered(300), 64, seed=2)) == passed
    assert_same_parts(numbered(300).carve(0.3, seed=2), parts)
    pieces = list(numbered(300).pieces())
    assert {len(piece.ratings) for piece in pieces[:-1]} == {at_once}
    assert torch.equal(torch.cat([piece.users for piece in pieces]), numbered(300).users)


def test_a_pass_is_the_permutation_of_its_seed() -> None:
    """So that a fit is the same, bit for bit, however its minibatches are gathered."""
    order = torch.randperm(300, generator=torch.Generator().manual_seed(2)).tolist()
    found = torch.cat([batch.users for batch in Minibatches(numbered(300), 64, seed=2)])
    assert found.tolist() == order


def test_every_row_comes_first_about_as_often_as_another() -> None:
    batches = Minibatches(numbered(4), 1, seed=0)
    first = [rows(batches)[0][0] for _ in range(1000)]
    assert np.bincount(first) == pytest.approx([250] * 4, abs=55)  # four standard deviations


def test_one_batch_is_the_first_of_the_first_pass_and_leaves_the_passes_alone() -> None:
    batches, untouched = (Minibatches(numbered(300), 64, seed=5) for _ in range(2))
    pairs, rated = batches.one_batch()
    first, second = (list(untouched) for _ in range(2))
    assert (pairs.shape, rated.shape) == ((64, 2), (64,))
    assert pairs[:, 0].tolist() == first[0].users.tolist()
    assert pairs[:, 1].tolist() == first[0].items.tolist()
    assert rated.tolist() == first[0].ratings.tolist()
    for expected in (first, second):
        assert rows(batches) == [batch.users.tolist() for batch in expected]
        assert torch.equal(batches.one_batch()[0], pairs)


def test_a_batch_is_shown_with_its_ids_and_titles(ratings: pd.DataFrame, tables: Tables) -> None:
    users, movies = Vocabulary.of(ratings["user"]), Vocabulary.of(ratings["movie"])
    titles = tables.movies.to_pandas().set_index("movie")["title"]
    batches = Minibatches(EncodedRatings.of(ratings, users, movies), 64, seed=0)
    shown = batches.show_batch(users, movies, titles)
    assert list(shown.columns) == ["user", "movie", "title", "rating"]
    pairs, rated = batches.one_batch()
    assert users.encode(shown["user"]).tolist() == pairs[:, 0].tolist()
    assert movies.encode(shown["movie"]).tolist() == pairs[:, 1].tolist()
    assert shown["rating"].tolist() == rated.tolist()
    assert shown["title"].tolist() == [titles[movie] for movie in shown["movie"]]
    real = ratings.set_index(["user", "movie"])["rating"]
    of_pair = [real[pair] for pair in zip(shown["user"], shown["movie"], strict=True)]
    assert shown["rating"].tolist() == of_pair


def test_an_unknown_movie_is_shown_without_a_title() -> None:
    ratings = pd.DataFrame({"user": ["a"], "movie": [9], "rating": [4.0]})
    users, movies = Vocabulary.of(["b"]), Vocabulary.of([3])
    batches = Minibatches(EncodedRatings.of(ratings, users, movies), 64, seed=0)
    shown = batches.show_batch(users, movies, pd.Series(["Fargo"], index=[3]))
    assert shown[["user", "movie", "rating"]].to_numpy().tolist() == [[NA, NA, 4.0]]
    assert shown["title"].isna().all()
