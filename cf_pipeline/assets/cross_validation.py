"""The leaderboard: every method and baseline on the same folds."""

import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import dagster as dg
from pydantic import Field

from cf_pipeline.artifacts import Artifact
from cf_pipeline.caching import Artifacts, Metadata
from cf_pipeline.code_version import code_version
from cf_pipeline.devices import training_on
from cf_pipeline.metadata import picture, table_of
from cf_pipeline.recommender.settings import (
    PLAIN,
    WITH_FOLDS,
    GibbsSettings,
    GradientDescentSettings,
    MemorySettings,
    RankingSettings,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import torch

    from cf_pipeline.recommender.cross_validation import Score


NDCG = "ndcg_at_10"
GIBBS = {"gibbs": GibbsSettings(), "gibbs_ordinal": GibbsSettings(likelihood="ordinal")}
GRADIENT_DESCENT = {"gradient_descent": GradientDescentSettings(), "gradient_descent_plain": PLAIN}


class CrossValidationConfig(MemorySettings, dg.Config):
    """Which methods compete on which folds."""

    gibbs: bool = Field(True, description="Judge 'gibbs' with its default settings.")
    gibbs_ordinal: bool = Field(False, description="Judge 'gibbs' with the ordinal likelihood.")
    gradient_descent: bool = Field(True, description="Judge it with its default settings.")
    gradient_descent_plain: bool = Field(False, description="Judge it as in the lesson.")
    ranking_model: bool = Field(
        True, description="Judge lists by ranking_model, beside those by popularity."
    )
    folds: Literal["auto", "official", "random"] = Field(
        "auto",
        description="'official': u1 … u5 of MovieLens 100k; 'random': `n_folds` random ones; "
        "'auto': the official ones of MovieLens 100k, else random ones.",
    )
    n_folds: int = Field(5, gt=1, description="For 'random'.")
    seed: int = Field(0, ge=0, description="For 'random'.")
    device: str = Field("auto", description="As of factor_model.")


@dataclass(frozen=True)
class Contender:
    """A method or baseline: what judges it on a fold, and what its scores depend on.

    `device` is where it trains, None for what does not.
    """

    name: str
    score: "Callable[[pd.DataFrame, npt.NDArray[np.bool_]], Score]"
    source: str
    settings: Mapping[str, object]
    device: "torch.device | None" = None


@dg.asset(
    group_name="evaluation",
    kinds={"json"},
    io_manager_key="artifacts",
    code_version=code_version(__name__),
)
def cross_validation(
    context: dg.AssetExecutionContext,
    artifacts: dg.ResourceParam[Artifacts],
    config: CrossValidationConfig,
    ratings: Artifact,
    movies: Artifact,
    users: Artifact,
) -> dg.MaterializeResult[Artifact]:
    """The leaderboards: every method and baseline on the same folds.

    One is of predicted ratings, by RMSE, the other of lists, by NDCG@10 counting all that users
    went on to rate; both have the seconds of the fits.

    Each score is kept as soon as it is known: a killed run goes on from there, and an edit of one
    method has only its own folds judged again.
    """
    kind = resolve_folds(config.folds, str(ratings.metadata.get("dataset", WITH_FOLDS)))

    def build(directory: Path) -> Metadata:
        import pandas as pd

        from cf_pipeline.recommender.cross_validation import folds
        from cf_pipeline.recommender.rating_checks import check_ratings_files
        from cf_pipeline.recommender.split_files import read_ratings
        from cf_pipeline.recommender.table_files import RATINGS, table_files

        files = table_files(ratings.verified(), RATINGS)
        check_ratings_files(files)
        rows = read_ratings(files)
        side_tables = (
            pd.read_parquet(users.path("users.parquet")),
            pd.read_parquet(movies.path("movies.parquet")),
        )
        of_folds: dict[str, object] = {"folds": kind}  # the official ones read no more
        if kind == "random":
            of_folds |= {"n_folds": config.n_folds, "seed": config.seed}
        parts = folds(rows, kind, config.n_folds, config.seed)

        def score(contender: Contender, fold: str) -> "Score":
            def judge(into: Path) -> Metadata:
                device = contender.device
                with training_on(device, context.log.info) if device else nullcontext():
                    result = contender.score(rows, parts[fold])
                text = json.dumps(_without_seconds(result))
                (into / "score.json").write_text(text, encoding="utf-8")
                return {"seconds": result["seconds"]}  # no two fits take the same

            kept, _ = artifacts.part(
                f"cross_validation_scores/{contender.name}/{fold}",
                contender.source,
                [ratings, movies, users],
                judge,
                {
                    "contender": contender.name,
                    "settings": contender.settings,
                    "fold": fold,
                    **of_folds,
                    "device": config.device,
                },
            )
            figures = json.loads(kept.path("score.json").read_bytes())
            result: dict[str, float] = figures | {"seconds": kept.metadata["seconds"]}
            shown = ", ".join(f"{name} {value:.4f}" for name, value in result.items())
            context.log.info(f"{contender.name} on {fold}: {shown}")
            return result

        return report(
            directory,
            {
                contender.name: {fold: score(contender, fold) for fold in parts}
                for contender in contenders(config, *side_tables)
            },
        )

    settings = config.model_dump() | {"folds": kind}
    return artifacts.materialize(context, build, [ratings, movies, users], settings)


def resolve_folds(folds: str, dataset: str) -> Literal["official", "random"]:
    """Return which folds a data set has, what 'auto' stands for included.

    Raises:
        dagster.Failure: it has no official ones.
    """
    if folds == "official" and dataset != WITH_FOLDS:
        raise dg.Failure(
            f"The ratings are of {dataset}, and only {WITH_FOLDS} has official folds: choose the "
            "folds 'random'.",
            allow_retries=False,
        )
    return "random" if folds == "random" or dataset != WITH_FOLDS else "official"


def report(directory: Path, scores: "Mapping[str, Mapping[str, Score]]") -> Metadata:
    """Write the scores of each contender on each fold, and return the leaderboards to show."""
    from cf_pipeline.recommender import plots
    from cf_pipeline.recommender.cross_validation import standing

    standings = [standing(name, list(of.values())) for name, of in scores.items()]
    rating = sorted((row for row in standings if "rmse" in row), key=itemgetter("rmse"))
    ranking = sorted((row for row in standings if NDCG in row), key=itemgetter(NDCG), reverse=True)
    written = {
        "leaderboard": [_without_seconds(row) for row in rating],
        "ranking_leaderboard": [_without_seconds(row) for row in ranking],
        "scores": {
            name: {fold: _without_seconds(one) for fold, one in of.items()}
            for name, of in scores.items()
        },
    }
    text = json.dumps(written, indent=1)
    (directory / "cross_validation.json").write_text(text, encoding="utf-8")
    rmse_of_folds = [
        {"method": row["method"]}
        | {fold: one["rmse"] for fold, one in scores[str(row["method"])].items()}
        for row in rating
    ]
    return {
        "leaderboard": table_of(rating),
        "rmse_of_folds": table_of(rmse_of_folds),
        "best_method": rating[0]["method"],
        "best_rmse": rating[0]["rmse"],
        "leaderboard_plot": picture(plots.leaderboard(rating), "leaderboard"),
        **(
            {
                "ranking_leaderboard": table_of(ranking),
                "best_ranking_method": ranking[0]["method"],
                "best_ndcg_at_10": ranking[0][NDCG],
            }
            if ranking
            else {}
        ),
    }


def _without_seconds(of: Mapping[str, object]) -> dict[str, object]:
    """Return what comes out the same whenever it is made."""
    return {name: value for name, value in of.items() if not name.startswith("seconds")}


def contenders(
    config: CrossValidationConfig, users: "pd.DataFrame", movies: "pd.DataFrame"
) -> list[Contender]:
    """Return the methods that `config` names, and all baselines."""
    from cf_pipeline.recommender import distillation, gradient_descent, metrics
    from cf_pipeline.recommender.cross_validation import score_baseline, score_fit
    from cf_pipeline.recommender.fits import resolve_device
    from cf_pipeline.recommender.ranking_validation import score_popularity, score_ranking_model

    # A score depends on what judges it and on its own method's source, not on another method's.
    judged_by = code_version("cf_pipeline.recommender.cross_validation")
    memory = {"memory_gib": config.memory_gib}
    found = []
    for methods, module in ((GIBBS, distillation), (GRADIENT_DESCENT, gradient_descent)):
        source = f"{judged_by} {code_version(module.__name__)}"
        device = resolve_device(config.device, sparse=methods is GIBBS)
        for name, settings in methods.items():
            if getattr(config, name):
                fit = partial(module.fit, settings=settings.model_copy(update=memory))
                score = partial(score_fit, fit, users=users, movies=movies, device=device)
                found.append(Contender(name, score, source, settings.model_dump(), device))
    for name, predict in metrics.BASELINES.items():
        found.append(Contender(name, partial(score_baseline, predict), judged_by, {}))
    source = code_version("cf_pipeline.recommender.ranking_validation")
    if config.ranking_model:
        ranking = RankingSettings().model_copy(update=memory)
        rating = GibbsSettings().model_copy(update=memory)
        device = resolve_device(config.device, sparse=True)
        score = partial(
            score_ranking_model, ranking, rating, users=users, movies=movies, device=device
        )
        dumped = {"ranking": ranking.model_dump(), "rating": rating.model_dump()}
        found.append(Contender("ranking_model", score, source, dumped, device))
    found.append(Contender("popularity", score_popularity, source, {}))
    return found
