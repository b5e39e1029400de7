"""Lists for people: the best movies for every user, and the movies most like every movie."""

from pathlib import Path

import dagster as dg

from cf_pipeline.artifacts import Artifact
from cf_pipeline.caching import Artifacts, Metadata
from cf_pipeline.champion import Champions
from cf_pipeline.code_version import code_version
from cf_pipeline.metadata import describe_parquet, picture

SEQUEL_RANK = "rank_of_the_empire_strikes_back_for_star_wars"


@dg.asset(
    group_name="recommendations",
    kinds={"parquet"},
    io_manager_key="artifacts",
    code_version=code_version(__name__),
)
def recommendations(
    context: dg.AssetExecutionContext,
    artifacts: dg.ResourceParam[Artifacts],
    served_model: Artifact,
) -> dg.MaterializeResult[Artifact]:
    """The best 20 unseen movies for every user, with the reasons.

    What a user has rated is left out. Users without a rating get what people of the same age,
    gender and occupation watch, or everybody.
    """
    champions = Champions(artifacts.store, context.log.info)
    champions.refuse_other("recommendations", served_model.inputs["champion_model"])

    def build(directory: Path) -> Metadata:
        import pandas as pd
        import pyarrow.parquet as pq

        from cf_pipeline.recommender import ranking_plots
        from cf_pipeline.recommender.posterior import Posterior
        from cf_pipeline.recommender.recommendations import (
            RECOMMENDATION_COLUMNS,
            lists_of_each_movie,
            recommendation_tables,
            write_tables,
        )
        from cf_pipeline.recommender.serving import Recommender

        folder = served_model.verified()
        recommender = Recommender.load(folder)
        posterior: Posterior | None = None
        if "posterior.safetensors" in served_model.files:
            posterior = Posterior.load(folder)
        path = directory / "recommendations.parquet"
        user_table = pd.read_parquet(folder / "users.parquet")
        tables = recommendation_tables(recommender, posterior, user_table)
        write_tables(path, tables, context.log.info)
        listed = lists_of_each_movie(path, recommender)
        of_user = pq.read_table(path, columns=["user"])["user"].unique().to_pandas()
        shown: dict[str, object] = {
            **describe_parquet([path], RECOMMENDATION_COLUMNS),
            "users": len(of_user),
            "users_without_ratings": int((recommender.users.encode(of_user) == 0).sum()),
            "movies_listed": int((listed > 0).sum()),
            "share_of_movies_listed": float((listed > 0).mean()),
        }
        if listed.any():
            png = ranking_plots.coverage(recommender.counts[1:].numpy(), listed)
            shown["coverage"] = picture(png, "coverage")
        return shown

    return artifacts.materialize(context, build, [served_model])


@dg.asset(
    group_name="recommendations",
    kinds={"parquet"},
    io_manager_key="artifacts",
    code_version=code_version(__name__),
)
def similar_movies(
    context: dg.AssetExecutionContext,
    artifacts: dg.ResourceParam[Artifacts],
    served_model: Artifact,
) -> dg.MaterializeResult[Artifact]:
    """The 20 movies most like each movie: liked and disliked by the same people.

    Movies are alike by the cosine of the factor model's factors; of events, by that of the factors
    of who watched what.
    """
    champions = Champions(artifacts.store, context.log.info)
    champions.refuse_other("similar_movies", served_model.inputs["champion_model"])

    def build(directory: Path) -> Metadata:
        from cf_pipeline.recommender.recommendations import (
            SIMILAR_COLUMNS,
            sequel_rank,
            similar_tables,
            write_tables,
        )
        from cf_pipeline.recommender.serving import Recommender

        recommender = Recommender.load(served_model.verified())
        path = directory / "similar_movies.parquet"
        write_tables(path, similar_tables(recommender), context.log.info)
        rank = sequel_rank(recommender)
        return {
            **describe_parquet([path], SIMILAR_COLUMNS),
            "movies": len(recommender.movies) - 1,
            **({} if rank is None else {SEQUEL_RANK: rank}),
        }

    return artifacts.materialize(context, build, [served_model])
