"""How ratings depend on what factors and biases say of them: normally, or ordinally.

η is b_u + c_i + p_u·q_i. Either likelihood draws its own unknowns, given η, in each sweep.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.special import ndtri

from cf_pipeline.recommender.draws import (
    gamma,
    normal,
    normal_density,
    normal_probability,
    truncated_normal,
)
from cf_pipeline.recommender.rating_levels import between
from cf_pipeline.recommender.rating_scale import STARS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cf_pipeline.recommender.gibbs_side import Drawn, Side
    from cf_pipeline.recommender.minibatches import EncodedRatings
    from cf_pipeline.recommender.rating_scale import RatingScale

PRECISION_SHAPE = 5.0  # of a_u's prior Gamma(5, 5): how alike the users' precisions are
SWEEPS_TO_ADAPT = 10  # in which the edges' proposal follows their uncertainty
STEP = 2.4  # over √dimension: of a random-walk proposal (Gelman, Roberts & Gilks 1996)


class Likelihood(Protocol):
    """Ratings, or latent ratings, are normal about `mean` + η, each user's with a `precision`.

    `mean` is a scalar and `precision` (n_users,). `edges` (n_levels - 1,), on the same scale, part
    the levels of the rating scale.
    """

    mean: Tensor
    precision: Tensor
    edges: Tensor

    @property
    def state(self) -> dict[str, Tensor]:
        """All that the next sweep goes on from."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from where `state` was taken."""

    def before_sweep(self, generator: torch.Generator, users: Side, items: Side) -> None:
        """Draw what the sweep goes on from."""

    def after_sweep(self, generator: torch.Generator, users: Side, drawn: Drawn) -> None:
        """Draw what depends on the sweep; `drawn` are the users as just drawn."""


