"""How well the model predicts ratings it has not seen."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from cf_pipeline.artifacts import Artifact
from cf_pipeline.caching import Artifacts, Metadata
from cf_pipeline.code_version import code_version
from cf_pipeline.compute import Compute, nodes_of
from cf_pipeline.metadata import picture, table_of

if TYPE_CHECKING:
    from cf_pipeline.recommender.executors import Executor
    from cf_pipeline.recommender.metrics import Errors
    from cf_pipeline.recommender.minibatches import EncodedRatings

NONE_TO_PREDICT = (
    "All training ratings are alike, so there are none to predict, and none tells what was liked: "
    "what counts is how well lists find what users went on to."
)


@dg.asset(
    group_name="evaluation",
    kinds={"json"},
    io_manager_key="artifacts",
    code_version=code_version(__name__),
)
def evaluation_metrics(
    context: dg.AssetExecutionContext,
    artifacts: dg.ResourceParam[Artifacts],
    compute: Compute,
    train_test_split: Artifact,
    vocabularies: Artifact,
    factor_model: Artifact,
    ranking_model: Artifact,
    movies: Artifact,
    users: Artifact,
) -> dg.MaterializeResult[Artifact]:
    """Errors on the test part, and how well lists find it, beside simple baselines.

    Lists are judged by what each user went on to rate, which `ndcg_at_10` and the figures beside it
    count, and by what they liked: 4 stars or more, or three quarters up another rating scale. Where
    all ratings of the training part are alike, lists alone tell. Of a factor model that has samples
    of its posterior (method `gibbs`), also whether its uncertainty can be trusted, and what its
    side features say of users and movies without a training rating. The pictures open behind
    "[Show Markdown]".
    """

    def build(directory: Path) -> Metadata:
        import numpy as np

        from cf_pipeline.recommender import metrics, plots
        from cf_pipeline.recommender.factor_model import FactorModel
        from cf_pipeline.recommender.minibatches import EncodedRatings
        from cf_pipeline.recommender.predictions import predict_indices

        encoded = vocabularies.verified()
        train, test = EncodedRatings.load(encoded, "train"), EncodedRatings.load(encoded, "test")
        model = FactorModel.load(factor_model.verified())
        executor = compute.start(context)
        unclamped = predict_indices(model, test, executor).numpy()
        scale = model.rating_scale
        report = metrics.evaluate(train, test, unclamped, scale)
        predicted = np.clip(unclamped, *scale)
        judged = {"rating_scale": list(scale), **asdict(report)}
        uncertainty: Metadata = {}
        if "posterior.safetensors" in factor_model.files:
            judged["posterior"], uncertainty = judge_posterior(
                factor_model, train_test_split, test, users, movies
            )
        judged["ranking"], ranking = judge_lists(ranking_model, train, test, executor)
        text = json.dumps(judged, indent=1)
        (directory / "evaluation_metrics.json").write_text(text, encoding="utf-8")

        actual = test.ratings.numpy()
        figures = {"rmse": report.rmse, "mae": report.mae, "test_rows": report.n_test}
        if scale.is_constant:
            return {
                **figures,
                "remark": NONE_TO_PREDICT,
                **ranking,
                **nodes_of(executor),
            }
        errors, model_errors = predicted - actual, metrics.errors_of(actual, predicted)
        activity = metrics.training_ratings(train.users, test.users)
        progress = json.loads(factor_model.path("learning_curve.json").read_bytes())
        baselines = {name: of.rmse for name, of in report.baselines.items() if of.rmse is not None}
        pictures = {
            "rmse_beside_baselines": plots.rmse_beside_baselines(report.rmse, baselines),
            "learning_curve": plots.learning_curve(progress),
            "predicted_against_actual": plots.predicted_against_actual(actual, predicted),
            "error_histogram": plots.error_histogram(errors, scale.star),
            "residual_by_user_activity": plots.residual_by_user_activity(activity, errors),
        }
        return {
            **figures,
            **{name: picture(png, name.replace("_", " ")) for name, png in pictures.items()},
            "baselines": _table("method", {"factor_model": model_errors, **report.baselines}),
            "cold_pairs": _table("pairs", {"warm": report.warm, "cold": report.cold}),
            "rmse_by_training_ratings": _table(
                "ratings_of_the_user", report.by_user_training_ratings
            ),
            "rmse_by_movie_training_ratings": _table(
                "ratings_of_the_movie", report.by_movie_training_ratings
            ),
            **ranking,
            **uncertainty,
            **nodes_of(executor),
        }

    inputs = [train_test_split, vocabularies, factor_model, ranking_model, movies, users]
    return artifacts.materialize(context, build, inputs)


def judge_lists(
    ranking_model: Artifact,
    train: "EncodedRatings",
    test: "EncodedRatings",
    executor: "Executor",
) -> tuple[dict[str, object], Metadata]:
    """Return what to write and what to show of lists by the model, and by simpler orders."""
    from cf_pipeline.recommender import ranking_plots
    from cf_pipeline.recommender.list_quality import judge
    from cf_pipeline.recommender.ranking_model import RankingModel, orders

    by = orders(RankingModel.load(ranking_model.verified()), train)
    judged = {name: judge(*order, train, test, executor) for name, order in by.items()}
    written: dict[str, object] = {
        name: {counted: of and asdict(of) for counted, of in reports._asdict().items()}
        for name, reports in judged.items()
    }
    shown: dict[str, object] = {}
    rows = [
        {"ordered_by": name, "counted": counted, **asdict(report)}
        for counted in ("all", "liked")
        for name, reports in judged.items()
        if (report := getattr(reports, counted))
    ]
    ours = judged["ranking_model"]
    if ours.all:
        figures = asdict(ours.all)
        figures["catalogue_coverage"] = figures.pop("coverage")
        figures["ranked_users"] = figures.pop("n_users")
        shown |= {**figures, "ranking": table_of(rows)}
        ndcg = {name: reports.all.ndcg_at_10 for name, reports in judged.items() if reports.all}
        png = ranking_plots.ranking_beside_baselines(ndcg)
        shown["ranking_beside_baselines"] = picture(png, "ranking beside baselines")
    if ours.liked:
        shown["ndcg_at_10_liked"] = ours.liked.ndcg_at_10
    return written, shown


def judge_posterior(
    factor_model: Artifact,
    train_test_split: Artifact,
    test: "EncodedRatings",
    users: Artifact,
    movies: Artifact,
) -> tuple[dict[str, object], Metadata]:
    """Return what to write and what to show of the posterior's predictions of the test part."""
    import pandas as pd

    from cf_pipeline.recommender import cold_start, metrics, plots, uncertainty
    from cf_pipeline.recommender.posterior import Posterior
    from cf_pipeline.recommender.split_files import read_part
    from cf_pipeline.recommender.table_files import SPLIT, table_files
    from cf_pipeline.recommender.vocabulary import Vocabulary

    folder = factor_model.verified()
    known = (
        Vocabulary.load(folder / "user_vocabulary.parquet"),
        Vocabulary.load(folder / "movie_vocabulary.parquet"),
    )
    posterior = Posterior.load(folder)
    # Who is in a side table only is known by the raw id.
    split = table_files(train_test_split.verified(), SPLIT)
    pairs = read_part(split, "test", ["user", "movie"])
    side_tables = (
        pd.read_parquet(users.path("users.parquet")),
        pd.read_parquet(movies.path("movies.parquet")),
    )
    predicted = cold_start.predict(posterior, pairs, *known, *side_tables)
    actual = test.ratings
    report = uncertainty.evaluate(actual, predicted, posterior.levels)
    warm = (test.users > 0) & (test.items > 0)
    errors = {
        "warm": metrics.errors_of(actual[warm].numpy(), predicted.mean[warm].numpy()),
        "cold": metrics.errors_of(actual[~warm].numpy(), predicted.mean[~warm].numpy()),
    }
    written = asdict(report) | {name: asdict(of) for name, of in errors.items()}
    shown = {
        "posterior_rmse": metrics.rmse(actual.numpy(), predicted.mean.numpy()),
        "cold_pairs_by_side_features": _table("pairs", errors),
        **{f"coverage_of_{name[:-1]}_percent": of for name, of in report.coverage.items()},
        "negative_log_likelihood": report.negative_log_likelihood,
        "calibration_error": report.calibration_error,
        "calibration": picture(plots.calibration(report.calibration), "calibration"),
        "rmse_by_uncertainty": picture(
            plots.rmse_by_uncertainty(report.by_uncertainty), "rmse by uncertainty"
        ),
    }
    return written, shown


def _table(of: str, errors: Mapping[str, "Errors"]) -> dg.TableMetadataValue:
    return table_of([{of: name, **asdict(error)} for name, error in errors.items() if error.count])
