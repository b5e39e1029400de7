"""Weights of users and items that no rating is known of, regressed on their side features.

Weights are [factors, bias], of a `width` of n_factors + 1, as a `Posterior` has them.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import Tensor

from cf_pipeline.recommender.draws import normal

RIDGE = 1.0  # of a regression on side features: one pseudo-observation for each
LEAST_SCATTER = 1e-3  # the sum of squared residuals that a weight has at least
USER_SEED, ITEM_SEED = 0, 1  # of what is drawn for newcomers


class Newcomers(NamedTuple):
    """What is said of someone, or something, of whom no rating is known: w ~ N(Bᵀ[1, x], C).

    x are side features. In each sample, B is `coefficients` (n_samples, 1 + n_features, width) and
    C is `covariance` (n_samples, width, width).
    """

    coefficients: Tensor
    covariance: Tensor

    @classmethod
    def like(cls, weights: Tensor, features: Tensor) -> Self:
        """Regress `weights` (n_samples, n, width) on side `features` (n, n_features), by ridge."""
        design = torch.cat([features.new_ones(len(features), 1), features], dim=1)
        penalty = torch.full_like(design[0], RIDGE)
        penalty[0] = 0
        solution = torch.linalg.solve(design.T @ design + penalty.diag(), design.T)
        # Fewer rows than weights would leave a covariance without an inverse.
        floor = LEAST_SCATTER * torch.eye(weights.shape[2], device=weights.device)
        coefficients, covariances = [], []
        for sample in weights:  # the residuals of all at once would double the memory
            coefficients.append(solution @ sample)
            residuals = sample - design @ coefficients[-1]
            scatter = residuals.T @ residuals + floor
            covariances.append(scatter / len(residuals))
        return cls(torch.stack(coefficients), torch.stack(covariances))

    def mean(self, features: Tensor) -> Tensor:
        """Return the mean weights (n_samples, n, width) given `features` (n, n_features)."""
        return self.coefficients[:, :1] + features @ self.coefficients[:, 1:]

    def draw(self, features: Tensor, seed: int) -> Tensor:
        """Draw weights (n_samples, n, width) so that their mean over the samples stays exact.

        Users and items need seeds of their own: noise in common would make them seem alike.
        """
        mean = self.mean(features)
        noise = normal(torch.Generator(features.device).manual_seed(seed), *mean.shape)
        root: Tensor = torch.linalg.cholesky(self.covariance)
        return mean + centred(noise @ root.mT)


def centred(deviations: Tensor) -> Tensor:
    """Return deviations (n_samples, ...) that are zero in the mean over the samples."""
    return deviations - deviations.mean(dim=0)
