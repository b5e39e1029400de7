"""The model that lists are made with, fitted to the training part."""

import json
from pathlib import Path

import dagster as dg
from pydantic import Field

from cf_pipeline.artifacts import Artifact
from cf_pipeline.assets.factor_model import WITHOUT_VALIDATION
from cf_pipeline.caching import Artifacts, Metadata
from cf_pipeline.code_version import code_version
from cf_pipeline.compute import Compute, nodes_of
from cf_pipeline.devices import training_on
from cf_pipeline.metadata import picture, rows_of, table_of
from cf_pipeline.recommender.settings import RankingSettings
from cf_pipeline.store_layout import scratch_of
from cf_pipeline.training_part import load_training_part

ROWS_TO_SHOW = 5


class RankingModelConfig(RankingSettings, dg.Config):
    """How what people choose to watch is learnt, and where."""

    device: str = Field("auto", description="As of factor_model.")


@dg.asset(
    group_name="model",
    kinds={"pytorch"},
    io_manager_key="artifacts",
    code_version=code_version(__name__),
)
def ranking_model(
    context: dg.AssetExecutionContext,
    artifacts: dg.ResourceParam[Artifacts],
    compute: Compute,
    config: RankingModelConfig,
    train_test_split: Artifact,
    vocabularies: Artifact,
    factor_model: Artifact,
    movies: Artifact,
    users: Artifact,
) -> dg.MaterializeResult[Artifact]:
    """What people choose to watch, and how they like it: factors that order lists.

    A score is user factors · movie factors, of implicit alternating least squares, and a weight
    times what the factor model says; the weight is chosen on the rows that `factor_model` set aside
    for its learning curve, and 0 where all ratings are alike.

    The folder holds all it takes to recommend: `Recommender.load(folder).recommend(user)`. Of the
    test part it knows who rated what, to leave it out of lists, but not the stars.
    """

    def build(directory: Path) -> Metadata:
        from cf_pipeline.recommender import ranking_plots
        from cf_pipeline.recommender.factor_model import FactorModel
        from cf_pipeline.recommender.fits import resolve_device
        from cf_pipeline.recommender.ranking_fit import fit
        from cf_pipeline.recommender.rating_history import History
        from cf_pipeline.recommender.serving import Recommender
        from cf_pipeline.recommender.split_files import read_part
        from cf_pipeline.recommender.table_files import SPLIT, table_files

        executor, scratch = compute.start(context, config.device), scratch_of(directory)
        device = resolve_device(config.device, sparse=True, executor=executor)
        folder = factor_model.verified()
        of_factor_model = json.loads((folder / "settings.json").read_bytes())
        carve = of_factor_model["validation_fraction"], of_factor_model["seed"]
        with training_on(device, context.log.info):
            part = load_training_part(vocabularies, movies, users, device)
            fitted = fit(
                part.ratings,
                part.side,
                FactorModel.load(folder, device),
                config,
                *part.ratings.carve_into(scratch, *carve),
                FactorModel.load(folder, device, WITHOUT_VALIDATION),
                context.log.info,
                executor,
                scratch,
            )
        split = table_files(train_test_split.verified(), SPLIT)
        test = read_part(split, "test", ["user", "movie"])
        history = History.of(part.ratings, part.users, part.movies, test)
        Recommender(fitted.model, part.titles, history).save(directory)

        recommender = Recommender.load(directory)
        someone = part.users.decode([1])[0]
        shown = recommender.recommend(someone, ROWS_TO_SHOW)
        weights = [
            {**row._asdict(), "chosen": row.weight == fitted.model.weight} for row in fitted.weights
        ]
        (directory / "weights.json").write_text(json.dumps(weights), encoding="utf-8")
        chosen = next(row for row in weights if row["chosen"])
        shown_of_weights: Metadata = {}
        if len(weights) > 1:  # or there was nothing to weigh
            png = ranking_plots.ndcg_by_weight(weights)
            shown_of_weights = {
                "validation_ndcg_at_10_liked": chosen["ndcg_liked"],
                "ndcg_by_weight": picture(png, "ndcg by weight"),
            }
        return {
            "device": executor.works_on(device),
            "n_factors": config.n_factors,
            "train_seconds": fitted.seconds,
            "weight_of_predicted_rating": fitted.model.weight,
            "validation_ndcg_at_10": chosen["ndcg_all"],
            **shown_of_weights,
            **nodes_of(executor),
            **({f"list_of_user_{someone}": table_of(rows_of(shown))} if len(shown) else {}),
        }

    inputs = [train_test_split, vocabularies, factor_model, movies, users]
    return artifacts.materialize(context, build, inputs, config.model_dump())
