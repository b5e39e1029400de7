"""How the sampler gets on: which sweeps are kept, their samples, and what they predict so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from cf_pipeline.recommender.posterior import Posterior, Sample
from cf_pipeline.recommender.predictions import predict_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from cf_pipeline.recommender.executors import Executor
    from cf_pipeline.recommender.gibbs import Sampler
    from cf_pipeline.recommender.minibatches import EncodedRatings
    from cf_pipeline.recommender.rating_scale import RatingScale
    from cf_pipeline.recommender.settings import GibbsSettings


class Sweep(NamedTuple):
    """Where the sampler stood after a sweep.

    `validation_rmse`, on the scale of the ratings, is that of the mean of the samples so far; None
    during the burn-in and without a validation part. `noise_std` is the mean standard deviation of
    a rating about what is said of it, on that scale (with the ordinal likelihood about 1, without
    unit); `user_std` and `item_std` are those of a factor or bias about what the features say.
    """

    sweep: int
    validation_rmse: float | None
    noise_std: float
    user_std: float
    item_std: float


class Samples:
    """Samples, stacked as they come: to stack them at the end would take as much room again."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._added = 0
        self.stacked: Sample

    def add(self, sample: Sample) -> None:
        """Add one, of as many as there will be."""
        if not self._added:
            self.stacked = Sample(*(value.new_empty(self._count, *value.shape) for value in sample))
        for stack, value in zip(self.stacked, sample, strict=True):
            stack[self._added] = value
        self._added += 1

    def each(self) -> list[dict[str, Tensor]]:
        """Return the samples that were added."""
        return [
            {name: stack[number] for name, stack in self.stacked._asdict().items()}
            for number in range(self._added)
        ]


class Seen:
    """The mean of what samples predict of the validation part, if there is one."""

    def __init__(
        self, validation: EncodedRatings | None, scale: RatingScale, executor: Executor
    ) -> None:
        self._validation = validation
        self._scale = scale
        self._executor = executor
        self._sum = torch.zeros_like(validation.ratings) if validation else None
        self.count = 0

    @property
    def state(self) -> dict[str, Tensor]:
        """The sum of what was predicted, if anything is."""
        return {} if self._sum is None else {"seen": self._sum}

    def restore(self, state: Mapping[str, Tensor], count: int) -> None:
        """Go on from where `state`, which may hold more, was taken, after `count` samples."""
        self._sum, self.count = state.get("seen"), count

    @property
    def rmse(self) -> float | None:
        """That of the mean of the predictions, on the scale of the ratings; None without any."""
        if self._validation is None or self._sum is None or not self.count:
            return None
        errors = self._sum / self.count - self._scale.in_stars(self._validation.ratings)
        return self._scale.star * errors.square().mean().sqrt().item()

    def add(self, sampler: Sampler) -> None:
        """Add what the sampler predicts where it stands."""
        if self._validation is None or self._sum is None:
            return
        posterior = Posterior.of([sampler.sample()], sampler.levels, sampler.ordinal)
        self._sum += predict_mean(posterior, self._validation, self._executor)
        self.count += 1


def kept_sweeps(settings: GibbsSettings) -> frozenset[int]:
    """Return which of the sweeps after the burn-in are kept, evenly spaced, the last among them."""
    after = settings.sweeps - settings.burn_in
    if after < 1:
        raise ValueError(
            f"burn_in is {settings.burn_in} of {settings.sweeps} sweeps, which leaves no sample: "
            "lower it, or raise sweeps."
        )
    count = min(settings.samples, after)
    return frozenset(settings.sweeps - after * place // count for place in range(count))
