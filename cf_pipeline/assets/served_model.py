"""The champion, fitted once more to every rating: what lists are made with."""

import json
import time
from dataclasses import replace
from pathlib import Path

import dagster as dg

from cf_pipeline.artifacts import Artifact
from cf_pipeline.caching import Artifacts, Metadata
from cf_pipeline.champion import Champions, fits_of_today
from cf_pipeline.code_version import code_version
from cf_pipeline.compute import Compute, nodes_of
from cf_pipeline.devices import training_on
from cf_pipeline.metadata import rows_of, table_of
from cf_pipeline.recommender.settings import FactorModelSettings, FitSettings
from cf_pipeline.store_layout import scratch_of
from cf_pipeline.training_part import TrainingPart

ROWS_TO_SHOW = 5


class ServedModelConfig(FitSettings, dg.Config):
    """What the champion's settings leave open: they say all that decides what comes out."""


@dg.asset(
    group_name="recommendations",
    kinds={"pytorch"},
    io_manager_key="artifacts",
    code_version=code_version(__name__),
)
def served_model(
    context: dg.AssetExecutionContext,
    artifacts: dg.ResourceParam[Artifacts],
    compute: Compute,
    config: ServedModelConfig,
    champion_model: Artifact,
) -> dg.MaterializeResult[Artifact]:
    """The champion, fitted with the same settings to its test part too.

    It is what people are shown, and is never judged: there is nothing left that it has not seen.
    The gate has judged the same settings without the test part.

    If the code of the fits was edited since the champion was judged, what was fitted before is
    served: the gate has not let the new code through yet.

    The folder holds all it takes to recommend: `Recommender.load(folder).recommend(user)`.
    """
    began = time.monotonic()
    champions = Champions(artifacts.store, context.log.info)
    champions.refuse_other("served_model", champion_model.data_version)
    champion = champions.champion()
    if champion and champion.made_by != fits_of_today():
        served = champions.served(champion, context.log.warning)
        if served is None:
            raise dg.Failure(
                "The code of the fits was edited since the champion was judged, so a fit by it was "
                "never judged, and none by the earlier code is in this store: materialize "
                "everything, and the gate judges the new code, or bring the earlier code back.",
                allow_retries=False,
            )
        context.log.info("Serving the fit by the code that the gate has judged.")
        return artifacts.result(context, served, True, time.monotonic() - began)

    def build(directory: Path) -> Metadata:
        import pandas as pd

        from cf_pipeline.recommender.encoding import distinct_ids, encode_whole
        from cf_pipeline.recommender.methods import by_blocks, device_for, fit
        from cf_pipeline.recommender.minibatches import EncodedRatings
        from cf_pipeline.recommender.ranking_fit import refit
        from cf_pipeline.recommender.ranking_model import RankingModel
        from cf_pipeline.recommender.rating_history import History
        from cf_pipeline.recommender.serving import Recommender
        from cf_pipeline.recommender.table_files import SPLIT, table_files

        folder = champion_model.verified()
        split = table_files(folder, SPLIT)
        side_tables = (
            pd.read_parquet(folder / "users.parquet"),
            pd.read_parquet(folder / "movies.parquet"),
        )
        scratch = scratch_of(directory)
        counting = compute.start(context)
        known = distinct_ids(split, executor=counting).vocabularies()
        settings = json.loads((folder / "settings.json").read_bytes())
        how = {name: getattr(config, name) for name in FitSettings.model_fields}
        method = FactorModelSettings.model_validate(settings | how)
        executor = compute.start_fit(context, by_blocks(method), settings["device"])
        device = device_for(method, settings["device"], executor)
        with training_on(device, context.log.info):
            encode_whole(split, *known, scratch)
            ratings = EncodedRatings.load(scratch, "whole", device)
            part = TrainingPart.of(ratings, known, side_tables)
            context.log.info(
                f"Fitting to all {len(ratings.ratings)} ratings on {executor.works_on(device)}."
            )
            log = context.log.info
            fitted = fit(
                part.ratings, part.side, method, None, log, executor, scratch / "factor_model"
            )
            fitted.model.vocabularies = known
            judged = RankingModel.load(folder, device)
            judged = replace(judged, settings=judged.settings.model_copy(update=how))
            model = refit(judged, part.ratings, part.side, fitted.model, executor)
        history = History.of(part.ratings, part.users, part.movies)
        Recommender(model, part.titles, history).save(directory)
        if fitted.posterior:
            fitted.posterior.save(directory)
        for name in ("users.parquet", "movies.parquet"):
            (directory / name).write_bytes((folder / name).read_bytes())
        # Somebody may have decided meanwhile.
        champions.refuse_other("served_model", champion_model.data_version)

        someone = part.users.decode([1])[0]
        shown = Recommender.load(directory).recommend(someone, ROWS_TO_SHOW)
        return {
            "device": executor.works_on(device),
            "ratings": len(ratings.ratings),
            "users": len(part.users) - 1,
            "movies": len(part.movies) - 1,
            "train_seconds": fitted.seconds,
            **nodes_of(counting),
            **({f"list_of_user_{someone}": table_of(rows_of(shown))} if len(shown) else {}),
        }

    return artifacts.materialize(context, build, [champion_model])
