"""Predictions of many pairs at once, by tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from cf_pipeline.recommender.executors import LOCAL, Part
from cf_pipeline.recommender.posterior import Posterior

if TYPE_CHECKING:
    from torch import Tensor

    from cf_pipeline.recommender.executors import Executor
    from cf_pipeline.recommender.factor_model import FactorModel
    from cf_pipeline.recommender.minibatches import EncodedRatings

PREDICTED_BY_A_TASK = 1 << 22


def predict_indices(
    model: FactorModel, pairs: EncodedRatings, executor: Executor = LOCAL
) -> Tensor:
    """Return `model.predict_indices` of the pairs, (n,); their ratings are not looked at."""
    return _predict(model, pairs, executor)


def predict_mean(posterior: Posterior, pairs: EncodedRatings, executor: Executor = LOCAL) -> Tensor:
    """Return `posterior.predict_mean` of the pairs, (n,); their ratings are not looked at."""
    return _predict(posterior, pairs, executor)


def predict_some(start: int, pairs: EncodedRatings, model: FactorModel | Posterior) -> Tensor:
    """Return the predictions of PREDICTED_BY_A_TASK pairs from `start` on."""
    some = pairs.take(slice(start, start + PREDICTED_BY_A_TASK))
    if isinstance(model, Posterior):
        device = model.mean.device
        return model.predict_mean(some.users.to(device), some.items.to(device))
    return model.predict_indices(some.users, some.items)


def _predict(model: FactorModel | Posterior, pairs: EncodedRatings, executor: Executor) -> Tensor:
    n = len(pairs.ratings)
    parts = [
        Part(f"Predictions from {start:,} on", min(n - start, PREDICTED_BY_A_TASK), (start,))
        for start in range(0, max(1, n), PREDICTED_BY_A_TASK)
    ]
    return torch.cat(list(executor.map(predict_some, parts, pairs, model)))
