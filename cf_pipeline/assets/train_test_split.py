"""The ratings, each with the part it belongs to."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import dagster as dg
from pydantic import Field

from cf_pipeline.artifacts import Artifact
from cf_pipeline.caching import Artifacts, Metadata
from cf_pipeline.code_version import code_version
from cf_pipeline.columns import PART_COLUMNS
from cf_pipeline.deployment import DEPLOYMENT
from cf_pipeline.metadata import describe_table

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


class TrainTestSplitConfig(dg.Config):
    """How the test part is chosen.

    Where ratings arrive, by CF_PIPELINE_RATINGS, the default is each user's last k: at a later time
    these are no training rows of an earlier model, but for who had k ratings or fewer then: these
    are all in the training part.
    """

    strategy: Literal["fold", "random", "leave_k_out", "temporal"] = Field(
        "temporal" if DEPLOYMENT.ratings else "fold",
        description="'fold': an official fold; 'random': test_fraction of all ratings; "
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
    config: TrainTestSplitConfig,
    ratings: Artifact,
) -> dg.MaterializeResult[Artifact]:
    """The ratings in the archive's order, each in the part `train` or `test`."""

    def build(directory: Path) -> Metadata:
        import pyarrow.parquet as pq

        from cf_pipeline.recommender import splits
        from cf_pipeline.recommender.validation import check_ratings

        table = pq.read_table(ratings.path("ratings.parquet"))
        frame = table.to_pandas()
        # The blocking checks guard their own run only; here no run can pass them by.
        check_ratings(frame)
        in_test = choose_test_part(frame, config)
        parts = splits.with_settings(splits.with_part(table, in_test), settings)
        pq.write_table(parts, directory / "train_test_split.parquet")
        train, test = frame[~in_test], frame[in_test]
        return {
            "strategy": config.strategy,
            **describe_table(parts, PART_COLUMNS),
            "train_rows": len(train),
            "test_rows": len(test),
            "cold_users_in_test": int((~test["user"].drop_duplicates().isin(train["user"])).sum()),
            "cold_movies_in_test": int(
                (~test["movie"].drop_duplicates().isin(train["movie"])).sum()
            ),
        }

    read = {
        "strategy",
        *SETTINGS[config.strategy, config.cut if config.strategy == "temporal" else None],
    }  # the others decide nothing
    settings = config.model_dump(include=read)
    return artifacts.materialize(context, build, [ratings], settings)


def choose_test_part(ratings: "pd.DataFrame", config: TrainTestSplitConfig) -> "np.ndarray":
    """Return a boolean mask (n_ratings,), true where a rating is in the test part."""
    from cf_pipeline.recommender import splits

    match config.strategy:
        case "fold":
            return splits.official_fold(ratings, config.fold)
        case "random":
            return splits.random_split(ratings, config.test_fraction, config.seed)
        case "leave_k_out":
            return splits.leave_k_out(ratings, config.k, config.seed)
        case "temporal" if config.cut == "global":
            return splits.temporal_split(ratings, config.test_fraction)
        case "temporal":
            return splits.last_k_per_user(ratings, config.k)
