"""Fitting by block Gibbs sampling: Bayesian matrix factorization with features as prior means.

The model is that of BPMF (Salakhutdinov & Mnih 2008) with the prior of Macau (Simm et al. 2017):

    r_ui ~ N(μ + b_u + c_i + p_u·q_i, 1 / (α a_u))       α a_u: how precise a user's ratings are
    w_u = [p_u, b_u] ~ N(βᵀx_u, Λ⁻¹)                     x_u: the user's features
    β | Λ ~ MN(0, (λI)⁻¹, Λ⁻¹), Λ ~ Wishart(I, width), λ ~ Gamma(1, 1)

and for the items' w_i = [q_i, c_i] as for the users', with a β, Λ and λ of their own.
A sweep draws every unknown in turn from its conditional, given all others. What the sweeps visit
after a burn-in are samples of the posterior, and the mean of what they predict is the prediction.
`likelihoods` has what depends on how ratings are taken: as numbers, as above, or as ordered levels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from cf_pipeline.recommender.budget import both_sides
from cf_pipeline.recommender.features import low_rank_features
from cf_pipeline.recommender.gibbs_side import Side
from cf_pipeline.recommender.likelihoods import GaussianLikelihood, Likelihood, OrdinalLikelihood
from cf_pipeline.recommender.posterior import Posterior, Sample, levels_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from cf_pipeline.recommender.features import SideFeatures
    from cf_pipeline.recommender.minibatches import EncodedRatings
    from cf_pipeline.recommender.settings import GibbsSettings

SWEEPS_BETWEEN_LINES = 25


class Sweep(NamedTuple):
    """Where the sampler stood after a sweep.

    `validation_rmse`, in stars, is that of the mean of the samples so far; None during the burn-in
    and without a validation part. `noise_std` is the mean standard deviation of a rating about what
    is said of it, in stars (with the ordinal likelihood about 1, without unit); `user_std` and
    `item_std` are those of a factor or bias about what the features say of it.
    """

    sweep: int
    validation_rmse: float | None
    noise_std: float
    user_std: float
    item_std: float


class Sampled(NamedTuple):
    """Samples of the posterior, and how the sampler came there."""

    posterior: Posterior
    trace: list[Sweep]


def fit(
    train: EncodedRatings,
    side: SideFeatures,
    settings: GibbsSettings,
    validation: EncodedRatings | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> Sampled:
    """Sample factors and biases of every user and item, on the device where the ratings are.

    Samples are reproducible for `settings.seed`: bit for bit on a CPU, and on a GPU as far as its
    sparse products are. Beside the sums of both sides, they take most of the memory: 4 bytes a
    weight, and `settings.samples` times n_users + n_items times `settings.sampled_factors` + 1.

    Raises:
        FloatingPointError: the sampler diverged.
        ValueError: the burn-in leaves no sweep, or all ratings are equal.
    """
    sampler = Sampler(train, side, settings)
    kept, seen = _kept_sweeps(settings), _Seen(validation)
    samples, trace = _Samples(len(kept)), []
    for sweep in range(1, settings.sweeps + 1):
        try:
            sampler.sweep()
        except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]  # not in its __all__
            raise FloatingPointError(
                f"The sampler diverged in sweep {sweep} ({error}): give fewer sampled_factors, or "
                "ratings of a smaller scale."
            ) from error
        if sweep > settings.burn_in:
            seen.add(sampler)
        if sweep in kept:
            samples.add(sampler.sample())
        trace.append(
            Sweep(
                sweep,
                seen.rmse,
                sampler.likelihood.precision.rsqrt().mean().item(),
                sampler.users.prior_std,
                sampler.items.prior_std,
            )
        )
        if sweep % SWEEPS_BETWEEN_LINES == 0 or sweep == settings.sweeps:
            known = {name: value for name, value in trace[-1]._asdict().items() if value}
            log(", ".join(f"{name} {value:.4g}" for name, value in known.items()))
    posterior = Posterior.of_stacked(samples.stacked, sampler.levels, sampler.ordinal)
    if not sampler.ordinal:
        posterior = posterior.calibrated(train)
    return Sampled(posterior, trace)


class Sampler:
    """All unknowns of the model, and the sweep that draws each in turn."""

    def __init__(self, train: EncodedRatings, side: SideFeatures, settings: GibbsSettings) -> None:
        ratings = train.ratings
        n_users, n_items = len(side.users), len(side.items)
        rank, seed, width = settings.feature_rank, settings.seed, settings.sampled_factors + 1
        generator = torch.Generator(ratings.device).manual_seed(seed)
        self.ordinal = settings.likelihood == "ordinal"
        self.levels = levels_of(ratings, self.ordinal)
        if len(self.levels) < 2:
            raise ValueError(
                f"All ratings are {self.levels.tolist()}, which says nothing of anybody: train on "
                "ratings that differ."
            )
        of_users, of_items = both_sides(
            train, n_users, n_items, settings.memory_gib, with_values=True, replaceable=self.ordinal
        )
        self.users, self.items = (
            Side(sums, low_rank_features(sums, others, known, rank, seed), width, generator)
            for sums, others, known in (
                (of_users, of_items, side.users),
                (of_items, of_users, side.items),
            )
        )
        likelihood = OrdinalLikelihood if self.ordinal else GaussianLikelihood
        self.likelihood: Likelihood = likelihood(train, n_users, self.levels, generator)

    def sweep(self) -> None:
        """Draw every unknown once."""
        users, items, likelihood = self.users, self.items, self.likelihood
        likelihood.before_sweep(users, items)
        users.draw_prior()
        items.draw_prior()
        moments = items.sums.moments(
            users.table, users.bias + likelihood.mean, likelihood.precision
        )
        items.draw_weights(moments, torch.ones_like(items.bias))
        moments = users.sums.moments(items.table, items.bias + likelihood.mean)
        residuals = users.draw_weights(moments, likelihood.precision)
        likelihood.after_sweep(users, items, residuals)

    def sample(self) -> Sample:
        """Return where the unknowns stand."""
        of = self.likelihood
        return Sample(self.users.weights, self.items.weights, of.mean, of.precision, of.edges)


class _Samples:
    """Samples, stacked as they come: to stack them at the end would take as much room again."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._added = 0
        self.stacked: Sample

    def add(self, sample: Sample) -> None:
        if not self._added:
            self.stacked = Sample(*(value.new_empty(self._count, *value.shape) for value in sample))
        for stack, value in zip(self.stacked, sample, strict=True):
            stack[self._added] = value
        self._added += 1


class _Seen:
    """The mean of what samples predict of the validation part, if there is one."""

    def __init__(self, validation: EncodedRatings | None) -> None:
        self._validation = validation
        self._sum: Tensor | float = 0.0
        self._count = 0
        self.rmse: float | None = None

    def add(self, sampler: Sampler) -> None:
        """Add what the sampler predicts where it stands."""
        if self._validation is None:
            return
        users, items, ratings = self._validation
        posterior = Posterior.of([sampler.sample()], sampler.levels, sampler.ordinal)
        self._sum = self._sum + posterior.predict_mean(users, items)
        self._count += 1
        self.rmse = (self._sum / self._count - ratings).square().mean().sqrt().item()


def _kept_sweeps(settings: GibbsSettings) -> frozenset[int]:
    """Return which of the sweeps after the burn-in are kept, evenly spaced, the last among them."""
    after = settings.sweeps - settings.burn_in
    if after < 1:
        raise ValueError(
            f"burn_in is {settings.burn_in} of {settings.sweeps} sweeps, which leaves no sample: "
            "lower it, or raise sweeps."
        )
    count = min(settings.samples, after)
    return frozenset(settings.sweeps - after * place // count for place in range(count))
