"""One side of the model that `gibbs` samples: the draws of its weights, and of their prior."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from cf_pipeline.recommender.draws import gamma, normal, stream, wishart

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cf_pipeline.recommender.blocks import Blocks
    from cf_pipeline.recommender.rating_sums import RatingSums

INITIAL_STD = 0.2  # of .1, .2, .3 and .5 the best after 50 sweeps, on rows carved from u1.base
WEIGHTS, PRIOR = 0, 1  # what a stream of random numbers is for


class Given(NamedTuple):
    """What a half-sweep takes as given, but for what is a row's own.

    Of the other side `table` (n_columns, width), `offset` (n_columns,) and, unless it is 1, the
    precision of its ratings `weight` (n_columns,); and the prior's `precision` Λ (width, width).
    `key` is that of the half-sweep's streams. `judged` says whether errors are wanted.
    """

    table: Tensor
    offset: Tensor
    weight: Tensor | None
    precision: Tensor
    key: tuple[int, ...]
    judged: bool


class Drawn(NamedTuple):
    """The weights of some rows (n_rows, width), and what they leave of the rows' ratings.

    `residuals` (n_rows,) are Σ h (y - o - w·t), and `errors` (n_rows,) are Σ (y - o - w·t)², or
    none, (0,), if they were not wanted.
    """

    weights: Tensor
    residuals: Tensor
    errors: Tensor


class Side:
    """The users or the items: their weights [factors, bias] (n, width), and the weights' prior.

    `key` tells their streams of random numbers from all others.
    """

    def __init__(self, blocks: Blocks, features: Tensor, width: int, key: tuple[int, ...]) -> None:
        self.blocks = blocks
        self.key = key
        first = stream(features.device, *key, 0, WEIGHTS)
        self.weights = INITIAL_STD * normal(first, len(features), width)
        self._features = features
        self._feature_squares = features.square().sum(0)  # XᵀX, which is diagonal
        self._precision = torch.eye(width, device=features.device)  # Λ
        self._prior_mean = torch.zeros_like(self.weights)  # Xβ
        self._ridge = features.new_ones(())  # λ

    @property
    def table(self) -> Tensor:
        """[factors, 1], (n, width): what the other side's weights are regressed on."""
        return torch.cat([self.weights[:, :-1], torch.ones_like(self.weights[:, -1:])], dim=1)

    @property
    def bias(self) -> Tensor:
        """The biases, (n,)."""
        return self.weights[:, -1]

    @property
    def prior_std(self) -> float:
        """The root mean variance of a weight about its prior mean."""
        return float(torch.linalg.inv(self._precision).diagonal().mean().sqrt())

    @property
    def state(self) -> dict[str, Tensor]:
        """All that the next sweep goes on from."""
        return {"weights": self.weights, "ridge": self._ridge}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from where `state` was taken."""
        self.weights, self._ridge = state["weights"], state["ridge"]

    def draw_prior(self, sweep: int) -> None:
        """Draw Λ, β and λ given the weights (Salakhutdinov & Mnih 2008, 14; Simm et al. 2017, 2).

        Row 0, the unknown, is nobody: it says nothing of the prior.
        """
        weights, features = self.weights[1:], self._features[1:]
        n, width = weights.shape
        generator = stream(weights.device, *self.key, sweep, PRIOR)
        row_precision = (self._feature_squares + self._ridge).unsqueeze(1)
        projected = features.T @ weights
        mean = projected / row_precision
        # Λ with β integrated out, then β given Λ: a joint draw mixes faster than two in turn.
        scatter = weights.T @ weights - projected.T @ mean
        identity = torch.eye(width, device=weights.device)
        self._precision = wishart(generator, identity + scatter, width + n)
        root = torch.linalg.cholesky(self._precision)
        noise = normal(generator, *mean.shape) * row_precision.rsqrt()
        beta = mean + torch.linalg.solve_triangular(root, noise, upper=False, left=False)
        self._ridge = gamma(
            generator,
            features.new_tensor(1 + beta.numel() / 2),
            1 + (beta @ self._precision * beta).sum() / 2,
        )
        self._prior_mean = self._features @ beta

    def draw_weights(
        self,
        sweep: int,
        others: Side,
        mean: Tensor,
        *,
        own_precision: Tensor,
        others_precision: Tensor | None = None,
        judged: bool = False,
    ) -> Drawn:
        """Draw all weights given the other side's (Salakhutdinov & Mnih 2008, equations 11-13).

        Ratings are about `mean` and what both sides' weights say, with the precision of their row,
        `own_precision` (n,), times that of their column, 1 by default. Each block has a stream of
        random numbers of its own.

        Raises:
            BlockError: a block failed.
        """
        key = (*self.key, sweep, WEIGHTS)
        offset = others.bias + mean
        given = Given(others.table, offset, others_precision, self._precision, key, judged)
        drawn = Drawn(
            torch.empty_like(self.weights),  # a sample may hold the old ones
            torch.empty_like(self.bias),
            self.weights.new_empty(len(self.weights) if judged else 0),
        )
        for rows, found in self.blocks.map(draw_block, (self._prior_mean, own_precision), given):
            for whole, part in zip(drawn, found, strict=True):
                if len(part):
                    whole[rows] = part
        self.weights = drawn.weights
        return drawn


def draw_block(
    sums: RatingSums, number: int, prior_mean: Tensor, own_precision: Tensor, given: Given
) -> Drawn:
    """Draw the weights of block `number`, whose priors have `prior_mean` (n_rows, width).

    Raises:
        torch.linalg.LinAlgError: the sampler diverged.
    """
    generator = stream(prior_mean.device, *given.key, number)
    noise = normal(generator, *prior_mean.shape, 1)
    parts = list(_draw(sums, noise, prior_mean, own_precision, given))
    weights, residuals, explained = (torch.cat(column) for column in zip(*parts, strict=True))
    if not given.judged:
        return Drawn(weights, residuals, residuals[:0])
    return Drawn(weights, residuals, sums.squared_errors(explained, given.offset))


def _draw(
    sums: RatingSums, noise: Tensor, prior_mean: Tensor, own_precision: Tensor, given: Given
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    for rows, here in sums.moments(given.table, given.offset, given.weight):
        own = own_precision[rows].unsqueeze(1)
        precision = own.unsqueeze(2) * here.gram + given.precision
        linear = own * here.linear + prior_mean[rows] @ given.precision
        root = torch.linalg.cholesky(precision)
        half = torch.linalg.solve_triangular(root, linear.unsqueeze(2), upper=False)
        half += noise[rows]
        drawn = torch.linalg.solve_triangular(root.mT, half, upper=True).squeeze(2)
        yield drawn, *here.residuals(drawn)
