"""Predictions of many pairs at once, by tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from cf_pipeline.recommender.executors import LOCAL, Part

if TYPE_CHECKING:
    from torch import Tensor

    from cf_pipeline.recommender.executors import Executor
    from cf_pipeline.recommender.minibatches import EncodedRatings
    from cf_pipeline.recommender.posterior import Posterior

PREDICTED_BY_A_TASK = 1 << 22


def predict_mean(posterior: Posterior, pairs: EncodedRatings, executor: Executor = LOCAL) -> Tensor:
    """Return `posterior.predict_mean` of the pairs, (n,); their ratings are not looked at."""
    n = len(pairs.ratings)
    parts = [
        Part(f"Predictions from {start:,}", PREDICTED_BY_A_TASK, (start,))
        for start in range(0, max(1, n), PREDICTED_BY_A_TASK)
    ]
    return torch.cat(list(executor.map(predict_some, parts, pairs, posterior)))


def predict_some(start: int, pairs: EncodedRatings, posterior: Posterior) -> Tensor:
    """Return the predictions of PREDICTED_BY_A_TASK pairs from `start` on."""
    some = pairs.take(slice(start, start + PREDICTED_BY_A_TASK))
    return posterior.predict_mean(some.users, some.items)
