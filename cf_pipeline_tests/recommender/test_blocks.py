"""Ratings in blocks: they hold what one block of all ratings would, and say which one is wrong."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cf_pipeline.recommender import blocks, minibatches
from cf_pipeline.recommender.blocks import BlockKind, Blocks, SideName
from cf_pipeline.recommender.executors import LOCAL, BlockError, LocalExecutor, Part
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.moments import Moments
from cf_pipeline.recommender.rating_sums import RatingSums

Found = TypeVar("Found")
ALL = 1 << 20  # ratings of a block: more than there are


class Case(NamedTuple):
    """Ratings of some of the rows, and what a regression on them takes."""

    ratings: EncodedRatings
    n_rows: int
    kind: BlockKind
    table: Tensor  # (n_columns, 2)
    offset: Tensor  # (n_columns,)

    def blocks(self, size: int, executor: LocalExecutor = LOCAL) -> Blocks:
        return Blocks.of(self.ratings, self.n_rows, self.kind, size, executor)

    def moments(self, of: Blocks) -> Moments:
        """Return the moments of all rows."""
        parts = [found for _, found in of.map(moments_of, (), self.table, self.offset)]
        return Moments(*map(torch.cat, zip(*parts, strict=True)))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Many rows have no rating; now and then one row has nearly all."""
    n_rows, n_columns = draw(st.integers(1, 12)), draw(st.integers(1, 9))
    cells = st.integers(0, n_rows * n_columns - 1)
    chosen = draw(st.lists(cells, unique=True, max_size=30))
    if draw(st.booleans()):
        giant = draw(st.integers(0, n_rows - 1))
        of_giant = {giant * n_columns + column for column in range(n_columns)}
        chosen = draw(st.permutations(sorted(of_giant | set(chosen[:3]))))
    cell = torch.tensor(chosen, dtype=torch.int32)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    stars = torch.randint(1, 6, (len(cell),), generator=generator).float()
    side: SideName = draw(st.sampled_from(["users", "items"]))
    pairs = cell // n_columns, cell % n_columns
    ratings = EncodedRatings(*(pairs if side == "users" else pairs[::-1]), stars)
    kind = BlockKind(side, n_columns, draw(st.booleans()), replaceable=False, on_disk=False)
    table = torch.randn(n_columns, 2, generator=generator)
    return Case(ratings, n_rows, kind, table, torch.randn(n_columns, generator=generator))


def moments_of(sums: RatingSums, _: int, table: Tensor, offset: Tensor) -> Moments:
    parts = [part for _, part in sums.moments(table, offset)]
    return Moments(*map(torch.cat, zip(*parts, strict=True)))


class Recording(LocalExecutor):
    """Remembers what parts it was given."""

    def __init__(self) -> None:
        self.parts: list[Part] = []

    def map(
        self, task: Callable[..., Found], parts: Sequence[Part], *shared: object
    ) -> Iterator[Found]:
        self.parts = list(parts)
        return super().map(task, parts, *shared)


SIZES = st.integers(1, 40)


@settings(deadline=None)  # torch's first calls take their time
@given(cases(), SIZES)
def test_blocks_hold_every_row_once_and_none_many_more_ratings_than_it_should(
    case: Case, size: int
) -> None:
    executor = Recording()
    found = case.blocks(size, executor)
    rows = [row for some in found.rows for row in range(some.start, some.stop)]
    assert rows == list(range(case.n_rows))
    of_rows = getattr(case.ratings, case.kind.side)
    assert found.counts.tolist() == torch.bincount(of_rows, minlength=case.n_rows).tolist()
    of_blocks = [int(found.counts[some].sum()) for some in found.rows]
    n = len(case.ratings.ratings)
    assert len(of_blocks) <= max(1, -(-n // size))
    assert max(of_blocks) < size + max(1, int(found.counts.max()))
    found.total(case.table)
    assert [part.size for part in executor.parts] == of_blocks
    assert len({part.name for part in executor.parts}) == len(of_blocks)


@settings(deadline=None)
@given(cases(), SIZES)
def test_totals_and_moments_are_those_of_one_block(case: Case, size: int) -> None:
    parted, whole = case.blocks(size), case.blocks(ALL)
    assert len(whole.rows) == 1
    torch.testing.assert_close(parted.total(case.table), whole.total(case.table))
    for part, expected in zip(case.moments(parted), case.moments(whole), strict=True):
        torch.testing.assert_close(part, expected)


@settings(deadline=None)
@given(cases(), SIZES, st.integers(1, 9))
def test_it_does_not_matter_how_many_ratings_are_looked_at_at_once(
    case: Case, size: int, at_once: int
) -> None:
    expected = case.blocks(size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "COUNTED_BY_A_TASK", at_once * 2 + 1)
        patch.setattr(minibatches, "RATINGS_AT_ONCE", at_once)
        found = case.blocks(size)
    assert found.rows == expected.rows
    assert torch.equal(found.counts, expected.counts)
    for one, other in zip(case.moments(found), case.moments(expected), strict=True):
        assert torch.equal(one, other)


def own_of(_: RatingSums, number: int, own: Tensor, shared: str) -> tuple[int, list[int], str]:
    return number, own.tolist(), shared


def test_a_task_has_its_blocks_number_and_rows_and_what_all_share() -> None:
    found = list(four_users().blocks(10).map(own_of, (torch.arange(5),), "all"))
    assert found == [
        (slice(0, 2), (0, [0, 1], "all")),
        (slice(2, 3), (1, [2], "all")),
        (slice(3, 4), (2, [3], "all")),
        (slice(4, 5), (3, [4], "all")),
    ]


def four_users(
    user: int | None = None, item: int | None = None, rating: float | None = None
) -> Case:
    """Return ten ratings of each of four users, by users, where one of user 3 is as given."""
    cell = torch.arange(40, dtype=torch.int32)
    ratings = EncodedRatings(cell // 10 + 1, cell % 10, 1.0 + cell % 5)
    for column, value in zip(ratings, (user, item, rating), strict=True):
        if value is not None:
            column[25] = value
    kind = BlockKind("users", 10, with_values=True, replaceable=False, on_disk=False)
    return Case(ratings, 5, kind, torch.ones(10, 2), torch.zeros(10))


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"item": 10}, r"an index of the other side is 0 or 10, and should be from 0 to 9: mat"),
        ({"item": -1}, r"an index of the other side is -1 or 9, and should be from 0 to 9: mat"),
        ({"rating": float("nan")}, "a rating is not finite: materialize vocabularies again"),
        ({"rating": float("-inf")}, "a rating is not finite: materialize vocabularies again"),
    ],
)
def test_what_is_wrong_with_a_rating_is_said_with_the_name_of_its_block(
    wrong: dict[str, float], text: str
) -> None:
    case = four_users(**wrong)  # type: ignore[arg-type]  # a dict of any of its arguments
    with pytest.raises(BlockError, match=rf"Block 3 of 4 of the users \(3 to 3\) failed: {text}"):
        case.blocks(10)
    with pytest.raises(BlockError, match=rf"Block 1 of 1 of the users \(0 to 4\) failed: {text}"):
        case.blocks(ALL)


@pytest.mark.parametrize("user", [5, -1])
def test_an_index_that_is_in_no_block_is_said_with_the_place_of_its_rating(
    user: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "COUNTED_BY_A_TASK", 10)
    low, high = min(user, 3), max(user, 3)
    text = f"Ratings 20 to 30 failed: an index of the users is {low} or {high}, and should be "
    with pytest.raises(BlockError, match=f"{text}from 0 to 4: materialize vocabularies again"):
        four_users(user).blocks(10)
