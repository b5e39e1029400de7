"""Samples of a factor model's posterior: predictions with their uncertainty, and newcomers.

Weights are [factors, bias], of a `width` of n_factors + 1. In each sample a rating of user u and
item i is normal about mean + b_u + c_i + p_u·q_i, with the precision of the user's ratings. It is
the rating itself, or with an ordinal likelihood a latent one between its level's two `edges`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import torch
from torch import Tensor
from torch.special import ndtr

from cf_pipeline.recommender import posterior_files
from cf_pipeline.recommender.draws import normal, normal_probability, truncated_normal_mean
from cf_pipeline.recommender.newcomers import ITEM_SEED, USER_SEED, Newcomers, centred
from cf_pipeline.recommender.predictive import Predicted
from cf_pipeline.recommender.rating_levels import between
from cf_pipeline.recommender.rating_scale import STARS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cf_pipeline.recommender.minibatches import EncodedRatings
    from cf_pipeline.recommender.rating_scale import RatingScale

NUMBERS_AT_ONCE = 1 << 22  # of the weights that are gathered to predict a batch of pairs
EM_STEPS = 20
RATINGS_TO_CALIBRATE = 20_000
BISECTIONS = 30


class Sample(NamedTuple):
    """One sample: weights of users (n_users, width) and items (n_items, width), and the rest.

    `mean` is a scalar, `user_precision` (n_users,), `edges` (n_levels - 1,).
    """

    user_weights: Tensor
    item_weights: Tensor
    mean: Tensor
    user_precision: Tensor
    edges: Tensor


@dataclass(frozen=True)
class Posterior:
    """Samples, stacked: each tensor has a first dimension more than those of a `Sample`.

    `levels` (n_levels,) is the rating scale, ascending; a rating counts as the level nearest to it
    (see `levels_of`). Row 0 of users and items is the unknown, in each sample drawn anew from among
    the others.
    """

    user_weights: Tensor
    item_weights: Tensor
    mean: Tensor
    user_precision: Tensor
    edges: Tensor
    levels: Tensor
    ordinal: bool

    @classmethod
    def of(cls, samples: Sequence[Sample], levels: Tensor, ordinal: bool) -> Self:
        """Return the posterior that has these samples, and an unknown user and item."""
        stacked = Sample(*(torch.stack(parts) for parts in zip(*samples, strict=True)))
        return cls.of_stacked(stacked, levels, ordinal)

    @classmethod
    def of_stacked(cls, stacked: Sample, levels: Tensor, ordinal: bool) -> Self:
        """Return the posterior of stacked samples, whose unknown user and item are set here."""
        sides = (stacked.user_weights, USER_SEED), (stacked.item_weights, ITEM_SEED)
        for weights, seed in sides:
            nothing = levels.new_empty(weights.shape[1], 0)
            weights[:, :1] = Newcomers.like(weights[:, 1:], nothing[1:]).draw(nothing[:1], seed)
        return cls(*stacked, levels, ordinal)

    def thinned(self, n_samples: int) -> Self:
        """Return `n_samples` of the samples, evenly spaced to the last, or all if no more."""
        count = len(self.mean)
        chosen = torch.linspace(count - 1, 0, min(n_samples, count)).round().long().flip(0)
        return replace(self, **{name: getattr(self, name)[chosen] for name in Sample._fields})

    def calibrated(self, train: EncodedRatings, scale: RatingScale = STARS) -> Self:
        """Return the posterior with edges at which every level is as likely as it is frequent.

        With normal noise about a rating, the edges between levels are nobody's parameters, and half
        way between them is not where people change from one to the next. Here the mean probability
        of at most a level, over training ratings, is the share of those ratings. The samples are of
        ratings as stars; `scale` is that of `train`.
        """
        step = math.ceil(len(train.ratings) / RATINGS_TO_CALIBRATE)
        users, items, ratings = train.take(slice(None, None, step))
        ratings = scale.in_stars(ratings)
        predicted = self.predict(users, items)
        share = (ratings.unsqueeze(1) <= between(self.levels)).float().mean(dim=0)
        low, high = self.levels[:-1] - 1, self.levels[1:] + 1
        for _ in range(BISECTIONS):
            edges = (low + high) / 2
            below = (edges - predicted.mean.unsqueeze(1)) / predicted.std.unsqueeze(1)
            too_low = ndtr(below).mean(dim=0) < share
            low, high = torch.where(too_low, edges, low), torch.where(too_low, high, edges)
        return replace(self, edges=edges.expand_as(self.edges).contiguous())

    def to_scale(self, scale: RatingScale, levels: Tensor) -> Self:
        """Make the posterior of ratings r of 1 to 5 that of ratings low + star (r - 1).

        `levels` (n_levels,) are those on the `scale`. What an ordinal likelihood says of latent
        ratings stays as it is. The weights are stretched where they are, as copies would take twice
        the memory: go on with what this returns.
        """
        star = scale.star
        if len(levels) != len(self.levels):  # of 1 to 5, float32 did not tell the closest apart
            levels = scale.low + star * (self.levels - 1)
        if self.ordinal or scale == (1, 5):  # to the last bit
            return replace(self, levels=levels)
        stretch = levels.new_full(self.user_weights.shape[2:], math.sqrt(star))
        stretch[-1] = star  # of the bias; a product of factors is stretched by both
        self.user_weights.mul_(stretch)
        self.item_weights.mul_(stretch)
        return replace(
            self,
            mean=scale.low + star * (self.mean - 1),
            user_precision=self.user_precision / star**2,
            edges=scale.low + star * (self.edges - 1),
            levels=levels,
        )

    def predict(self, users: Tensor, items: Tensor) -> Predicted:
        """Return the predictive distributions of the pairs of index tensors (n,), (n,)."""
        parts = [self._predict(*pairs) for pairs in self._batches(users, items)]
        return Predicted(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def predict_mean(self, users: Tensor, items: Tensor) -> Tensor:
        """Return the mean of `predict` (n,), without probabilities that it does not depend on."""
        if self.ordinal:
            return self.predict(users, items).mean
        batches = self._batches(users, items)
        return torch.cat([self._clamped(self.centers(*pairs)) for pairs in batches])

    def _batches(self, users: Tensor, items: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        n_samples, _, width = self.user_weights.shape
        size = max(1, NUMBERS_AT_ONCE // (n_samples * width))
        yield from zip(users.split(size), items.split(size), strict=True)

    def _clamped(self, centers: Tensor) -> Tensor:
        """Return the mean over the samples (n,) of `centers` (n_samples, n) on the scale."""
        return centers.clamp(self.levels[0], self.levels[-1]).mean(dim=0)

    def _predict(self, users: Tensor, items: Tensor) -> Predicted:
        center = self.centers(users, items)
        precision = self.user_precision[:, users]
        ends = (self._level_ends.unsqueeze(1) - center.unsqueeze(2)) * precision.sqrt().unsqueeze(2)
        probabilities = normal_probability(ends[..., :-1], ends[..., 1:]).mean(dim=0)
        if self.ordinal:
            mean = probabilities @ self.levels
            variance = probabilities @ self.levels.square() - mean.square()
        else:
            mean = self._clamped(center)
            variance = precision.reciprocal().mean(dim=0) + center.var(dim=0, correction=0)
        return Predicted(mean, variance.sqrt(), probabilities)

    def centers(self, users: Tensor, items: Tensor) -> Tensor:
        """Return mean + b_u + c_i + p_u·q_i in every sample, (n_samples, n)."""
        of_user, of_item = self.user_weights[:, users], self.item_weights[:, items]
        biases = self.mean.unsqueeze(1) + of_user[..., -1] + of_item[..., -1]
        return biases + (of_user[..., :-1] * of_item[..., :-1]).sum(-1)

    def with_users(self, weights: Tensor) -> Self:
        """Return the posterior with more users, the last: `weights` (n_samples, n, width).

        Their ratings are as precise as everybody's are on average.
        """
        precision = self._mean_precision.unsqueeze(1).expand(-1, weights.shape[1])
        return replace(
            self,
            user_weights=torch.cat([self.user_weights, weights], dim=1),
            user_precision=torch.cat([self.user_precision, precision], dim=1),
        )

    def with_items(self, weights: Tensor) -> Self:
        """Return the posterior with more items, the last: `weights` (n_samples, n, width)."""
        return replace(self, item_weights=torch.cat([self.item_weights, weights], dim=1))

    def fold_in(
        self, items: Tensor, ratings: Tensor, newcomers: Newcomers, features: Tensor
    ) -> Tensor:
        """Return weights (n_samples, 1, width) of a new user, for `with_users`, without retraining.

        `items` (n,) are the indices of what the user rated, `ratings` (n,) how; `features`
        (1, n_features) are what else is known, from which `newcomers` tells the prior. In each
        sample the weights are drawn from their conditional given the items' (Salakhutdinov & Mnih
        2008, equations 12 and 13), so that their mean over the samples stays exact; EM finds the
        latent ratings of an ordinal likelihood.
        """
        of_item = self.item_weights[:, items]
        table = torch.cat([of_item[..., :-1], torch.ones_like(of_item[..., -1:])], dim=2)
        offset = of_item[..., -1] + self.mean.unsqueeze(1)
        precision = self._mean_precision[:, None, None]
        scale = precision.squeeze(2).sqrt()
        prior_precision = torch.linalg.inv(newcomers.covariance)
        root = torch.linalg.cholesky(prior_precision + precision * table.mT @ table)
        weights = newcomers.mean(features).mT
        constant = prior_precision @ weights
        target = ratings.expand_as(offset)
        for _ in range(EM_STEPS if self.ordinal else 1):
            if self.ordinal:
                center = offset + (table @ weights).squeeze(2)
                low, high = ((end - center) * scale for end in self._ends(ratings))
                target = center + truncated_normal_mean(low, high) / scale
            linear = constant + precision * table.mT @ (target - offset).unsqueeze(2)
            weights = torch.cholesky_solve(linear, root)
        noise = normal(torch.Generator(root.device).manual_seed(USER_SEED), *weights.shape)
        deviation = torch.linalg.solve_triangular(root.mT, noise, upper=True)
        return (weights + centred(deviation)).mT

    def save(self, directory: Path) -> None:
        """Write `posterior.safetensors` and `posterior.json` into `directory`."""
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        posterior_files.write(directory, tensors, self.ordinal)

    @classmethod
    def load(cls, directory: str | Path, device: str | torch.device = "cpu") -> Self:
        """Return the posterior that `save` wrote into `directory`.

        Raises:
            PosteriorFileError: a file is missing or damaged, or the tensors do not fit together.
        """
        tensors, ordinal = posterior_files.read(Path(directory), device)
        return cls(**tensors, ordinal=ordinal)

    @property
    def _mean_precision(self) -> Tensor:
        return self.user_precision[:, 1:].mean(dim=1)

    def _ends(self, ratings: Tensor) -> tuple[Tensor, Tensor]:
        """Return the ends (n_samples, n) of the levels of `ratings` (n,)."""
        level = torch.bucketize(ratings, between(self.levels))
        return self._level_ends[:, level], self._level_ends[:, level + 1]

    @property
    def _level_ends(self) -> Tensor:
        """The edges, and infinity on either side, (n_samples, n_levels + 1)."""
        infinite = torch.full_like(self.edges[:, :1], torch.inf)
        return torch.cat([-infinite, self.edges, infinite], dim=1)
