"""One side of the model that `gibbs` samples: the draws of its weights, and of their prior."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cf_pipeline.recommender.draws import gamma, normal, wishart
from cf_pipeline.recommender.moments import Residuals

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cf_pipeline.recommender.moments import Moments
    from cf_pipeline.recommender.rating_sums import RatingSums

INITIAL_STD = 0.2  # of .1, .2, .3 and .5 the best after 50 sweeps, on rows carved from u1.base


class Side:
    """The users or the items: their weights [factors, bias] (n, width), and the weights' prior."""

    def __init__(
        self, sums: RatingSums, features: Tensor, width: int, generator: torch.Generator
    ) -> None:
        self.sums = sums
        self.weights = INITIAL_STD * normal(generator, len(features), width)
        self._features = features
        self._feature_squares = features.square().sum(0)  # XᵀX, which is diagonal
        self._generator = generator
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

    def draw_prior(self) -> None:
        """Draw Λ, β and λ given the weights (Salakhutdinov & Mnih 2008, 14; Simm et al. 2017, 2).

        Row 0, the unknown, is nobody: it says nothing of the prior.
        """
        weights, features = self.weights[1:], self._features[1:]
        n, width = weights.shape
        row_precision = (self._feature_squares + self._ridge).unsqueeze(1)
        projected = features.T @ weights
        mean = projected / row_precision
        # Λ with β integrated out, then β given Λ: a joint draw mixes faster than two in turn.
        scatter = weights.T @ weights - projected.T @ mean
        identity = torch.eye(width, device=weights.device)
        self._precision = wishart(self._generator, identity + scatter, width + n)
        root = torch.linalg.cholesky(self._precision)
        noise = normal(self._generator, *mean.shape) * row_precision.rsqrt()
        beta = mean + torch.linalg.solve_triangular(root, noise, upper=False, left=False)
        self._ridge = gamma(
            self._generator,
            features.new_tensor(1 + beta.numel() / 2),
            1 + (beta @ self._precision * beta).sum() / 2,
        )
        self._prior_mean = self._features @ beta

    def draw_weights(
        self, moments: Iterable[tuple[slice, Moments]], own_precision: Tensor
    ) -> Residuals:
        """Draw all weights given the other side's (Salakhutdinov & Mnih 2008, equations 11-13).

        `moments` come with the rows that they are of, and what the weights leave of the ratings is
        returned. `own_precision` (n,) is that of a row's ratings, beside any weight that the
        moments have.
        """
        weights, parts = torch.empty_like(self.weights), []
        noise = normal(self._generator, *weights.shape, 1)
        for rows, here in moments:
            own = own_precision[rows].unsqueeze(1)
            precision = own.unsqueeze(2) * here.gram + self._precision
            linear = own * here.linear + self._prior_mean[rows] @ self._precision
            root = torch.linalg.cholesky(precision)
            half = torch.linalg.solve_triangular(root, linear.unsqueeze(2), upper=False)
            half += noise[rows]
            drawn = torch.linalg.solve_triangular(root.mT, half, upper=True).squeeze(2)
            weights[rows] = drawn
            parts.append(here.residuals(drawn))
        self.weights = weights  # a sample may hold the old ones
        return Residuals(*(torch.cat(column) for column in zip(*parts, strict=True)))
