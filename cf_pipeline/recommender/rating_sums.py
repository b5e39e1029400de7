"""Sums over the ratings of each user, or of each item, without a temporary that grows with them."""

from __future__ import annotations

import warnings
from copy import copy
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, Self

import torch

from cf_pipeline.recommender.moments import Moments
from cf_pipeline.recommender.storage import empty

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


# The products used here have long been stable; the warning would stand in every run's log.
warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state", UserWarning)

COLUMNS_OF_A_BLOCK = 2048  # or more, if ratings are so few that blocks would be mostly empty rows
MOST_COLUMNS_OF_A_BLOCK = 1 << 15  # whose pairs of factors are a temporary, too
SORTED_AT_ONCE = 1 << 20  # ratings, each of which takes some 100 bytes meanwhile
RATINGS_AT_ONCE = 1 << 25  # in a product of some rows
SUMS_AT_ONCE = 1 << 23  # numbers that are summed up before anything is made of them
GRAMS_AT_ONCE = 1 << 20  # numbers of whole grams: beyond the cache everything takes twice as long


class _Block(NamedTuple):
    """The ratings of some `columns`, which begin at `first` among all, row by row.

    Those of row i are the block's `starts[i]` to `starts[i + 1]`, int32 (n_rows + 1,).
    """

    columns: slice
    first: int
    starts: Tensor


