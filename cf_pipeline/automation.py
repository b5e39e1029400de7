"""What every asset does by itself: when it follows a change, and when it counts as out of date."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from cf_pipeline.deployment import DEPLOYMENT
from cf_pipeline.retraining import RETRIES_OF_KILLED_RUNS

# What arrives from outside is started by the schedule and the sensor on it; the leaderboards, which
# take minutes and decide nothing, by people.
STARTED_OTHERWISE = {"movielens_archive", "cross_validation"}
READ_FROM_ARCHIVE = {"ratings", "movies", "users"}

# By the retraining's default of once a day: a night that failed, or a champion beside which every
# model was refused for long, shows in the UI.
FRESHNESS = {
    "movielens_archive": dg.FreshnessPolicy.time_window(timedelta(days=7), timedelta(days=2)),
    "champion_model": dg.FreshnessPolicy.time_window(timedelta(days=30), timedelta(days=7)),
}


def follows_changes(asset: str) -> dg.AutomationCondition[Any]:
    """Return the condition under which `asset` is materialized because something changed.

    It starts when the asset goes missing, when its own code changes, or when an input comes out
    other than before (`data_version_changed`: an input that is made anew and comes out equal starts
    nothing) or is about to be made (`will_be_requested`: all that a change reaches is made in one
    run, in order; what lies between two inputs would else be left behind, and a model of one split
    met with vocabularies of another, which the cache refuses. What comes out equal then is a hit).

    - `since`: it stays started until it is handled, so that what cannot run yet is not forgotten.
      It is handled once it was requested or made, and once a run that was to make it failed or was
      canceled, whoever had started that: it is tried again when something changes after that, or by
      Dagster's daemon, if its process was killed.
    - `~any_deps_missing`: there must be something to work on.
    - `~any_deps_in_progress`, `~in_progress`: a run that is on its way brings the rest of its
      results, and perhaps the asset itself.
    - `all_deps_blocking_checks_passed`: never past a check that failed. Within the run that makes
      an input, Dagster itself stops at its checks.
    - `asset_matches("ratings", …)`: what came with ratings that failed their checks, such as
      movies, is not used either, though it has passed its own.
    """
    condition = dg.AutomationCondition
    changed = condition.data_version_changed() | condition.will_be_requested()
    started: dg.AutomationCondition[Any] = (
        condition.missing().newly_true()
        | condition.code_version_changed()
        | condition.any_deps_match(changed)
    )
    handled = (
        condition.newly_requested()
        | condition.newly_updated()
        | condition.initial_evaluation()
        | condition.execution_failed().newly_true()
        | (~condition.in_progress()).newly_true()  # of a canceled run nothing else tells
    )
    follows: dg.AutomationCondition[Any] = (
        started.since(handled.with_label("handled"))
        & ~condition.any_deps_missing()
        & ~condition.any_deps_in_progress()
        & ~condition.in_progress()
        & condition.all_deps_blocking_checks_passed()
    )
    if asset not in READ_FROM_ARCHIVE:
        passed = condition.all_checks_match(condition.check_passed(), blocking_only=True)
        follows &= condition.asset_matches("ratings", passed)
    return follows


def automated(assets: Sequence[dg.AssetsDefinition]) -> Sequence[dg.AssetsDefinition]:
    """Return the assets with their automation conditions and freshness policies."""

    def with_policies(spec: dg.AssetSpec) -> dg.AssetSpec:
        name = spec.key.to_user_string()
        follows = None if name in STARTED_OTHERWISE else follows_changes(name)
        return spec.replace_attributes(
            automation_condition=follows, freshness_policy=FRESHNESS.get(name)
        )

    return dg.map_asset_specs(with_policies, assets)


changes = dg.AutomationConditionSensorDefinition(
    "changes",
    target=dg.AssetSelection.all(),
    default_status=DEPLOYMENT.sensor_status,
    run_tags=RETRIES_OF_KILLED_RUNS,
    description="Has a change of data or code followed by all that it reaches; see the automation "
    "condition of each asset.",
)
