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

from cf_pipeline.recommender.draws import gamma, normal, wishart
from cf_pipeline.recommender.features import low_rank_features
from cf_pipeline.recommender.likelihoods import GaussianLikelihood, Likelihood, OrdinalLikelihood
from cf_pipeline.recommender.posterior import Posterior, Sample, levels_of
from cf_pipeline.recommender.rating_sums import Moments, RatingSums

if TYPE_CHECKING:
    from collections.abc import Callable

    from cf_pipeline.recommender.features import SideFeatures
    from cf_pipeline.recommender.minibatches import EncodedRatings
    from cf_pipeline.recommender.settings import GibbsSettings

INITIAL_STD = 0.1
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
    sparse products are.

    Raises:
        FloatingPointError: the sampler diverged.
        ValueError: the burn-in leaves no sweep, or all ratings are equal.
    """
    sampler = Sampler(train, side, settings)
    kept, seen = _kept_sweeps(settings), _Seen(validation)
    samples, trace = [], []
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
            samples.append(sampler.sample())
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
    posterior = Posterior.of(samples, sampler.levels, sampler.ordinal)
    if not sampler.ordinal:
        posterior = posterior.calibrated(train)
    return Sampled(posterior, trace)


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

    def draw_weights(self, moments: Moments, own_precision: Tensor) -> None:
        """Draw all weights given the other side's (Salakhutdinov & Mnih 2008, equations 11-13).

        `own_precision` (n,) is that of a row's ratings, beside any weight that the moments have.
        """
        own = own_precision.unsqueeze(1)
        precision = own.unsqueeze(2) * moments.gram + self._precision
        linear = own * moments.linear + self._prior_mean @ self._precision
        root = torch.linalg.cholesky(precision)
        half = torch.linalg.solve_triangular(root, linear.unsqueeze(2), upper=False)
        half += normal(self._generator, *half.shape)
        self.weights = torch.linalg.solve_triangular(root.mT, half, upper=True).squeeze(2)


class Sampler:
    """All unknowns of the model, and the sweep that draws each in turn."""

    def __init__(self, train: EncodedRatings, side: SideFeatures, settings: GibbsSettings) -> None:
        users, items, ratings = train
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
        self.users = Side(
            RatingSums(users, items, ratings, n_users, n_items),
            low_rank_features(users, items, side.users, n_items, rank, seed),
            width,
            generator,
        )
        self.items = Side(
            RatingSums(items, users, ratings, n_items, n_users),
            low_rank_features(items, users, side.items, n_users, rank, seed),
            width,
            generator,
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
        users.draw_weights(moments, likelihood.precision)
        likelihood.after_sweep(users, items, moments)

    def sample(self) -> Sample:
        """Return where the unknowns stand."""
        of = self.likelihood
        return Sample(self.users.weights, self.items.weights, of.mean, of.precision, of.edges)


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
        self._sum = self._sum + posterior.predict(users, items).mean
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
