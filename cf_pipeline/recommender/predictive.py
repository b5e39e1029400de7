"""The predictive distributions of ratings, by samples of a posterior."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.special import ndtri


class Predicted(NamedTuple):
    """The predictive distributions of n ratings.

    `mean` (n,) is the rating expected, inside the rating scale; `std` (n,) is how far a rating is
    from it, were the scale without ends; `probabilities` (n, n_levels) are those of the levels.
    """

    mean: Tensor
    std: Tensor
    probabilities: Tensor

    def interval(self, coverage: float) -> tuple[Tensor, Tensor]:
        """Return the ends (n,) of the normals' central intervals, which may exceed the scale."""
        reach = ndtri(self.std.new_tensor((1 + coverage) / 2)) * self.std
        return self.mean - reach, self.mean + reach
