"""The methods by which the factor model is fitted, by their names in the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cf_pipeline.recommender import distillation, gradient_descent
from cf_pipeline.recommender.executors import LOCAL
from cf_pipeline.recommender.fits import resolve_device

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch

    from cf_pipeline.recommender.executors import Executor
    from cf_pipeline.recommender.features import SideFeatures
    from cf_pipeline.recommender.fits import Fit
    from cf_pipeline.recommender.minibatches import EncodedRatings
    from cf_pipeline.recommender.settings import FactorModelSettings


def fit(
    train: EncodedRatings,
    side: SideFeatures,
    settings: FactorModelSettings,
    validation: EncodedRatings | None = None,
    log: Callable[[str], None] = lambda _: None,
    executor: Executor = LOCAL,
    folder: Path | None = None,
) -> Fit:
    """Fit by `settings.method`; see `distillation.fit` and `gradient_descent.fit`.

    Gradient descent is no map over blocks: it has no use for an `executor`, nor for a `folder`.
    """
    if settings.method == "gradient_descent":
        return gradient_descent.fit(train, side, settings, validation, log)
    return distillation.fit(train, side, settings, validation, log, executor, folder)


def by_blocks(settings: FactorModelSettings) -> bool:
    """Return whether a fit by `settings` is a row of maps over blocks, for any executor.

    Gradient descent is none, and an ordinal likelihood has latent ratings that all blocks share.
    """
    return settings.method == "gibbs" and settings.likelihood != "ordinal"


def device_for(
    settings: FactorModelSettings, name: str, executor: Executor = LOCAL
) -> torch.device:
    """Return the device `name` for a fit by `settings.method`, in this process."""
    sparse = settings.method == "gibbs"
    return resolve_device(name, sparse, executor if by_blocks(settings) else LOCAL)
