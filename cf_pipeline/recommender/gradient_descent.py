"""Fitting the factor model by gradient descent, plain or with a low-rank feature prior."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize
from torch.optim.lr_scheduler import OneCycleLR

from cf_pipeline.recommender.budget import both_sides
from cf_pipeline.recommender.factor_model import FactorModel
from cf_pipeline.recommender.features import SideFeatures, low_rank_features
from cf_pipeline.recommender.fits import Fit, constant_fit, in_words, resolve_y_range
from cf_pipeline.recommender.minibatches import EncodedRatings, Minibatches
from cf_pipeline.recommender.rating_scale import RatingScale
from cf_pipeline.recommender.settings import BlockSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from cf_pipeline.recommender.settings import GradientDescentSettings

INITIAL_STD = 0.01
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
LOSSES = {"mse": functional.mse_loss, "l1": functional.l1_loss}


class Epoch(NamedTuple):
    """Where a fit stood after an epoch, on the rating scale; None without a validation part."""

    epoch: int
    train_rmse: float
    validation_rmse: float | None


class FeaturePrior(nn.Module):
    """Reads a table E as E + X·A, so that a row is drawn to what its features say, not to zero.

    X (n, rank) are the features, A (rank, width) is fitted with E (regression-based latent factors:
    Agarwal & Chen 2009, section 2).
    """

    features: Tensor

    def __init__(self, features: Tensor, width: int) -> None:
        super().__init__()
        self.register_buffer("features", features)
        self.weights = nn.Parameter(features.new_empty(features.shape[1], width))

    def forward(self, table: Tensor) -> Tensor:
        """Return the table (n, width) with the prior mean added."""
        return torch.addmm(table, self.features, self.weights)


def fit(
    train: EncodedRatings,
    side: SideFeatures,
    settings: GradientDescentSettings,
    validation: EncodedRatings | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> Fit:
    """Fit a factor model to the ratings, on the device where they are.

    AdamW (Loshchilov & Hutter 2019) under a one-cycle schedule (Smith & Topin 2018). With
    `settings.feature_rank` the tables start from a feature prior, which is folded into them at the
    end, so that the result is the plain model either way. Row 0, the unknown user or item, is the
    mean of the others: what is said of nobody in particular. Errors count in quarters of the rating
    scale, so that the settings mean the same on every scale.

    Raises:
        FloatingPointError: the fit diverged.
        ValueError: `y_range` does not reach beyond the rating scale.
    """
    start = time.perf_counter()
    scale = RatingScale.of(train.ratings)
    if scale.is_constant:
        return constant_fit(scale, side, settings, validation, log)
    model = _initial_model(train, side, settings, scale).to(DTYPES[settings.table_dtype])
    batches = Minibatches(train, settings.batch_size, settings.seed)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=settings.learning_rate,
        betas=(0.9, 0.99),
        eps=1e-5,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    steps = settings.epochs * len(batches)
    # 0.3 of no whole number of steps is 1, which OneCycleLR would divide by less 1.
    schedule = OneCycleLR(optimizer, settings.learning_rate, total_steps=steps, pct_start=0.3)
    loss_of = LOSSES[settings.loss]
    curve = []
    for epoch in range(1, settings.epochs + 1):
        for users, items, ratings in batches:
            loss = loss_of(model(users, items) / scale.star, ratings / scale.star)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        curve.append(_evaluate(epoch, model, train, validation))
        log(in_words(curve[-1]._asdict(), settings.epochs))
    _finish(model)
    return Fit(model, [epoch._asdict() for epoch in curve], time.perf_counter() - start)


def _initial_model(
    train: EncodedRatings,
    side: SideFeatures,
    settings: GradientDescentSettings,
    scale: RatingScale,
) -> FactorModel:
    device = train.ratings.device
    n_users, n_items = len(side.users), len(side.items)
    y_range = resolve_y_range(settings, scale)
    with device:
        model = FactorModel(n_users, n_items, settings.n_factors, y_range, settings.bias, scale)
    if settings.feature_rank:
        features = _features(train, side, settings)
        for name, table in model.tables().items():
            prior = FeaturePrior(features[name.partition("_")[0]], table.embedding_dim)
            parametrize.register_parametrization(table, "weight", prior)
    generator = torch.Generator(device).manual_seed(settings.seed)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=INITIAL_STD, generator=generator)
    return model


def _features(
    train: EncodedRatings, side: SideFeatures, settings: GradientDescentSettings
) -> dict[str, Tensor]:
    device = train.ratings.device
    if device.type == "mps":  # it has no sparse products
        train = EncodedRatings(*(column.cpu() for column in train))
        side = SideFeatures(*(features.cpu() for features in side))
    sizes = len(side.users), len(side.items)
    blocks = BlockSettings(memory_gib=settings.memory_gib)  # their size decides next to nothing
    users, items = both_sides(train, *sizes, blocks, with_values=False)
    rank, seed = settings.feature_rank, settings.seed
    return {
        "user": low_rank_features(users, items, side.users, rank, seed).to(device),
        "item": low_rank_features(items, users, side.items, rank, seed).to(device),
    }


@torch.no_grad()
def _finish(model: FactorModel) -> None:
    model.float()
    for table in model.tables().values():
        if parametrize.is_parametrized(table):
            parametrize.remove_parametrizations(table, "weight")
        table.weight[0] = table.weight[1:].mean(dim=0)


@torch.no_grad()
def _evaluate(
    epoch: int, model: FactorModel, train: EncodedRatings, validation: EncodedRatings | None
) -> Epoch:
    def rmse(part: EncodedRatings) -> float:
        total = 0.0
        for users, items, ratings in part.pieces():
            errors = model(users, items).clamp(*model.rating_scale) - ratings
            total += errors.square().sum(dtype=torch.float64).item()
        return math.sqrt(total / len(part.ratings))

    reached = Epoch(epoch, rmse(train), rmse(validation) if validation else None)
    if not math.isfinite(reached.train_rmse):
        raise FloatingPointError(
            f"The fit diverged in epoch {epoch}: lower learning_rate or raise batch_size."
        )
    return reached