class GaussianLikelihood:
    """Ratings have normal noise: r_ui ~ N(μ + η, 1 / (α a_u)), with α ~ Gamma(1, 1) and flat μ."""

    def __init__(
        self, train: EncodedRatings, n_users: int, levels: Tensor, scale: RatingScale = STARS
    ) -> None:
        self.mean = scale.in_stars(train.ratings.mean())
        self.precision = torch.ones(n_users, device=levels.device)
        self.edges = between(levels)
        self._alpha = torch.ones_like(self.mean)

    @property
    def state(self) -> dict[str, Tensor]:
        """All that the next sweep goes on from."""
        return {"mean": self.mean, "precision": self.precision, "alpha": self._alpha}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from where `state` was taken."""
        self.mean, self.precision, self._alpha = (
            state[name] for name in ("mean", "precision", "alpha")
        )

    def before_sweep(self, generator: torch.Generator, users: Side, items: Side) -> None:
        """Nothing: ratings are what they are."""

    def after_sweep(self, generator: torch.Generator, users: Side, drawn: Drawn) -> None:
        """Draw a_u, α and μ, each from its conjugate conditional (Gelman et al. 2013, 2.6)."""
        counts, errors = users.blocks.counts, drawn.errors
        relative = gamma(
            generator, PRECISION_SHAPE + counts / 2, PRECISION_SHAPE + self._alpha * errors / 2
        )
        self._alpha = gamma(generator, 1 + counts.sum() / 2, 1 + (relative * errors).sum() / 2)
        self.precision = self._alpha * relative
        total = (self.precision * counts).sum()
        self.mean = (
            self.mean
            + (self.precision * drawn.residuals).sum() / total
            + normal(generator) * total.rsqrt()
        )


class OrdinalLikelihood:
    """A rating is the level between whose edges a latent rating N(η, 1 / a_u) lies: ordinal probit.

    Latent ratings as Albert & Chib (1993, section 4) draw them; the edges as Cowles (1996) does, at
    once and with the latent ratings integrated out.
    """

    def __init__(
        self, train: EncodedRatings, n_users: int, levels: Tensor, scale: RatingScale = STARS
    ) -> None:
        self.mean = train.ratings.new_zeros(())
        self.precision = torch.ones(n_users, device=levels.device)
        stars = scale.in_stars(train.ratings)
        self._level = torch.bucketize(stars, levels, out_int32=True)  # 0 … n_levels - 1
        share = torch.bincount(self._level, minlength=len(levels)) / len(self._level)
        # As if η had the variance of the noise: from far off, the scale takes long to settle.
        self.edges = math.sqrt(2) * ndtri(share.cumsum(0)[:-1])
        self._train = train
        self._sweeps_to_adapt = SWEEPS_TO_ADAPT
        self._spread = torch.eye(len(self.edges), device=levels.device)

    @property
    def state(self) -> dict[str, Tensor]:
        """All that the next sweep goes on from."""
        return {
            "precision": self.precision,
            "edges": self.edges,
            "spread": self._spread,
            "sweeps_to_adapt": torch.tensor(self._sweeps_to_adapt),
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from where `state` was taken."""
        self.precision, self.edges, self._spread, left = (
            state[name] for name in ("precision", "edges", "spread", "sweeps_to_adapt")
        )
        self._sweeps_to_adapt = int(left)

    def before_sweep(self, generator: torch.Generator, users: Side, items: Side) -> None:
        """Draw the edges, and with them the latent ratings."""
        eta = torch.cat([_eta(users, items, piece) for piece in self._train.pieces()])
        root = self.precision[self._train.users].sqrt()
        self._draw_edges(generator, eta, root)
        low, high = self._ends(self.edges, eta, root)
        latent = eta + truncated_normal(generator, low, high) / root
        users.blocks.replace(latent)
        items.blocks.replace(latent)

    def after_sweep(self, generator: torch.Generator, users: Side, drawn: Drawn) -> None:
        """Draw a_u from its conjugate conditional."""
        self.precision = gamma(
            generator,
            PRECISION_SHAPE + users.blocks.counts / 2,
            PRECISION_SHAPE + drawn.errors / 2,
        )

    def _draw_edges(self, generator: torch.Generator, eta: Tensor, root: Tensor) -> None:
        """Draw by Metropolis' rule; the proposal is about as wide as the edges are uncertain."""
        if self._sweeps_to_adapt:  # were it to follow them for ever, the rule would have to know
            self._sweeps_to_adapt -= 1
            self._spread = torch.linalg.cholesky(torch.linalg.inv(self._information(eta, root)))
        n_edges = len(self.edges)
        step = STEP / math.sqrt(n_edges) * self._spread @ normal(generator, n_edges)
        proposal = self.edges + step
        proposed, present = (
            normal_probability(*self._ends(edges, eta, root)).log().sum(dtype=torch.float64)
            for edges in (proposal, self.edges)
        )
        uniform = torch.rand((), generator=generator, device=eta.device)
        if (proposal.diff() > 0).all() and uniform.log() < proposed - present:
            self.edges = proposal

    def _ends(self, edges: Tensor, eta: Tensor, root: Tensor) -> tuple[Tensor, Tensor]:
        """Return the ends of each rating's level, (n_ratings,), about η in standard deviations."""
        infinity = edges.new_tensor([math.inf])
        ends = torch.cat([-infinity, edges, infinity])
        return (ends[self._level] - eta) * root, (ends[self._level + 1] - eta) * root

    def _information(self, eta: Tensor, root: Tensor) -> Tensor:
        """Return the information about the edges, (n_edges, n_edges), from the ratings' scores.

        A rating's score is its density at its level's ends over its probability: positive for the
        upper end, negative for the lower. Beside the diagonal, only neighbours share ratings.
        """
        low, high = self._ends(self.edges, eta, root)
        scale = root / normal_probability(low, high)
        upper, lower = normal_density(high) * scale, normal_density(low) * scale
        n_levels = len(self.edges) + 1

        def sums(value: Tensor) -> Tensor:
            # In float32 a sum would stop to grow at 2²⁴ times what is added.
            total = torch.bincount(self._level, value.double(), minlength=n_levels)
            return total.to(value.dtype)

        diagonal = sums(upper.square())[:-1] + sums(lower.square())[1:]
        beside = -sums(upper * lower)[1:-1]
        return diagonal.diag() + beside.diag(1) + beside.diag(-1)


def _eta(users: Side, items: Side, pairs: EncodedRatings) -> Tensor:
    of_users, of_items = users.weights[pairs.users], items.weights[pairs.items]
    return (of_users[:, :-1] * of_items[:, :-1]).sum(1) + of_users[:, -1] + of_items[:, -1]
