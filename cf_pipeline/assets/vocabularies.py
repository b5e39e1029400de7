"""Raw ids and the indices the model knows them by."""

from pathlib import Path

import dagster as dg

from cf_pipeline.artifacts import Artifact
from cf_pipeline.caching import Artifacts, Metadata
from cf_pipeline.code_version import code_version
from cf_pipeline.columns import VOCABULARY_COLUMNS
from cf_pipeline.compute import Compute, nodes_of
from cf_pipeline.metadata import describe_parquet


@dg.asset(
    group_name="data",
    kinds={"parquet"},
    io_manager_key="artifacts",
    code_version=code_version(__name__),
)
def vocabularies(
    context: dg.AssetExecutionContext,
    artifacts: dg.ResourceParam[Artifacts],
    compute: Compute,
    train_test_split: Artifact,
) -> dg.MaterializeResult[Artifact]:
    """The users and movies of the training part, sorted by id; row 0 is `#na#`, the unknown.

    An id's row is its index. An id that only the test part has is not in here, so nothing of the
    test part reaches the model. Beside them are the ratings of both parts as these indices, in
    files that what comes after maps into memory.
    """

    def build(directory: Path) -> Metadata:
        from cf_pipeline.recommender.encoding import distinct_ids, encode_split
        from cf_pipeline.recommender.table_files import SPLIT, table_files

        executor, split = compute.start(context), table_files(train_test_split.verified(), SPLIT)
        users, movies = distinct_ids(split, "train", executor).vocabularies()
        users.save(directory / "user_vocabulary.parquet")
        movies.save(directory / "movie_vocabulary.parquet")
        encode_split(split, users, movies, directory, executor)
        of_either = describe_parquet([directory / "movie_vocabulary.parquet"], VOCABULARY_COLUMNS)
        n_bytes = sum(path.stat().st_size for path in directory.iterdir())
        return {
            "dagster/column_schema": of_either["dagster/column_schema"],
            "users": len(users),
            "movies": len(movies),
            "first_users": ", ".join(map(str, users.decode(range(min(5, len(users)))))),
            "first_movies": ", ".join(map(str, movies.decode(range(min(5, len(movies)))))),
            "megabytes": n_bytes / 1e6,
            **nodes_of(executor),
        }

    return artifacts.materialize(context, build, [train_test_split])
