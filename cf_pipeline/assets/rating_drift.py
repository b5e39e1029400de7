"""How the ratings that came since differ from those the champion saw."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from cf_pipeline.artifacts import Artifact
from cf_pipeline.caching import Artifacts, Metadata
from cf_pipeline.champion import Champions, dataset_of
from cf_pipeline.code_version import code_version
from cf_pipeline.metadata import picture, table_of

if TYPE_CHECKING:
    import pandas as pd

    from cf_pipeline.recommender.drift import DriftReport

REPORT = "rating_drift.json"
NO_CHAMPION = (
    "Nothing to compare with: there is no champion that was made from other ratings, or it is no "
    "longer in the store."
)
NOTHING_NEW = "Nothing to compare: the champion has seen all of these ratings."


@dg.asset(
    group_name="promotion",
    kinds={"json"},
    io_manager_key="artifacts",
    code_version=code_version(__name__),
)
def rating_drift(
    context: dg.AssetExecutionContext,
    artifacts: dg.ResourceParam[Artifacts],
    ratings: Artifact,
) -> dg.MaterializeResult[Artifact]:
    """The ratings that the champion has not seen beside those it has, and how it predicts them.

    The champion is the last one that was made from other ratings than these. The checks warn of
    changes that are beyond what is usual, and beyond chance; ratings without timestamps tell of no
    change over time. The pictures open behind "[Show Markdown]".
    """
    champions = Champions(artifacts.store, context.log.info)
    champion = champions.before(ratings.data_version, dataset_of(ratings))

    def build(directory: Path) -> Metadata:
        import pyarrow as pa

        from cf_pipeline.recommender.drift import new_ratings
        from cf_pipeline.recommender.split_files import PART, read_ratings, row_groups
        from cf_pipeline.recommender.table_files import RATINGS, SPLIT, table_files

        def nothing(remark: str) -> Metadata:
            write({"remark": remark})
            return {"remark": remark, "new_rows": 0}

        def write(written: dict[str, object]) -> None:
            text = json.dumps(written, indent=1, allow_nan=False)
            (directory / REPORT).write_text(text, encoding="utf-8")

        if champion is None:
            return nothing(NO_CHAMPION)
        split = table_files(champion.verified(), SPLIT)
        parts = pa.concat_tables(row_groups(split, [PART.name]))[PART.name]
        seen = read_ratings(split).assign(part=parts.to_pandas())
        new = new_ratings(read_ratings(table_files(ratings.verified(), RATINGS)), seen)
        if new.empty:
            return {"champion": champion.key, **nothing(NOTHING_NEW)}
        report = compare_by(champion, seen, new)
        write(asdict(report))
        return {"champion": champion.key, **figures(report), **tables(report), **pictures(report)}

    config = {"champion": champion.data_version if champion else None}
    return artifacts.materialize(context, build, [ratings], config)


def compare_by(champion: Artifact, seen: "pd.DataFrame", new: "pd.DataFrame") -> "DriftReport":
    """Compare new ratings with those the champion saw, as it predicts them."""
    from cf_pipeline.recommender.drift import compare
    from cf_pipeline.recommender.factor_model import FactorModel

    model = FactorModel.load(champion.verified())
    test = seen[seen["part"] == "test"]
    predicted = (model.predict(ratings["user"], ratings["movie"]) for ratings in (test, new))
    return compare(seen, new, *predicted)


def figures(report: "DriftReport") -> dict[str, int | float]:
    """Return the numbers that are charted over time, without those that cannot be told."""
    pace, stars = report.changes["ratings_per_day"], report.changes["stars"]
    told = {
        "new_rows": report.new_rows,
        "new_users": report.new_users,
        "new_movies": report.new_movies,
        "warnings": sum(change.warns for change in report.changes.values()),
        "ratings_per_day_before": pace.before,
        "ratings_per_day_now": pace.now,
        "stars_apart": stars.size,
        "unknown_share_before": report.unknown_before.either if report.unknown_before else None,
        "unknown_share_now": report.unknown_now.either,
        "champion_rmse_on_new": report.new.rmse,
        "champion_rmse_on_new_of_known": report.new_known.rmse,
        "champion_rmse_held_out": report.held_out.rmse,
    }
    return {name: value for name, value in told.items() if value is not None}


def tables(report: "DriftReport") -> Metadata:
    """Return the tables that are shown of a report."""
    unknown = {
        "new": report.unknown_now,
        "the champion's latest, as they came": report.unknown_before,
        "the champion's held-out part": report.unknown_in_test,
    }
    errors = {
        "new": report.new,
        "new, of known people and movies": report.new_known,
        "held out": report.held_out,
        "held out, of known people and movies": report.held_out_known,
    }
    weeks = [
        {"week": week.week, **asdict(week.all), "known_count": week.known.count}
        | {"known_rmse": week.known.rmse, "known_standard_error": week.known.standard_error}
        for week in report.weeks
    ]
    return {
        "changes": table_of([{"of": name, **asdict(of)} for name, of in report.changes.items()]),
        "share_unknown": table_of(
            [{"ratings": name, **asdict(of)} for name, of in unknown.items() if of]
        ),
        "champion_errors": table_of(
            [{"ratings": name, **asdict(of)} for name, of in errors.items()]
        ),
        **({"champion_errors_by_week": table_of(weeks)} if weeks else {}),
        "stars_given": table_of(report.stars),
    }


def pictures(report: "DriftReport") -> Metadata:
    """Return the pictures that are shown of a report."""
    from cf_pipeline.recommender import drift_plots

    drawn = {"stars_before_and_now": drift_plots.stars_before_and_now(report.stars)}
    if report.weeks:  # without timestamps there are none
        drawn["rmse_by_week"] = drift_plots.rmse_by_week(report.weeks, report.held_out_known)
    return {name: picture(png, name.replace("_", " ")) for name, png in drawn.items()}
