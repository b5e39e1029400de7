"""The methods by which the factor model is fitted, by their names in the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cf_pipeline.recommender import distillation, gradient_descent
from cf_pipeline.recommender.fits import resolve_device

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

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
) -> Fit:
    """Fit by `settings.method`; see `distillation.fit` and `gradient_descent.fit`."""
    method = distillation.fit if settings.method == "gibbs" else gradient_descent.fit
    return method(train, side, settings, validation, log)


def device_for(settings: FactorModelSettings, name: str) -> torch.device:
    """Return the device `name` for a fit by `settings.method`."""
    return resolve_device(name, sparse=settings.method == "gibbs")
