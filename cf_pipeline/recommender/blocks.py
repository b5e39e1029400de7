"""The ratings of one side's rows in blocks, on each of which a task works."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple, Self, TypeAlias, TypeVar, cast

import torch

from cf_pipeline.recommender.executors import Part
from cf_pipeline.recommender.rating_scale import STARS
from cf_pipeline.recommender.rating_sums import RatingSums

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from cf_pipeline.recommender.executors import Executor, Kept
    from cf_pipeline.recommender.minibatches import EncodedRatings
    from cf_pipeline.recommender.rating_scale import RatingScale

Found = TypeVar("Found")
SideName: TypeAlias = Literal["users", "items"]
COUNTED_BY_A_TASK = 1 << 24  # ratings


class BlockKind(NamedTuple):
    """How blocks of one side are made: what `RatingSums` are told beside the ratings.

    Values, where there are any, are the ratings of a `scale` as stars.
    """

    side: SideName
    n_columns: int
    with_values: bool
    replaceable: bool
    on_disk: bool
    scale: RatingScale = STARS


class Blocks:
    """All rows of one side, a block of them after the other, and the sums over their ratings.

    `rows` are the blocks' rows, `counts` (n_rows,) is how many ratings each row has. Block and
    stream of random numbers go together (see `draws.stream`), so what is drawn by blocks depends on
    where they end, but not on who works on them.
    """

    def __init__(
        self,
        executor: Executor,
        side: SideName,
        rows: Sequence[slice],
        counts: Tensor,
        sums: Sequence[Kept[RatingSums]],
    ) -> None:
        self.counts = counts
        self.rows = rows
        self._executor = executor
        ends = counts.cumsum(0).tolist()
        sizes = [ends[some.stop - 1] - (ends[some.start - 1] if some.start else 0) for some in rows]
        self._named = [
            (_name(side, number, len(rows), some), size, kept)
            for number, (some, size, kept) in enumerate(zip(rows, sizes, sums, strict=True))
        ]

    @classmethod
    def of(
        cls,
        ratings: EncodedRatings,
        n_rows: int,
        kind: BlockKind,
        size: int,
        executor: Executor,
    ) -> Self:
        """Sort the ratings into blocks of about `size` ratings, at least a row each.

        Raises:
            BlockError: an index is out of range, a rating is not finite, or there is no room for
            temporary files.
        """
        counts = count_rows(ratings, kind.side, n_rows, executor)
        rows = _even_blocks(counts, size)
        parts = [
            Part(_name(kind.side, number, len(rows), some), 0, (some,))
            for number, some in enumerate(rows)
        ]
        sums = executor.keep(make_block, parts, n_rows, kind, ratings)
        return cls(executor, kind.side, rows, counts, sums)

    def map(
        self, task: Callable[..., Found], of_rows: Sequence[Tensor], *shared: object
    ) -> Iterator[tuple[slice, Found]]:
        """Yield each block's rows, and what `task(sums, number, *own, *shared)` makes of it.

        `own` are the block's rows of the tensors `of_rows` (n_rows, …).

        Raises:
            BlockError: a task failed.
        """
        parts = [
            Part(name, size, (kept, number, *(tensor[some] for tensor in of_rows)))
            for number, ((name, size, kept), some) in enumerate(
                zip(self._named, self.rows, strict=True)
            )
        ]
        yield from zip(self.rows, self._executor.map(task, parts, *shared), strict=True)

    def replace(self, values: Tensor) -> None:
        """Give the ratings other `values` (n_ratings,); they are in this process, in one block."""
        [(_, _, sums)] = self._named
        cast("RatingSums", sums).replace(values)

    def total(self, table: Tensor) -> Tensor:
        """Return Σ t over each row's ratings, (n_rows, width), of columns' t `table`."""
        total = table.new_empty(len(self.counts), table.shape[1])
        for rows, found in self.map(total_of_block, (), table):
            total[rows] = found
        return total


def make_block(rows: slice, n_rows: int, kind: BlockKind, ratings: EncodedRatings) -> RatingSums:
    """Return the sums over the ratings of some of the rows.

    Raises:
        ValueError: a column is out of range, or a rating is not finite.
    """
    mine, others = (ratings.users, ratings.items)[:: 1 if kind.side == "users" else -1]
    values = ratings.ratings
    if rows != slice(0, n_rows):
        parts = []
        for piece in ratings.pieces():
            of_piece, of_others = (piece.users, piece.items)[:: 1 if kind.side == "users" else -1]
            inside = (of_piece >= rows.start) & (of_piece < rows.stop)
            parts.append((of_piece[inside] - rows.start, of_others[inside], piece.ratings[inside]))
        mine, others, values = (torch.cat(column) for column in zip(*parts, strict=True))
    if len(others) and not 0 <= others.min() <= others.max() < kind.n_columns:
        raise ValueError(
            f"an index of the other side is {int(others.min())} or {int(others.max())}, and should "
            f"be from 0 to {kind.n_columns - 1}: materialize vocabularies again"
        )
    if not values.isfinite().all():
        raise ValueError("a rating is not finite: materialize vocabularies again")
    return RatingSums(
        mine,
        others,
        kind.scale.in_stars(values) if kind.with_values else None,
        rows.stop - rows.start,
        kind.n_columns,
        replaceable=kind.replaceable,
        on_disk=kind.on_disk,
    )


def total_of_block(sums: RatingSums, _: int, table: Tensor) -> Tensor:
    """Return `sums.total(table)`."""
    return sums.total(table)


def count_rows(ratings: EncodedRatings, side: SideName, n_rows: int, executor: Executor) -> Tensor:
    """Return how many ratings each row of a side has, int64 (n_rows,).

    Raises:
        BlockError: an index is out of range.
    """
    n = len(ratings.ratings)
    parts = [
        Part(f"Ratings {start:,} to {min(n, start + COUNTED_BY_A_TASK):,}", 0, (start,))
        for start in range(0, n, COUNTED_BY_A_TASK)
    ]
    counts = torch.zeros(n_rows, dtype=torch.long, device=ratings.ratings.device)
    for found in executor.map(count_some, parts, side, n_rows, ratings):
        counts += found
    return counts


def count_some(start: int, side: SideName, n_rows: int, ratings: EncodedRatings) -> Tensor:
    """Return how many of COUNTED_BY_A_TASK ratings from `start` on each row has, (n_rows,).

    Raises:
        ValueError: an index is out of range.
    """
    counts = torch.zeros(n_rows, dtype=torch.long, device=ratings.ratings.device)
    for piece in ratings.take(slice(start, start + COUNTED_BY_A_TASK)).pieces():
        rows = getattr(piece, side)
        if len(rows) and not 0 <= rows.min() <= rows.max() < n_rows:
            raise ValueError(
                f"an index of the {side} is {int(rows.min())} or {int(rows.max())}, and should be "
                f"from 0 to {n_rows - 1}: materialize vocabularies again"
            )
        counts += torch.bincount(rows, minlength=n_rows)
    return counts


def _even_blocks(counts: Tensor, size: int) -> list[slice]:
    """Return as many blocks of about as many ratings as have no more than `size`, if rows allow."""
    ends = counts.cumsum(0)
    n = int(ends[-1])
    n_blocks = max(1, -(-n // size))
    wanted = torch.arange(1, n_blocks, device=counts.device) * n // n_blocks
    starts = [0, *torch.searchsorted(ends, wanted, right=True).unique().tolist(), len(counts)]
    return [slice(*both) for both in pairwise(starts) if both[0] < both[1]]


def _name(side: SideName, number: int, n_blocks: int, rows: slice) -> str:
    return f"Block {number + 1} of {n_blocks} of the {side} ({rows.start:,} to {rows.stop - 1:,})"
