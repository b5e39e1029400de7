"""How far a predictive distribution can be trusted: its intervals and its probabilities, judged.

Everywhere `actual` (n,) are ratings and `predicted` is what was predicted of them. A rating counts
as the level that is nearest to it: where there are many, or where the training part lacked one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cf_pipeline.recommender.rating_levels import between
from cf_pipeline.recommender.rating_scale import RatingScale

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from cf_pipeline.recommender.predictive import Predicted

COVERAGES = (0.80, 0.90, 0.95)
BINS = 10
GROUPS = 10


@dataclass(frozen=True)
class UncertaintyReport:
    """How predictive distributions did on a test part; `dataclasses.asdict` makes JSON of it.

    `coverage` maps each nominal coverage to the share of ratings inside the intervals of it.
    `negative_log_likelihood` is the mean of -log P(the rating's level), in nats. `calibration` has
    a row for each bin of the probability that something is liked (`RatingScale.liked`); from these,
    `calibration_error` is the mean distance of probability and share, weighted by count (ECE:
    Naeini et al. 2015).
    `by_uncertainty` has a row for each tenth of the ratings by predicted standard deviation.
    """

    coverage: Mapping[str, float]
    negative_log_likelihood: float
    calibration: Sequence[Mapping[str, float]]
    calibration_error: float
    by_uncertainty: Sequence[Mapping[str, float]]


def evaluate(actual: Tensor, predicted: Predicted, levels: Tensor) -> UncertaintyReport:
    """Judge predictive distributions over `levels` (n_levels,) of the ratings `actual` (n,).

    Raises:
        ValueError: there is no rating.
    """
    if len(actual) == 0:
        raise ValueError("There are 0 ratings to judge by: choose a split that has a test part.")
    level, liked = torch.bucketize(actual, between(levels)), levels >= RatingScale.of(levels).liked
    likelihood = predicted.probabilities.gather(1, level.unsqueeze(1)).squeeze(1)
    bins = _calibration(liked[level], predicted.probabilities[:, liked].sum(dim=1))
    gaps = [row["count"] * abs(row["probability"] - row["share"]) for row in bins]
    return UncertaintyReport(
        coverage={f"{share:.0%}": _covered(actual, predicted, share) for share in COVERAGES},
        negative_log_likelihood=-likelihood.log().mean().item(),
        calibration=bins,
        calibration_error=sum(gaps) / len(actual),
        by_uncertainty=_by_uncertainty(actual, predicted),
    )


def _covered(actual: Tensor, predicted: Predicted, share: float) -> float:
    low, high = predicted.interval(share)
    return ((low <= actual) & (actual <= high)).float().mean().item()


def _calibration(liked: Tensor, probability: Tensor) -> list[dict[str, float]]:
    place = (probability * BINS).long().clamp(0, BINS - 1)
    rows = []
    for index in range(BINS):
        inside = place == index
        if count := int(inside.sum()):
            rows.append(
                {
                    "probability": probability[inside].mean().item(),
                    "share": liked[inside].float().mean().item(),
                    "count": count,
                }
            )
    return rows


def _by_uncertainty(actual: Tensor, predicted: Predicted) -> list[dict[str, float]]:
    order = predicted.std.argsort(stable=True)
    errors = (predicted.mean - actual)[order].square()
    variances = predicted.std[order].square()
    return [
        {"expected": variance.mean().sqrt().item(), "rmse": error.mean().sqrt().item()}
        for variance, error in zip(variances.chunk(GROUPS), errors.chunk(GROUPS), strict=True)
    ]
