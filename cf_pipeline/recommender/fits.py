"""What a fit gives, whatever the method: the model, how it came there, and how long it took."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cf_pipeline.recommender.factor_model import FactorModel
    from cf_pipeline.recommender.minibatches import EncodedRatings
    from cf_pipeline.recommender.posterior import Posterior
    from cf_pipeline.recommender.settings import ModelSettings


@dataclass(frozen=True)
class Fit:
    """A fitted model, and the wall time in `seconds` that it took.

    `progress` has a row for each epoch or sweep, with its number under that name and what it came
    to: None where there is nothing to judge by. `posterior` is what the model was distilled from.
    """

    model: FactorModel
    progress: Sequence[Mapping[str, float | None]]
    seconds: float
    posterior: Posterior | None = field(default=None, repr=False)


def check_y_range(settings: ModelSettings, train: EncodedRatings) -> None:
    """Raise ValueError unless the range of predictions reaches beyond the ratings' scale."""
    low, high = settings.y_range
    least, greatest = (end.item() for end in train.ratings.aminmax())
    if not low < least <= greatest < high:
        raise ValueError(
            f"y_range {settings.y_range} must reach beyond the ratings, {least:g} to {greatest:g}, "
            "whose ends a sigmoid never reaches: lower its low, raise its high."
        )


def resolve_device(name: str, sparse: bool) -> torch.device:
    """Return the torch device `name`; 'auto' is cuda where there is one, else mps, else cpu.

    For what sums by `sparse` products, which mps does not have, 'auto' passes it over.

    Raises:
        ValueError: there is no such device here.
    """
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
