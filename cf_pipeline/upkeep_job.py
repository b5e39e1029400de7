"""What keeps the artifact store tidy and Dagster's history true: a nightly job and a sensor."""

import dagster as dg
from pydantic import Field

from cf_pipeline import runs, upkeep
from cf_pipeline.caching import Artifacts
from cf_pipeline.locks import exclusive
from cf_pipeline.metadata import table_of
from cf_pipeline.store_layout import leftovers, sweep


class UpkeepConfig(dg.Config):
    """What the artifact store keeps."""

    keep: int = Field(
        10,
        ge=1,
        description="Results that each asset keeps, those used last. One to which a link or "
        "Dagster's history points as the latest stays in any case, as do the champion, the one "
        "before, and what was used since a run in progress began.",
    )
    dry_run: bool = Field(False, description="Only say what would be removed.")


@dg.op
def tidy_store(
    context: dg.OpExecutionContext, artifacts: dg.ResourceParam[Artifacts], config: UpkeepConfig
) -> None:
    """Remove results that nobody needs, and what processes left that were killed."""
    root, removed, swept = artifacts.store.root, 0, 0
    with exclusive(root / "upkeep.lock", context.log.info):
        latest = upkeep.latest_in_history(context.instance, root)
        latest |= upkeep.champions(artifacts.store, context.log.info)
        results, left = upkeep.unneeded(root, config.keep, latest), leftovers(root)
        shown = [result.shown() for result in results]
        for line in [*shown, *left]:
            context.log.info(f"{'Would remove' if config.dry_run else 'Removing'} {line}")
        if not config.dry_run:
            removed = sum(map(upkeep.remove, results))
            swept = sum(map(sweep, left))
    context.add_output_metadata(
        {
            "dry_run": config.dry_run,
            "unneeded": len(results),
            "removed": removed,
            "leftovers": len(left),
            "swept": swept,
            **({"results": table_of(shown)} if shown else {}),
        }
    )


@dg.job
def store_upkeep() -> None:
    """Remove from the artifact store what nobody needs; see its config for what is kept."""
    tidy_store()


store_upkeep_schedule = dg.ScheduleDefinition(
    job=store_upkeep,
    cron_schedule="0 4 * * *",
    description="Tidies the artifact store every night. Off until somebody switches it on.",
)


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Marks runs as failed whose process was killed: they would show as started for "
    "ever.",
)
def dead_runs(
    context: dg.SensorEvaluationContext, artifacts: dg.ResourceParam[Artifacts]
) -> dg.SkipReason:
    """Marks runs as failed whose process was killed, of which Dagster hears nothing."""
    failed = runs.fail_dead_runs(context.instance, artifacts.store.root, context.log.warning)
    return dg.SkipReason(f"Marked as failed: {', '.join(failed) or 'none'}.")