class RatingSums:
    """The ratings of one side's rows, of which sums are taken as sparse products.

    A sum over each row's ratings of what their columns decide is such a product. The columns come
    in blocks, so that what a block's columns decide stays in the processor's cache: over 70,000
    columns that is five times as fast. Indices are int32: a rating takes 8 bytes, 4 without values,
    and 4 more if they may be replaced. Beside these there are 4 bytes for each row of each block,
    some 30 while ratings are sorted: where ratings are few, blocks are larger, so that there are no
    more rows of blocks than ratings, or MOST_COLUMNS_OF_A_BLOCK columns in each. While products are
    taken, or ratings are sorted, there are at most some 200 MiB.
    """

    def __init__(
        self,
        rows: Tensor,
        columns: Tensor,
        values: Tensor | None,
        n_rows: int,
        n_columns: int,
        *,
        replaceable: bool = False,
        on_disk: bool = False,
    ) -> None:
        """Take each rating's `rows` and `columns`, index tensors (n_ratings,), and `values`.

        Without `values`, each is 1. What grows with the ratings stands in temporary files (see
        `empty`) if it is to be `on_disk`, and goes from there to the ratings' device a product at a
        time.

        Raises:
            OSError: there is no room for the files.
        """
        self._device, n = rows.device, len(rows)
        sparse = min(n_rows * n_columns // max(1, n), MOST_COLUMNS_OF_A_BLOCK)
        self._width = max(COLUMNS_OF_A_BLOCK, sparse)
        n_blocks = -(-n_columns // self._width)
        counts = torch.zeros(n_blocks * n_rows, dtype=torch.long, device=self._device)
        for start in range(0, n, SORTED_AT_ONCE):
            some = slice(start, start + SORTED_AT_ONCE)
            key = self._key(rows[some], columns[some], n_rows)
            counts += torch.bincount(key, minlength=len(counts))
        self.counts = counts.view(n_blocks, n_rows).sum(0)
        self._ends = self.counts.cumsum(0).cpu()
        bounds = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        self._blocks = []
        for block, start in enumerate(range(0, n_columns, self._width)):
            starts = bounds[block * n_rows : (block + 1) * n_rows + 1]
            self._blocks.append(
                _Block(
                    slice(start, min(start + self._width, n_columns)),
                    int(starts[0]),
                    (starts - starts[0]).int(),
                )
            )
        keep = self._device if not on_disk else None
        self._columns = empty(n, torch.int32, keep)
        self._values = None if values is None else empty(n, values.dtype, keep)
        self._order = empty(n, torch.int32, keep) if replaceable else None
        self._place(rows, columns, values, n_rows, bounds[:-1])
        self._kind = torch.get_default_dtype() if values is None else values.dtype

    @property
    def device(self) -> torch.device:
        """Where products are taken."""
        return self._device

    def to(self, device: torch.device) -> Self:
        """Return the sums with all that is in memory on another device."""
        if device == self._device:
            return self
        moved = copy(self)
        moved._device = device
        for name in ("counts", "_columns", "_values"):
            tensor = getattr(self, name)
            setattr(moved, name, tensor if tensor is None else tensor.to(device))
        moved._blocks = [block._replace(starts=block.starts.to(device)) for block in self._blocks]
        return moved

    def _place(
        self, rows: Tensor, columns: Tensor, values: Tensor | None, n_rows: int, free: Tensor
    ) -> None:
        """Put the ratings where they belong, in the order in which they came.

        `free` is where the next rating of each row of each block goes.
        """
        for start in range(0, len(rows), SORTED_AT_ONCE):
            some = slice(start, start + SORTED_AT_ONCE)
            key, order = torch.sort(self._key(rows[some], columns[some], n_rows), stable=True)
            of_run, length = torch.unique_consecutive(key, return_counts=True)
            ahead = free[of_run] - (length.cumsum(0) - length)
            place = torch.arange(len(key), device=key.device)
            place += torch.repeat_interleave(ahead, length)
            free[of_run] += length
            place = place.to(self._columns.device)
            self._columns[place] = (columns[some][order] % self._width).to(place.device)
            if self._values is not None and values is not None:
                self._values[place] = values[some][order].to(place.device)
            if self._order is not None:
                self._order[place] = (order + start).to(place.device, torch.int32)

    def replace(self, values: Tensor) -> None:
        """Give the ratings other `values` (n_ratings,), in the order in which the first came.

        Raises:
            ValueError: the sums were not made to have their values replaced.
        """
        if self._values is None or self._order is None:
            raise ValueError("These values stay: make the sums with values, and replaceable=True.")
        pieces = (tensor.split(SORTED_AT_ONCE) for tensor in (self._values, self._order))
        for piece, order in zip(*pieces, strict=True):
            piece.copy_(values[order.to(values.device)])

    def total(self, table: Tensor) -> Tensor:
        """Return Σ t over each row's ratings, (n_rows, width), of columns' t `table`."""
        total = table.new_zeros(len(self.counts), table.shape[1])
        for rows in self._parts(table.shape[1]):
            for columns, met, _ in self._matrices(rows):
                total[rows].addmm_(met, table[columns])
        return total

    def moments(
        self, table: Tensor, offset: Tensor, weight: Tensor | None = None
    ) -> Iterator[tuple[slice, Moments]]:
        """Yield some rows, and their moments, until all have come.

        The columns' t are `table` (n_columns, width), their o are `offset` (n_columns,), and their
        h are `weight` (n_columns,), 1 by default.
        """
        width = table.shape[1]
        weighted = table if weight is None else table * weight.unsqueeze(1)
        # A gram is symmetric: half of it is enough to sum. index_select is five times as fast here
        # as indexing.
        row, column = torch.tril_indices(width, width, device=table.device)
        n_pairs = len(row)
        place = torch.zeros(width, width, dtype=torch.long, device=table.device)
        place[row, column] = torch.arange(n_pairs, device=table.device)
        place = torch.maximum(place, place.T).flatten()
        size = max(1, GRAMS_AT_ONCE // width**2)
        for rows in self._parts(n_pairs + 2 * width):
            n_rows = rows.stop - rows.start
            sums, linear = table.new_zeros(n_rows, n_pairs + width), table.new_zeros(n_rows, width)
            for columns, met, values in self._matrices(rows):
                here = weighted[columns]
                pairs = here.index_select(1, row) * table[columns].index_select(1, column)
                offsets = here * offset[columns].unsqueeze(1)
                sums.addmm_(met, torch.cat([pairs, offsets], dim=1))
                linear.addmm_(values, here)
            linear -= sums[:, n_pairs:]
            start = rows.start
            for some, here in zip(sums.split(size), linear.split(size), strict=True):
                gram = some.index_select(1, place).view(-1, width, width)
                yield slice(start, start + len(some)), Moments(gram, here)
                start += len(some)

    def squared_errors(self, explained: Tensor, offset: Tensor) -> Tensor:
        """Return Σ (y - o - w·t)² of each row, (n_rows,), from what w explains of moments with h 1.

        `explained` (n_rows,) is that of their residuals, and `offset` (n_columns,) is theirs.
        """
        squares = torch.zeros_like(explained)  # Σ (y - o)²
        for rows in self._parts(1):
            for columns, met, values in self._matrices(rows):
                offsets = offset[columns]
                squares[rows] += torch.segment_reduce(
                    values.values().square(), "sum", lengths=met.crow_indices().diff(), unsafe=True
                )
                squares[rows] += met @ offsets.square() - 2 * (values @ offsets)
        return (squares - explained).clamp(min=0)

    def _parts(self, width: int) -> Iterator[slice]:
        """Yield as many rows at a time as `width` sums of each, and their ratings, have room."""
        n_rows, size = len(self._ends), max(1, SUMS_AT_ONCE // width)
        start = before = 0
        while start < n_rows:
            fits = int(torch.searchsorted(self._ends, before + RATINGS_AT_ONCE, right=True))
            stop = min(n_rows, start + size, max(start + 1, fits))
            yield slice(start, stop)
            start, before = stop, int(self._ends[stop - 1])

    def _matrices(self, rows: slice) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yield for each block its columns, and two matrices (n, n_columns) of some `rows`.

        One holds ones where a row has a rating, the other the ratings.
        """
        for block in self._blocks:
            starts = block.starts[rows.start : rows.stop + 1]
            first, stop = int(starts[0]), int(starts[-1])
            if first == stop:
                continue
            here = slice(block.first + first, block.first + stop)
            columns = self._columns[here].to(self._device)
            ones = _ones(stop - first, self._kind, self._device)
            values = ones if self._values is None else self._values[here].to(self._device)
            shape = rows.stop - rows.start, block.columns.stop - block.columns.start
            starts = starts - first
            met, rated = (
                torch.sparse_csr_tensor(starts, columns, entries, shape, check_invariants=False)
                for entries in (ones, values)
            )
            yield block.columns, met, rated

    def _key(self, rows: Tensor, columns: Tensor, n_rows: int) -> Tensor:
        """Return a number for each row of each block, in the order in which they are kept."""
        return (columns // self._width).long() * n_rows + rows


def _ones(n: int, kind: torch.dtype, device: torch.device) -> Tensor:
    return _many_ones(1 << (n - 1).bit_length(), kind, device)[:n]


@lru_cache(maxsize=4)
def _many_ones(n: int, kind: torch.dtype, device: torch.device) -> Tensor:
    """Return ones that all blocks share: of their own they would take as much as the ratings."""
    return torch.ones(n, dtype=kind, device=device)
