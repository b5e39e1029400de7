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

import time
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from cf_pipeline.recommender.budget import both_sides
from cf_pipeline.recommender.checkpoints import Checkpoints, checksum
from cf_pipeline.recommender.draws import stream
from cf_pipeline.recommender.executors import LOCAL, BlockError
from cf_pipeline.recommender.features import low_rank_features
from cf_pipeline.recommender.fits import in_words
from cf_pipeline.recommender.gibbs_progress import Samples, Seen, Sweep, kept_sweeps
from cf_pipeline.recommender.gibbs_side import Side
from cf_pipeline.recommender.likelihoods import GaussianLikelihood, Likelihood, OrdinalLikelihood
from cf_pipeline.recommender.posterior import Posterior, Sample
from cf_pipeline.recommender.rating_levels import levels_of
from cf_pipeline.recommender.rating_scale import STARS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from cf_pipeline.recommender.executors import Executor
    from cf_pipeline.recommender.features import SideFeatures
    from cf_pipeline.recommender.minibatches import EncodedRatings
    from cf_pipeline.recommender.rating_scale import RatingScale
    from cf_pipeline.recommender.settings import GibbsSettings

SWEEPS_BETWEEN_LINES, SECONDS_BETWEEN_LINES = 25, 30.0
USERS, ITEMS, OF_LIKELIHOOD = range(3)  # whose a stream of random numbers is


class Sampled(NamedTuple):
    """Samples of the posterior, and how the sampler came there.

    `seconds_before` is the wall time of earlier runs, from which this one went on.
    """

    posterior: Posterior
    trace: list[Sweep]
    seconds_before: float = 0.0


def fit(
    train: EncodedRatings,
    side: SideFeatures,
    settings: GibbsSettings,
    validation: EncodedRatings | None = None,
    log: Callable[[str], None] = lambda _: None,
    executor: Executor = LOCAL,
    folder: Path | None = None,
    scale: RatingScale = STARS,
) -> Sampled:
    """Sample factors and biases of every user and item, on the device where the ratings are.

    The priors are for stars: ratings of a `scale` are taken as if it were 1 to 5, and the samples
    are of such. What is found is the same on every scale. The trace is on the `scale`.

    The ordinal likelihood draws a latent rating of each, which both sides share: it is fitted in
    this process, whatever the `executor`.

    Samples are reproducible for `settings.seed` and `settings.block_ratings`, whatever the
    `executor`: bit for bit on a CPU, and on a GPU as far as its sparse products are. Beside the
    sums of both sides, they take most of the memory: 4 bytes a weight, and `settings.samples` times
    n_users + n_items times `settings.sampled_factors` + 1.

    In `folder`, if any, is written down where the sampler stands, and from there it goes on.

    Raises:
        BlockError: a block of ratings cannot be worked on.
        FloatingPointError: the sampler diverged.
        ValueError: the burn-in leaves no sweep, or all ratings are equal.
    """
    if settings.likelihood == "ordinal" and not executor.in_process:
        log("The ordinal likelihood is fitted in the run's own process.")
        executor = LOCAL
    sampler = Sampler(train, side, settings, executor, scale)
    kept = kept_sweeps(settings)
    seen = Seen(validation, scale, executor)
    checkpoints = None
    if folder:
        about = {"settings": settings.model_dump(), "ratings": len(train.ratings)}
        about |= {"users": len(side.users), "items": len(side.items)}
        about |= {"validation": len(validation.ratings) if validation else 0}
        about |= {"checksum": checksum(*train, *side, *(validation or ()))}
        checkpoints = Checkpoints(folder, about, settings.checkpoint_seconds, log)
    done, samples, trace = 0, Samples(len(kept)), list[Sweep]()
    logged = time.monotonic()
    if checkpoints and (found := checkpoints.load(train.ratings.device)):
        done, trace = found.step, [Sweep(*row) for row in found.facts["trace"]]
        sampler.restore(found.tensors)
        seen.restore(found.tensors, found.facts["seen"])
        for sample in found.added:
            samples.add(Sample(**sample))
    for sweep in range(done + 1, settings.sweeps + 1):
        _sweep(sampler, sweep)
        if sweep > settings.burn_in:
            seen.add(sampler)
        if sweep in kept:
            samples.add(sampler.sample())
        noise_std = sampler.likelihood.precision.rsqrt().mean().item()
        trace.append(
            Sweep(
                sweep,
                seen.rmse,
                noise_std if sampler.ordinal else scale.star * noise_std,
                sampler.users.prior_std,
                sampler.items.prior_std,
            )
        )
        late = time.monotonic() - logged > SECONDS_BETWEEN_LINES
        if late or sweep % SWEEPS_BETWEEN_LINES == 0 or sweep == settings.sweeps:
            logged = time.monotonic()
            log(in_words(trace[-1]._asdict(), settings.sweeps))
        if checkpoints and checkpoints.due:
            facts = {"trace": trace, "seen": seen.count}
            checkpoints.save(sweep, sampler.state | seen.state, facts, samples.each())
    posterior = Posterior.of_stacked(samples.stacked, sampler.levels, sampler.ordinal)
    if not sampler.ordinal:
        posterior = posterior.calibrated(train, scale)
    return Sampled(posterior, trace, checkpoints.seconds_before if checkpoints else 0.0)


