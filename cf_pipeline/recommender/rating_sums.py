"""Sums over the ratings of each user, or of each item, without a temporary that grows with them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import Tensor


# The products used here have long been stable; the warning would stand in every run's log.
warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state", UserWarning)

COLUMNS_OF_A_BLOCK = 4096


class Moments(NamedTuple):
    """What a weighted regression of each row's ratings y - o on their columns' t needs of them.

    `gram` (n_rows, width, width) is Σ h t tᵀ and `linear` (n_rows, width) is Σ h (y - o) t, over a
    row's ratings.
    """

    gram: Tensor
    linear: Tensor


class _Block(NamedTuple):
    """The ratings of some `columns`, as two sparse matrices (n_rows, n_columns) of one pattern.

    `met` holds ones where a row has a rating and `values` the ratings, whose places among all are
    `order` (n_ratings,).
    """

    columns: slice
    met: Tensor
    values: Tensor
    order: Tensor


class RatingSums:
    """The ratings of one side's rows, of which sums are taken as sparse products.

    A sum over each row's ratings of what their columns decide is such a product. The columns come
    in blocks, so that what a block's columns decide stays in the processor's cache: over 70,000
    columns that is five times as fast. Indices are int32: a rating takes 16 bytes, and no product
    needs more than a few hundred bytes for each row and column.
    """

    def __init__(
        self, rows: Tensor, columns: Tensor, values: Tensor, n_rows: int, n_columns: int
    ) -> None:
        self.counts = torch.bincount(rows, minlength=n_rows)
        self._blocks = []
        by_row = torch.argsort(rows, stable=True)
        block_of = (columns // COLUMNS_OF_A_BLOCK)[by_row]
        for block, start in enumerate(range(0, n_columns, COLUMNS_OF_A_BLOCK)):
            order = by_row[block_of == block]
            stop = min(start + COLUMNS_OF_A_BLOCK, n_columns)
            starts = torch.zeros(n_rows + 1, dtype=torch.int32, device=rows.device)
            starts[1:] = torch.bincount(rows[order], minlength=n_rows).cumsum(0)
            pattern = starts, (columns[order] - start).int()
            met, rated = (
                torch.sparse_csr_tensor(
                    *pattern, entries, (n_rows, stop - start), check_invariants=False
                )
                for entries in (torch.ones_like(values[order]), values[order])
            )
            self._blocks.append(_Block(slice(start, stop), met, rated, order.int()))

    def replace(self, values: Tensor) -> None:
        """Give the ratings other `values` (n_ratings,), in the order in which the first came."""
        for block in self._blocks:
            block.values.values().copy_(values[block.order])

    def moments(self, table: Tensor, offset: Tensor, weight: Tensor | None = None) -> Moments:
        """Return the moments of every row.

        The columns' t are `table` (n_columns, width), their o are `offset` (n_columns,), and their
        h are `weight` (n_columns,), 1 by default.
        """
        width = table.shape[1]
        weighted = table if weight is None else table * weight.unsqueeze(1)
        # A gram is symmetric: half of it is enough to sum. index_select is five times as fast here
        # as indexing.
        row, column = torch.tril_indices(width, width, device=table.device)
        n_rows, n_pairs = len(self.counts), len(row)
        sums, linear = table.new_zeros(n_rows, n_pairs + width), table.new_zeros(n_rows, width)
        for columns, met, values, _ in self._blocks:
            here = weighted[columns]
            pairs = here.index_select(1, row) * table[columns].index_select(1, column)
            offsets = here * offset[columns].unsqueeze(1)
            sums.addmm_(met, torch.cat([pairs, offsets], dim=1))
            linear.addmm_(values, here)
        place = torch.zeros(width, width, dtype=torch.long, device=table.device)
        place[row, column] = torch.arange(n_pairs, device=table.device)
        place = torch.maximum(place, place.T).flatten()
        gram = sums.index_select(1, place).view(n_rows, width, width)
        return Moments(gram, linear - sums[:, n_pairs:])

    def squared_errors(self, moments: Moments, weights: Tensor, offset: Tensor) -> Tensor:
        """Return Σ (y - o - w·t)² of each row, (n_rows,), from its moments of weight 1.

        `weights` (n_rows, width) are the rows' w, and `offset` (n_columns,) is that of the moments.
        """
        squares = torch.zeros_like(weights[:, 0])  # Σ (y - o)²
        for columns, met, values, _ in self._blocks:
            squares += torch.segment_reduce(
                values.values().square(), "sum", lengths=met.crow_indices().diff(), unsafe=True
            )
            offsets = offset[columns]
            squares += met @ offsets.square() - 2 * (values @ offsets)
        fitted = (moments.gram @ weights.unsqueeze(-1)).squeeze(-1) - 2 * moments.linear
        return (squares + (weights * fitted).sum(-1)).clamp(min=0)
