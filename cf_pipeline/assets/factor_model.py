"""The factor model, fitted to the training part."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from cf_pipeline.artifacts import Artifact
from cf_pipeline.caching import Artifacts, Metadata
from cf_pipeline.code_version import code_version
from cf_pipeline.compute import Compute, nodes_of
from cf_pipeline.devices import training_on
from cf_pipeline.metadata import picture, table_of
from cf_pipeline.recommender.settings import (
    VALIDATION_FRACTION,
    FactorModelSettings,
    GibbsSettings,
    GradientDescentSettings,
)
from cf_pipeline.store_layout import scratch_of
from cf_pipeline.training_part import load_training_part

if TYPE_CHECKING:
    from cf_pipeline.recommender.factor_model import FactorModel
    from cf_pipeline.training_part import TrainingPart

ROWS_TO_SHOW = 10
MOVIES_ON_THE_MAP = 400
WITHOUT_VALIDATION = "without_validation.safetensors"


class FactorModelConfig(FactorModelSettings, dg.Config):
    """How the model is fitted: the method, its settings, and where it runs."""

    device: str = Field(
        "auto",
        description="'auto' (cuda, else mps, else cpu), or a torch device such as 'cpu' or "
        "'cuda:1'. A model fitted under 'auto' is reused on any device: name one to insist.",
    )
    validation_fraction: float = Field(
        VALIDATION_FRACTION,
        gt=0,
        lt=1,
        description="Share of the training part that a second fit sets aside to draw the learning "
        "curve; the model that is kept is fitted to the whole training part.",
    )


@dg.asset(
    group_name="model",
    kinds={"pytorch"},
    io_manager_key="artifacts",
    code_version=code_version(__name__),
)
def factor_model(
    context: dg.AssetExecutionContext,
    artifacts: dg.ResourceParam[Artifacts],
    compute: Compute,
    config: FactorModelConfig,
    train_test_split: Artifact,
    vocabularies: Artifact,
    movies: Artifact,
    users: Artifact,
) -> dg.MaterializeResult[Artifact]:
    """Factors and biases of every user and movie, from which ratings are predicted.

    A rating is predicted as sigmoid_range(user factors · movie factors + user bias + movie bias).

    The folder holds all it takes to use it: `FactorModel.load(folder).predict(users, movies)`; by
    the method `gibbs` also samples of the posterior, from which predictions have their uncertainty.
    Beside it are its settings, and the weights of a fit that has not seen the validation part.

    The rating scale is that of the training part. Where all its ratings are alike, as events are,
    the factors are zero: that is what is predicted, and lists go by what people choose to watch.
    """

    def build(directory: Path) -> Metadata:
        from cf_pipeline.recommender import plots
        from cf_pipeline.recommender.methods import by_blocks, device_for, fit

        log = context.log.info
        executor = compute.start_fit(context, by_blocks(config), config.device)
        device, scratch = device_for(config, config.device, executor), scratch_of(directory)
        with training_on(device, log):
            part = load_training_part(vocabularies, movies, users, device)
            log(f"Fitting to {len(part.ratings.ratings)} ratings on {executor.works_on(device)}.")
            fitted = fit(part.ratings, part.side, config, None, log, executor, scratch / "whole")
            log("Fitting once more without the validation part, for the learning curve.")
            # The weights of both stand beside one shape, which the rest may not reach the ends of.
            of_whole = config.model_copy(update={"y_range": list(fitted.model.y_range)})
            carved = part.ratings.carve_into(scratch, config.validation_fraction, config.seed)
            without = fit(
                carved[0], part.side, of_whole, carved[1], log, executor, scratch / "rest"
            )
        fitted.model.save(directory, part.users, part.movies)
        if fitted.posterior:
            fitted.posterior.save(directory)
        without.model.save_weights(directory / WITHOUT_VALIDATION)
        progress = without.progress
        (directory / "learning_curve.json").write_text(json.dumps(progress), encoding="utf-8")
        (directory / "settings.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
        if without.model.y_range != fitted.model.y_range:
            raise ValueError(
                "But for the validation part, all ratings are alike: choose another "
                "validation_fraction or seed, or give more ratings that differ."
            )
        pictures = pictures_of(fitted.model, part)
        if not fitted.model.rating_scale.is_constant:  # or nothing was learnt
            pictures["learning_curve"] = plots.learning_curve(progress)
        if fitted.posterior:
            pictures["sampler_trace"] = plots.sampler_trace(progress)
        return {
            "method": config.method,
            "device": executor.works_on(device),
            "n_factors": config.n_factors,
            "lowest_rating": fitted.model.rating_scale.low,
            "highest_rating": fitted.model.rating_scale.high,
            "train_seconds": fitted.seconds,
            "validation_rmse": progress[-1]["validation_rmse"],
            **nodes_of(executor),
            "progress": table_of(progress[:: -max(1, len(progress) // ROWS_TO_SHOW)][::-1]),
            **{name: picture(png, name.replace("_", " ")) for name, png in pictures.items()},
        }

    # The other method's settings decide nothing.
    read = GibbsSettings if config.method == "gibbs" else GradientDescentSettings
    settings = config.model_dump(
        include={"method", "device", "validation_fraction", *read.model_fields}
    )
    # The split is read no more, but a model of it is not judged on another.
    inputs = [train_test_split, vocabularies, movies, users]
    return artifacts.materialize(context, build, inputs, settings)


def pictures_of(model: "FactorModel", part: "TrainingPart") -> dict[str, bytes]:
    """Return pictures of what the model says of the movies, by their names."""
    import numpy as np
    import torch

    from cf_pipeline.recommender import ranking_plots

    counts = torch.bincount(part.ratings.items, minlength=len(part.movies)).cpu().numpy()
    counts[0] = 0  # the unknown
    titles, tables = np.array(part.titles), model.tables()
    most_rated = (-counts).argsort(kind="stable")[: min(MOVIES_ON_THE_MAP, len(counts) - 1)]
    factors = tables["item_factors"].weight.detach().cpu().numpy()[most_rated]
    pictures = {}
    if len(most_rated) > 1 and np.ptp(factors, axis=0).any():
        pictures["factor_map"] = ranking_plots.factor_map(
            factors, titles[most_rated], counts[most_rated]
        )
    if "item_bias" in tables and tables["item_bias"].weight.any():
        biases = tables["item_bias"].weight.detach().cpu().numpy()[1:, 0]
        pictures["liked_at_equal_popularity"] = ranking_plots.liked_at_equal_popularity(
            biases, counts[1:], titles[1:]
        )
    return pictures
