"""Sums over the ratings of each user, or of each item, without a temporary that grows with them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import Tensor


# The products used here have long been stable; the warning would stand in every run's log.
warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state", UserWarning)


class Moments(NamedTuple):
    """What a weighted regression of each row's ratings y - o on their columns' t needs of them.

    `gram` (n_rows, width, width) is Σ h t tᵀ and `linear` (n_rows, width) is Σ h (y - o) t, over a
    row's ratings.
    """

    gram: Tensor
    linear: Tensor


class RatingSums:
    """The ratings of one side's rows, as two sparse matrices (n_rows, n_columns) of one pattern.

    One holds ones where a row has a rating and the other the ratings, so a sum over each row's
    ratings of what their columns decide is a sparse product. Indices are int32: a rating takes 16
    bytes, and no product needs more than a few hundred bytes for each row and column.
    """

    def __init__(
        self, rows: Tensor, columns: Tensor, values: Tensor, n_rows: int, n_columns: int
    ) -> None:
        order = torch.argsort(rows, stable=True)
        self._order = order.int()
        self.counts = torch.bincount(rows, minlength=n_rows)
        starts = torch.zeros(n_rows + 1, dtype=torch.int32, device=rows.device)
        starts[1:] = self.counts.cumsum(0)
        ordered_columns = columns[order].int()
        self._met, self._values = (
            torch.sparse_csr_tensor(
                starts, ordered_columns, entries, (n_rows, n_columns), check_invariants=False
            )
            for entries in (torch.ones_like(values), values[order])
        )

    def replace(self, values: Tensor) -> None:
        """Give the ratings other `values` (n_ratings,), in the order in which the first came."""
        self._values.values().copy_(values[self._order])

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
        pairs = weighted.index_select(1, row) * table.index_select(1, column)
        sums = self._met @ torch.cat([pairs, weighted * offset.unsqueeze(1)], dim=1)
        place = torch.zeros(width, width, dtype=torch.long, device=table.device)
        place[row, column] = torch.arange(len(row), device=table.device)
        place = torch.maximum(place, place.T).flatten()
        return Moments(
            sums.index_select(1, place).view(-1, width, width),
            self._values @ weighted - sums[:, len(row) :],
        )

    def squared_errors(self, moments: Moments, weights: Tensor, offset: Tensor) -> Tensor:
        """Return Σ (y - o - w·t)² of each row, (n_rows,), from its moments of weight 1.

        `weights` (n_rows, width) are the rows' w, and `offset` (n_columns,) is that of the moments.
        """
        constant = torch.segment_reduce(
            self._values.values().square(), "sum", lengths=self.counts, unsafe=True
        )
        crossed = self._values @ offset - 0.5 * (self._met @ offset.square())
        fitted = (moments.gram @ weights.unsqueeze(-1)).squeeze(-1) - 2 * moments.linear
        return (constant - 2 * crossed + (weights * fitted).sum(-1)).clamp(min=0)
