"""The factor model, fitted to the training part."""

import json
from pathlib import Path

import dagster as dg
from pydantic import Field

from cf_pipeline.artifacts import Artifact
from cf_pipeline.caching import Artifacts, Metadata
from cf_pipeline.code_version import code_version
from cf_pipeline.metadata import picture, table_of
from cf_pipeline.recommender.settings import (
    FactorModelSettings,
    GibbsSettings,
    GradientDescentSettings,
)

ROWS_TO_SHOW = 10


class FactorModelConfig(FactorModelSettings, dg.Config):
    """How the model is fitted: the method, its settings, and where it runs."""

    device: str = Field(
        "auto",
        description="'auto' (cuda, else mps, else cpu), or a torch device such as 'cpu' or "
        "'cuda:1'. A model fitted under 'auto' is reused on any device: name one to insist.",
    )
    validation_fraction: float = Field(
        0.1,
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
    """

    def build(directory: Path) -> Metadata:
        import pandas as pd

        from cf_pipeline.recommender import distillation, gradient_descent, plots
        from cf_pipeline.recommender.features import SideFeatures
        from cf_pipeline.recommender.fits import resolve_device
        from cf_pipeline.recommender.minibatches import EncodedRatings
        from cf_pipeline.recommender.splits import read_part
        from cf_pipeline.recommender.vocabulary import Vocabulary

        fit = distillation.fit if config.method == "gibbs" else gradient_descent.fit
        log = context.log.info
        known_users = Vocabulary.load(vocabularies.path("user_vocabulary.parquet"))
        known_movies = Vocabulary.load(vocabularies.path("movie_vocabulary.parquet"))
        device = resolve_device(config.device, config.method)
        rows = read_part(train_test_split.path("train_test_split.parquet"), "train")
        train = EncodedRatings.of(rows, known_users, known_movies, device)
        side = SideFeatures.of(
            pd.read_parquet(users.path("users.parquet")),
            pd.read_parquet(movies.path("movies.parquet")),
            known_users,
            known_movies,
            device,
        )
        log(f"Fitting to {len(rows)} ratings on {device}.")
        fitted = fit(train, side, config, log=log)
        fitted.model.save(directory, known_users, known_movies)
        if fitted.posterior:
            fitted.posterior.save(directory)
        log("Fitting once more without the validation part, for the learning curve.")
        rest, validation = train.carve(config.validation_fraction, config.seed)
        progress = fit(rest, side, config, validation, log).progress
        (directory / "learning_curve.json").write_text(json.dumps(progress), encoding="utf-8")
        pictures = {"learning_curve": plots.learning_curve(progress)}
        if config.method == "gibbs":
            pictures["sampler_trace"] = plots.sampler_trace(progress)
        return {
            "method": config.method,
            "device": str(device),
            "n_factors": config.n_factors,
            "train_seconds": fitted.seconds,
            "validation_rmse": progress[-1]["validation_rmse"],
            "progress": table_of(progress[:: -max(1, len(progress) // ROWS_TO_SHOW)][::-1]),
            **{name: picture(png, name.replace("_", " ")) for name, png in pictures.items()},
        }

    # The other method's settings decide nothing.
    read = GibbsSettings if config.method == "gibbs" else GradientDescentSettings
    return artifacts.materialize(
        context,
        build,
        [train_test_split, vocabularies, movies, users],
        config.model_dump(include={"method", "device", "validation_fraction", *read.model_fields}),
    )
