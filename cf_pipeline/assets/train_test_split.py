"""The ratings, each with the part it belongs to."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import dagster as dg
from pydantic import Field

from cf_pipeline.artifacts import Artifact
from cf_pipeline.caching import Artifacts, Metadata
from cf_pipeline.code_version import code_version
from cf_pipeline.columns import PART_COLUMNS
from cf_pipeline.compute import Compute, nodes_of
from cf_pipeline.deployment import DEPLOYMENT
from cf_pipeline.metadata import describe_parquet
from cf_pipeline.recommender.datasets import UNTIMED
from cf_pipeline.recommender.settings import WITH_FOLDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np


AUTO = (
    "'temporal', or without timestamps 'leave_k_out'"
    if DEPLOYMENT.ratings
    else "'fold' for MovieLens 100k, else 'random'"
)


class TrainTestSplitConfig(dg.Config):
    """How the test part is chosen.

    'auto' is the official fold of MovieLens 100k, and a random fifth of any other data set. Where
    ratings arrive, by CF_PIPELINE_RATINGS, it is each user's last k: at a later time these are no
    training rows of an earlier model, but for who had k ratings or fewer then: these are all in the
    training part. Where a rating has no timestamp, it is k random ones of each user.
    """

    strategy: Literal["auto", "fold", "random", "leave_k_out", "temporal"] = Field(
        "auto",
        description=f"'auto': {AUTO}"
        "; 'fold': an official fold of MovieLens 100k; 'random': test_fraction of all ratings; "
        "'leave_k_out': k random ratings of each user; 'temporal': the latest ratings, by `cut`.",
    )
    fold: Literal["u1", "u2", "u3", "u4", "u5", "ua", "ub"] = Field(
        "u1", description="The official fold; for 'fold'."
    )
    test_fraction: float = Field(
        0.2, gt=0, lt=1, description="Share to test on; for 'random' and 'temporal' cut 'global'."
    )
    k: int = Field(
        10,
        gt=0,
        description="Ratings of each user to test on; for 'leave_k_out' and 'temporal' cut "
        "'per_user'.",
    )
    cut: Literal["global", "per_user"] = Field(
        "per_user" if DEPLOYMENT.ratings else "global",
        description="Test on the last test_fraction of all ratings, or on each user's last k; for "
        "'temporal'.",
    )
    seed: int = Field(0, ge=0, description="For 'random' and 'leave_k_out'.")


# The settings that each strategy, by its cut, reads.
SETTINGS = {
    ("fold", None): {"fold"},
    ("random", None): {"test_fraction", "seed"},
    ("leave_k_out", None): {"k", "seed"},
    ("temporal", "global"): {"cut", "test_fraction"},
    ("temporal", "per_user"): {"cut", "k"},
}


@dg.asset(
    group_name="data",
    kinds={"parquet"},
    io_manager_key="artifacts",
    code_version=code_version(__name__),
)
def train_test_split(
    context: dg.AssetExecutionContext,
    artifacts: dg.ResourceParam[Artifacts],
    compute: Compute,
    config: TrainTestSplitConfig,
    ratings: Artifact,
) -> dg.MaterializeResult[Artifact]:
    """The ratings in the archive's order, each in the part `train` or `test`."""
    dataset = str(ratings.metadata.get("dataset", WITH_FOLDS))
    # One result, whether the strategy was chosen or named.
    timed = UNTIMED not in ratings.metadata
    strategy = resolve_strategy(config.strategy, dataset, timed)
    chosen = config.model_copy(update={"strategy": strategy})

    def build(directory: Path) -> Metadata:
        import pyarrow.compute as pc

        from cf_pipeline.recommender.encoding import distinct_ids
        from cf_pipeline.recommender.rating_checks import check_ratings_files
        from cf_pipeline.recommender.split_files import PARTS, write_split
        from cf_pipeline.recommender.table_files import RATINGS, table_files

        executor, source = compute.start(context), table_files(ratings.verified(), RATINGS)
        # The blocking checks guard their own run only; here no run can pass them by.
        check_ratings_files(source, executor)
        in_test = choose_test_part(source, chosen)
        files = write_split(source, in_test, settings, directory, executor)
        train, test = (distinct_ids(files, part, executor) for part in PARTS)
        cold_users, cold_movies = (
            pc.invert(pc.is_in(tested, trained)).true_count
            for tested, trained in zip(test, train, strict=True)
        )
        return {
            "dataset": dataset,
            "strategy": chosen.strategy,
            **describe_parquet(files, PART_COLUMNS),
            "train_rows": int((~in_test).sum()),
            "test_rows": int(in_test.sum()),
            "cold_users_in_test": cold_users,
            "cold_movies_in_test": cold_movies,
            **nodes_of(executor),
        }

    cut = chosen.cut if chosen.strategy == "temporal" else None
    # The others decide nothing.
    settings = chosen.model_dump(include={"strategy", *SETTINGS[chosen.strategy, cut]})
    return artifacts.materialize(context, build, [ratings], settings)


def resolve_strategy(strategy: str, dataset: str, timed: bool) -> str:
    """Return the strategy by which a data set is parted, what 'auto' stands for included.

    `timed` says whether every rating has a timestamp.

    Raises:
        dagster.Failure: it has no official folds.
    """
    if strategy == "auto" and DEPLOYMENT.ratings:
        return "temporal" if timed else "leave_k_out"
    if strategy == "auto":
        return "fold" if dataset == WITH_FOLDS else "random"
    if strategy == "fold" and dataset != WITH_FOLDS:
        raise dg.Failure(
            f"The ratings are of {dataset}, and only {WITH_FOLDS} has official folds: choose the "
            "strategy 'random', 'leave_k_out' or 'temporal'.",
            allow_retries=False,
        )
    return strategy


def choose_test_part(files: "Sequence[Path]", config: TrainTestSplitConfig) -> "np.ndarray":
    """Return a boolean mask (n_ratings,), true where a rating is in the test part.

    Only the columns that the strategy goes by are read.
    """
    import pandas as pd

    from cf_pipeline.recommender import splits
    from cf_pipeline.recommender.split_files import read_ratings
    from cf_pipeline.recommender.table_files import n_rows

    rows = pd.DataFrame(index=pd.RangeIndex(n_rows(files)))
    match config.strategy:
        case "fold":
            if config.fold in ("ua", "ub"):
                rows = read_ratings(files, ["user"])
            return splits.official_fold(rows, config.fold)
        case "random":
            return splits.random_split(rows, config.test_fraction, config.seed)
        case "leave_k_out":
            return splits.leave_k_out(read_ratings(files, ["user"]), config.k, config.seed)
        case "temporal" if config.cut == "global":
            return splits.temporal_split(read_ratings(files, ["timestamp"]), config.test_fraction)
        case "temporal":
            return splits.last_k_per_user(read_ratings(files, ["user", "timestamp"]), config.k)
    raise ValueError(f"There is no strategy {config.strategy!r}.")