def _sweep(sampler: Sampler, number: int) -> None:
    try:
        sampler.sweep(number)
    except (BlockError, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]  # not in its __all__
        cause = error.__cause__ if isinstance(error, BlockError) else error
        if not isinstance(cause, torch.linalg.LinAlgError):  # type: ignore[attr-defined]  # as above
            raise
        raise FloatingPointError(
            f"The sampler diverged in sweep {number} ({error}): give fewer sampled_factors, or "
            "ratings of a smaller scale."
        ) from error


class Sampler:
    """All unknowns of the model, and the sweep that draws each in turn.

    Random numbers are those of streams by (seed, side, sweep, what for, block): where a sweep
    begins, it needs no more than `state`.
    """

    def __init__(
        self,
        train: EncodedRatings,
        side: SideFeatures,
        settings: GibbsSettings,
        executor: Executor = LOCAL,
        scale: RatingScale = STARS,
    ) -> None:
        ratings = train.ratings
        n_users, n_items = len(side.users), len(side.items)
        rank, seed, width = settings.feature_rank, settings.seed, settings.sampled_factors + 1
        self.ordinal = settings.likelihood == "ordinal"
        self.levels = scale.in_stars(levels_of(ratings, self.ordinal)).unique()
        if len(self.levels) < 2:
            raise ValueError(
                f"All ratings are {self.levels.tolist()}, which says nothing of anybody: train on "
                "ratings that differ."
            )
        of_users, of_items = both_sides(
            train,
            n_users,
            n_items,
            settings,
            with_values=True,
            replaceable=self.ordinal,
            scale=scale,
            executor=executor,
        )
        self.users, self.items = (
            Side(blocks, low_rank_features(blocks, others, known, rank, seed), width, (seed, which))
            for which, blocks, others, known in (
                (USERS, of_users, of_items, side.users),
                (ITEMS, of_items, of_users, side.items),
            )
        )
        likelihood = OrdinalLikelihood if self.ordinal else GaussianLikelihood
        self.likelihood: Likelihood = likelihood(train, n_users, self.levels, scale)
        self._key = seed, OF_LIKELIHOOD
        self._whole = torch.ones_like(self.items.bias)

    def sweep(self, number: int) -> None:
        """Draw every unknown once; sweeps are numbered from 1."""
        users, items, likelihood = self.users, self.items, self.likelihood
        generator = stream(users.weights.device, *self._key, number)
        likelihood.before_sweep(generator, users, items)
        users.draw_prior(number)
        items.draw_prior(number)
        precision, mean = likelihood.precision, likelihood.mean
        items.draw_weights(
            number, users, mean, own_precision=self._whole, others_precision=precision
        )
        drawn = users.draw_weights(number, items, mean, own_precision=precision, judged=True)
        likelihood.after_sweep(generator, users, drawn)

    @property
    def state(self) -> dict[str, Tensor]:
        """All that the next sweep goes on from."""
        return {
            f"{part}.{name}": value
            for part, of in self._parts.items()
            for name, value in of.state.items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from where `state`, which may hold more, was taken."""
        for part, of in self._parts.items():
            of.restore({name: state[f"{part}.{name}"] for name in of.state})

    @property
    def _parts(self) -> dict[str, Side | Likelihood]:
        return {"users": self.users, "items": self.items, "likelihood": self.likelihood}

    def sample(self) -> Sample:
        """Return where the unknowns stand."""
        of = self.likelihood
        return Sample(self.users.weights, self.items.weights, of.mean, of.precision, of.edges)
