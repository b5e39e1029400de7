"""Raw ids and the indices the model knows them by."""

from pathlib import Path

import dagster as dg

from cf_pipeline.artifacts import Artifact
from cf_pipeline.caching import Artifacts, Metadata
from cf_pipeline.code_version import code_version
from cf_pipeline.columns import VOCABULARY_COLUMNS
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
    train_test_split: Artifact,
) -> dg.MaterializeResult[Artifact]:
    """The users and movies of the training part, sorted by id; row 0 is `#na#`, the unknown.

    An id's row is its index. An id that only the test part has is not in here, so nothing of the
    test part reaches the model.
    """

    def build(directory: Path) -> Metadata:
        from cf_pipeline.recommender.splits import read_part
        from cf_pipeline.recommender.vocabulary import Vocabulary

        train = read_part(train_test_split.path("train_test_split.parquet"), "train")
        users, movies = Vocabulary.of(train["user"]), Vocabulary.of(train["movie"])
        users.save(directory / "user_vocabulary.parquet")
        movies.save(directory / "movie_vocabulary.parquet")
        of_either = describe_parquet(directory / "movie_vocabulary.parquet", VOCABULARY_COLUMNS)
        return {
            "dagster/column_schema": of_either["dagster/column_schema"],
            "users": len(users),
            "movies": len(movies),
            "first_users": ", ".join(map(str, users.decode(range(min(5, len(users)))))),
            "first_movies": ", ".join(map(str, movies.decode(range(min(5, len(movies)))))),
        }

    return artifacts.materialize(context, build, [train_test_split])
