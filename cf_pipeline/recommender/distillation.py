"""A posterior's mean as one plain factor model, so that all that reads a model reads this one."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.special import ndtr

from cf_pipeline.recommender import gibbs
from cf_pipeline.recommender.draws import normal
from cf_pipeline.recommender.executors import LOCAL, Part
from cf_pipeline.recommender.factor_model import FactorModel
from cf_pipeline.recommender.fits import Fit, constant_fit, resolve_y_range
from cf_pipeline.recommender.rating_levels import levels_of
from cf_pipeline.recommender.rating_scale import RatingScale

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cf_pipeline.recommender.executors import Executor
    from cf_pipeline.recommender.features import SideFeatures
    from cf_pipeline.recommender.minibatches import EncodedRatings
    from cf_pipeline.recommender.posterior import Posterior
    from cf_pipeline.recommender.settings import GibbsSettings

OVERSAMPLING = 10
SUBSPACE_STEPS = 3
PREDICTIONS_AT_ONCE = 1 << 23
BLOCKS_OF_A_TASK = 16  # of so many predictions
RANDOM_PAIRS = 5_000
RELATIVE_ZERO = 1e-5  # a singular value beside the largest, in float32


def fit(
    train: EncodedRatings,
    side: SideFeatures,
    settings: GibbsSettings,
    validation: EncodedRatings | None = None,
    log: Callable[[str], None] = lambda _: None,
    executor: Executor = LOCAL,
    folder: Path | None = None,
) -> Fit:
    """Sample the posterior and distil it, on the device where the ratings are; see `gibbs.fit`.

    The progress is on the scale of the ratings, but for the spread of weights.

    Raises:
        BlockError: a block of ratings, or of users, cannot be worked on.
        FloatingPointError: the sampler diverged.
        ValueError: `y_range` does not reach beyond the rating scale.
    """
    start = time.perf_counter()
    scale = RatingScale.of(train.ratings)
    if scale.is_constant:
        return constant_fit(scale, side, settings, validation, log)
    y_range = resolve_y_range(settings, scale)

    sampled = gibbs.fit(train, side, settings, validation, log, executor, folder, scale)
    posterior = sampled.posterior.to_scale(scale, levels_of(train.ratings))
    return Fit(
        distil(posterior, settings.n_factors, y_range, settings.bias, executor),
        [sweep._asdict() for sweep in sampled.trace],
        sampled.seconds_before + time.perf_counter() - start,
        posterior.thinned(settings.kept_samples),
    )


def distil(
    posterior: Posterior,
    n_factors: int,
    y_range: tuple[float, float],
    bias: bool,
    executor: Executor = LOCAL,
) -> FactorModel:
    """Return the factor model of `n_factors` whose predictions come near the posterior's mean.

    What the model passes through its sigmoid should be x_ui = logit of the posterior mean. The
    mean's own best factors for items are kept, and users are regressed on them, so that a pass over
    blocks of users is enough: the matrix (n_users, n_items) is never in memory.

    `y_range` must reach beyond the rating scale, from the first to the last of the levels.
    """
    users, items = _stacked(posterior)
    basis = _item_factors(users, items, n_factors, centred=bias)
    size = max(1, PREDICTIONS_AT_ONCE // len(items)) * BLOCKS_OF_A_TASK
    parts = [
        Part(f"Predictions of users from {number * size:,} on", len(block), (block,))
        for number, block in enumerate(users.split(size))
    ]
    wanted = _Wanted.of(posterior, y_range)
    projected, column_sums = [], torch.zeros(len(items), device=items.device)
    for table, sums in executor.map(project, parts, items, basis, wanted):
        projected.append(table)
        column_sums += sums
    user_factors, user_bias = torch.cat(projected).split([n_factors, 1], dim=1)
    item_bias = column_sums / len(users) - user_bias.mean()
    if bias:
        user_factors = user_factors - item_bias @ basis
    # Each factor as long for users as for items; one beyond the mean's rank is zero for both.
    scale = (user_factors.norm(dim=0) / basis.norm(dim=0)).sqrt().nan_to_num(1.0)
    with torch.device("meta"):  # the tables are made below
        rating_scale = RatingScale.of(posterior.levels)
        model = FactorModel(len(users), len(items), n_factors, y_range, bias, rating_scale)
    tables = {"user_factors": user_factors / scale, "item_factors": basis * scale}
    if bias:
        tables |= {"user_bias": user_bias, "item_bias": item_bias.unsqueeze(1)}
    state = {f"{name}.weight": table.contiguous() for name, table in tables.items()}
    model.load_state_dict(state, assign=True)
    return model


def project(users: Tensor, items: Tensor, basis: Tensor, wanted: _Wanted) -> tuple[Tensor, Tensor]:
    """Return what some users' x say: [x·basis, mean of x] (n, n_factors + 1), and Σ x (n_items,).

    `users` (n, any) and `items` (n_items, any) are those of `_stacked`.
    """
    size = max(1, PREDICTIONS_AT_ONCE // len(items))
    tables, sums = [], torch.zeros(len(items), device=items.device)
    for block in users.split(size):
        x = wanted.of_centers(block @ items.T)
        tables.append(torch.cat([x @ basis, x.mean(dim=1, keepdim=True)], dim=1))
        sums += x.sum(dim=0)
    return torch.cat(tables), sums


def _stacked(posterior: Posterior) -> tuple[Tensor, Tensor]:
    """Return tables (n_users, any), (n_items, any) whose products are the mean over the samples."""
    n_samples, _, width = posterior.user_weights.shape
    tables = []
    for weights in (posterior.user_weights, posterior.item_weights):
        # Made in place, as it is as large as the samples are. The last column is the bias.
        table = weights.new_zeros(weights.shape[1], n_samples * (width - 1) + 2)
        factors = table[:, :-2].unflatten(1, (n_samples, width - 1))
        for place, sample in enumerate(weights):
            factors[:, place] = sample[:, :-1]
            table[:, -1] += sample[:, -1] / n_samples
        # The unknown are drawn by samples; their mean is known.
        table[0] = table[1:].mean(dim=0)
        tables.append(table)
    users, items = tables
    users[:, :-2] /= n_samples
    users[:, -2], users[:, -1] = users[:, -1] + posterior.mean.mean(), 1
    items[:, -2] = 1
    return users, items


class _Centred(NamedTuple):
    """A `table` less the `mean` of its rows, which is only multiplied: a copy would be as large."""

    table: Tensor
    mean: Tensor

    @classmethod
    def of(cls, table: Tensor, centred: bool) -> Self:
        return cls(table, table.mean(dim=0) if centred else torch.zeros_like(table[0]))

    def times(self, other: Tensor) -> Tensor:
        return self.table @ other - self.mean @ other

    def transposed_times(self, other: Tensor) -> Tensor:
        return self.table.T @ other - torch.outer(self.mean, other.sum(dim=0))


def _item_factors(users: Tensor, items: Tensor, n_factors: int, centred: bool) -> Tensor:
    """Return the leading right singular vectors (n_items, n_factors) of users · itemsᵀ.

    With `centred`, of that matrix less the means of its rows and columns. Vectors beyond its rank
    are zero. By subspace iteration (Halko, Martinsson & Tropp 2011, algorithm 4.4), which needs no
    more than the two tables.
    """
    of_users, of_items = _Centred.of(users, centred), _Centred.of(items, centred)
    width = min(n_factors + OVERSAMPLING, *users.shape, len(items))
    basis = normal(torch.Generator(items.device).manual_seed(0), len(items), width)
    for _ in range(SUBSPACE_STEPS):
        product = of_users.times(of_items.transposed_times(basis))
        basis, _ = torch.linalg.qr(of_items.times(of_users.transposed_times(product)))
    product = of_users.times(of_items.transposed_times(basis))
    _, singular, rotation = torch.linalg.svd(product, full_matrices=False)
    rank = int((singular[:n_factors] > RELATIVE_ZERO * singular[0]).sum())
    leading: Tensor = basis @ rotation[:rank].T
    return pad(leading, (0, n_factors - rank))


class _Wanted(NamedTuple):
    """What the model should pass through its sigmoid, by a mean of the samples' centers.

    `edges` (n_levels - 1,) are those of an ordinal likelihood, or none, (0,).
    """

    levels: Tensor
    edges: Tensor
    spread: float
    y_range: tuple[float, float]

    @classmethod
    def of(cls, posterior: Posterior, y_range: tuple[float, float]) -> Self:
        levels = posterior.levels
        if not posterior.ordinal:
            return cls(levels, levels[:0], 1.0, y_range)
        spread = math.sqrt(1 + _variance(posterior))
        return cls(levels, posterior.edges.mean(dim=0), spread, y_range)

    def of_centers(self, center: Tensor) -> Tensor:
        low, high = self.y_range
        return torch.logit((self._rating(center) - low) / (high - low))

    def _rating(self, center: Tensor) -> Tensor:
        if not len(self.edges):
            return center.clamp(self.levels[0], self.levels[-1])
        # Summed over the edges, the probability to be above times the step there.
        total = self.levels[0].expand_as(center)
        for edge, step in zip(self.edges, self.levels.diff(), strict=True):
            total = total + step * ndtr((center - edge) / self.spread)
        return total


def _variance(posterior: Posterior) -> float:
    """Return the mean variance over the samples of a pair's center, from random pairs."""
    generator = torch.Generator(posterior.mean.device).manual_seed(0)
    users, items = (
        torch.randint(
            weights.shape[1], (RANDOM_PAIRS,), generator=generator, device=generator.device
        )
        for weights in (posterior.user_weights, posterior.item_weights)
    )
    return posterior.centers(users, items).var(dim=0, correction=0).mean().item()
