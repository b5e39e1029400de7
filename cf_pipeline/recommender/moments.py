"""What a regression of each row's ratings needs of them, and what it leaves of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Residuals(NamedTuple):
    """What weights w leave of each row's ratings y - o: y - o - w·t.

    `sums` (n_rows,) are Σ h (y - o - w·t) if the last of t is 1, and `explained` (n_rows,) is by
    how much w·t lowers the sum of squares Σ h (y - o)².
    """

    sums: Tensor
    explained: Tensor


class Moments(NamedTuple):
    """What a weighted regression of each row's ratings y - o on their columns' t needs of them.

    `gram` (n_rows, width, width) is Σ h t tᵀ and `linear` (n_rows, width) is Σ h (y - o) t, over a
    row's ratings.
    """

    gram: Tensor
    linear: Tensor

    def residuals(self, weights: Tensor) -> Residuals:
        """Return what the rows' `weights` (n_rows, width) leave of their ratings."""
        left = self.linear - (self.gram @ weights.unsqueeze(-1)).squeeze(-1)
        return Residuals(left[:, -1], (weights * (self.linear + left)).sum(-1))
