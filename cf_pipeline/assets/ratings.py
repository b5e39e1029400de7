"""The tables of the archive as parquet: ratings, and what is known of the movies and users."""

from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from cf_pipeline.artifacts import Artifact
from cf_pipeline.caching import Artifacts, Metadata
from cf_pipeline.code_version import code_version
from cf_pipeline.columns import MOVIE_COLUMNS, RATING_COLUMNS, USER_COLUMNS
from cf_pipeline.compute import Compute, nodes_of
from cf_pipeline.metadata import describe_parquet, describe_table

if TYPE_CHECKING:
    import pyarrow as pa


@dg.asset(
    group_name="data",
    kinds={"parquet"},
    io_manager_key="artifacts",
    code_version=code_version(__name__),
)
def ratings(
    context: dg.AssetExecutionContext,
    artifacts: dg.ResourceParam[Artifacts],
    compute: Compute,
    movielens_archive: Artifact,
) -> dg.MaterializeResult[Artifact]:
    """Every rating in the archive's order: who rated which movie how, and when."""

    def build(directory: Path) -> Metadata:
        from cf_pipeline.recommender.archive_tables import open_ratings
        from cf_pipeline.recommender.ingest import write_table

        executor = compute.start(context)
        opened = open_ratings(movielens_archive.verified(), executor)
        files, summary = write_table(opened, directory, context.log.info, executor)
        return {
            "dataset": opened.origin.dataset,
            **describe_parquet(files, RATING_COLUMNS),
            **summary.figures(),
            **nodes_of(executor),
        }

    return artifacts.materialize(context, build, [movielens_archive])


@dg.asset(
    group_name="data",
    kinds={"parquet"},
    io_manager_key="artifacts",
    code_version=code_version(__name__),
)
def movies(
    context: dg.AssetExecutionContext,
    artifacts: dg.ResourceParam[Artifacts],
    compute: Compute,
    movielens_archive: Artifact,
) -> dg.MaterializeResult[Artifact]:
    """Every movie's title, release and genres."""

    def build(directory: Path) -> Metadata:
        from cf_pipeline.recommender.archive_tables import read_movies

        executor = compute.start(context)
        table = read_movies(movielens_archive.verified(), executor)
        _write(table, directory / "movies.parquet")
        return {
            **describe_table(table, MOVIE_COLUMNS),
            **_lacking(movielens_archive, "movies"),
            **nodes_of(executor),
        }

    return artifacts.materialize(context, build, [movielens_archive])


@dg.asset(
    group_name="data",
    kinds={"parquet"},
    io_manager_key="artifacts",
    code_version=code_version(__name__),
)
def users(
    context: dg.AssetExecutionContext,
    artifacts: dg.ResourceParam[Artifacts],
    compute: Compute,
    movielens_archive: Artifact,
) -> dg.MaterializeResult[Artifact]:
    """Every user's age, gender, occupation and zip code."""

    def build(directory: Path) -> Metadata:
        from cf_pipeline.recommender.archive_tables import read_users

        executor = compute.start(context)
        table = read_users(movielens_archive.verified(), executor)
        _write(table, directory / "users.parquet")
        return {
            **describe_table(table, USER_COLUMNS),
            **_lacking(movielens_archive, "users"),
            **nodes_of(executor),
        }

    return artifacts.materialize(context, build, [movielens_archive])


def _write(table: "pa.Table", path: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, path)


def _lacking(archive: Artifact, table: str) -> dict[str, str]:
    from cf_pipeline.recommender.archive_tables import lacking_fields

    fields = lacking_fields(archive.directory).get(table, [])
    return {"fields_the_source_lacks": ", ".join(fields) or "none"}
