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
from cf_pipeline.recommender.factor_model import STARS, FactorModel
from cf_pipeline.recommender.fits import Fit, constant_fit, resolve_y_range
from cf_pipeline.recommender.posterior import levels_of
from cf_pipeline.recommender.rating_scale import RatingScale

if TYPE_CHECKING:
    from collections.abc import Callable

    from cf_pipeline.recommender.features import SideFeatures
    from cf_pipeline.recommender.minibatches import EncodedRatings
    from cf_pipeline.recommender.posterior import Posterior
    from cf_pipeline.recommender.settings import GibbsSettings

OVERSAMPLING = 10
SUBSPACE_STEPS = 3
PREDICTIONS_AT_ONCE = 1 << 23
RANDOM_PAIRS = 5_000
RELATIVE_ZERO = 1e-5  # a singular value beside the largest, in float32


def fit(
    train: EncodedRatings,
    side: SideFeatures,
    settings: GibbsSettings,
    validation: EncodedRatings | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> Fit:
    """Sample the posterior and distil it, on the device where the ratings are.

    The sampler, whose priors are for stars, takes the ratings as if their scale were 1 to 5: what
    it finds is the same on every scale. The progress is on the scale of the ratings, but for the
    spread of weights.

    Raises:
        FloatingPointError: the sampler diverged.
        ValueError: `y_range` does not reach beyond the rating scale.
    """
    start = time.perf_counter()
    scale = RatingScale.of(train.ratings)
    if scale.is_constant:
        return constant_fit(scale, side, settings, validation, log)
    y_range = resolve_y_range(settings, scale)

    def in_stars(part: EncodedRatings) -> EncodedRatings:
        if scale == STARS:
            return part  # as they are, and no copy
        return part._replace(ratings=1 + (part.ratings - scale.low) / scale.star)

    of_validation = in_stars(validation) if validation else None
    posterior, trace = gibbs.fit(in_stars(train), side, settings, of_validation, log)
    posterior = posterior.to_scale(scale, levels_of(train.ratings))
    progress: list[dict[str, float | None]] = [
        sweep._asdict()
        | {
            "validation_rmse": sweep.validation_rmse and scale.star * sweep.validation_rmse,
            "noise_std": sweep.noise_std * (1 if posterior.ordinal else scale.star),
        }
        for sweep in trace
    ]
    return Fit(
        distil(posterior, settings.n_factors, y_range, settings.bias),
        progress,
        time.perf_counter() - start,
        posterior.thinned(settings.kept_samples),
    )


def distil(
    posterior: Posterior, n_factors: int, y_range: tuple[float, float], bias: bool
) -> FactorModel:
    """Return the factor model of `n_factors` whose predictions come near the posterior's mean.

    What the model passes through its sigmoid should be x_ui = logit of the posterior mean. The
    mean's own best factors for items are kept, and users are regressed on them, so that a pass over
    blocks of users is enough: the matrix (n_users, n_items) is never in memory.

    `y_range` must reach beyond the rating scale, from the first to the last of the levels.
    """
    low, high = y_range
    users, items = _stacked(posterior)
    basis = _item_factors(users, items, n_factors, centred=bias)
    expected = _expectation(posterior)
    size = max(1, PREDICTIONS_AT_ONCE // len(items))
    blocks, column_sums = [], torch.zeros(len(items), device=items.device)
    for block in users.split(size):
        x = torch.logit((expected(block @ items.T) - low) / (high - low))
        blocks.append(torch.cat([x @ basis, x.mean(dim=1, keepdim=True)], dim=1))
        column_sums += x.sum(dim=0)
    user_factors, user_bias = torch.cat(blocks).split([n_factors, 1], dim=1)
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


def _expectation(posterior: Posterior) -> Callable[[Tensor], Tensor]:
    """Return the function from a mean of the samples' centers to the rating expected there."""
    levels = posterior.levels
    if not posterior.ordinal:
        return lambda center: center.clamp(levels[0], levels[-1])
    edges = posterior.edges.mean(dim=0)
    spread = math.sqrt(1 + _variance(posterior))

    def expected(center: Tensor) -> Tensor:
        # Summed over the edges, the probability to be above times the step there.
        total = levels[0].expand_as(center)
        for edge, step in zip(edges, levels.diff(), strict=True):
            total = total + step * ndtr((center - edge) / spread)
        return total

    return expected


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
