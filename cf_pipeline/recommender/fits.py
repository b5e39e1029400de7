"""What a fit gives, whatever the method: the model, how it came there, and how long it took."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from cf_pipeline.recommender.executors import LOCAL
from cf_pipeline.recommender.factor_model import FactorModel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cf_pipeline.recommender.executors import Executor
    from cf_pipeline.recommender.features import SideFeatures
    from cf_pipeline.recommender.minibatches import EncodedRatings
    from cf_pipeline.recommender.posterior import Posterior
    from cf_pipeline.recommender.rating_scale import RatingScale
    from cf_pipeline.recommender.settings import ModelSettings


@dataclass(frozen=True)
class Fit:
    """A fitted model, and the wall time in `seconds` that it took.

    That of earlier runs, from which it went on, counts. `progress` has a row for each epoch or
    sweep, with its number under that name and what it came to: None where there is nothing to judge
    by. `posterior` is what the model was distilled from.
    """

    model: FactorModel
    progress: Sequence[Mapping[str, float | None]]
    seconds: float
    posterior: Posterior | None = field(default=None, repr=False)


def in_words(row: Mapping[str, float | None], of: int) -> str:
    """Return a row of a fit's progress for the log: which of how many steps, and what is known."""
    (step, number), *figures = row.items()
    known = [f"{name} {value:.4g}" for name, value in figures if value is not None]
    return ", ".join([f"{step} {number} of {of}", *known])


def resolve_y_range(settings: ModelSettings, scale: RatingScale) -> tuple[float, float]:
    """Return the range of predictions: as it is set, or by the rating scale.

    By the scale where it is not set, or all ratings are alike: their range has them in its middle.

    Raises:
        ValueError: it is set, and does not reach beyond the scale.
    """
    if settings.y_range is None or scale.is_constant:
        return scale.y_range
    low, high = settings.y_range
    if not low < scale.low <= scale.high < high:
        raise ValueError(
            f"y_range {settings.y_range} must reach beyond the ratings, {scale.low:g} to "
            f"{scale.high:g}, whose ends a sigmoid never reaches: lower its low, raise its high, "
            "or leave it out."
        )
    return low, high


def constant_fit(
    scale: RatingScale,
    side: SideFeatures,
    settings: ModelSettings,
    validation: EncodedRatings | None,
    log: Callable[[str], None],
) -> Fit:
    """Return the model of ratings that are all alike: its tables are zero, and it predicts that.

    Such are events, that only say that something was watched: there is nothing else to learn.
    """
    start = time.perf_counter()
    log(f"All ratings are {scale.low:g}: there are none to predict, and lists go by who saw what.")
    n_users, n_items, y_range = len(side.users), len(side.items), scale.y_range
    with side.users.device:
        model = FactorModel(n_users, n_items, settings.n_factors, y_range, settings.bias, scale)
    for table in model.parameters():
        torch.nn.init.zeros_(table)
    off = None
    if validation:
        off = (validation.ratings - scale.low).square().mean().sqrt().item()
    progress = [{"epoch": 1, "train_rmse": 0.0, "validation_rmse": off}]
    return Fit(model, progress, time.perf_counter() - start)


def resolve_device(name: str, sparse: bool, executor: Executor = LOCAL) -> torch.device:
    """Return the torch device `name`; 'auto' is cuda where there is one, else mps, else cpu.

    For what sums by `sparse` products, which mps does not have, 'auto' passes it over. Where the
    work is done elsewhere by an `executor`, which has devices of its own, it is the cpu.

    Raises:
        ValueError: there is no such device here.
    """
    if not executor.in_process:
        return torch.device("cpu")
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        mps = torch.backends.mps.is_available() and not sparse
        return torch.device("mps" if mps else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"Device {name!r} cannot be used here: {error}. Choose 'auto' or 'cpu'."
        ) from error
