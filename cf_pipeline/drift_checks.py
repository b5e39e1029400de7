"""Asset checks of drift, and of a feed that stops: they warn, and block nothing."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from cf_pipeline.artifacts import Artifact
from cf_pipeline.assets.rating_drift import REPORT
from cf_pipeline.metadata import table_of
from cf_pipeline.recommender.drift_limits import DRIFT_CHECKS, EVIDENCE, LEAST_USERS, OVER_TIME

CANNOT_TELL = f"That cannot be told: it takes ratings of {LEAST_USERS} people before and now."
NO_TIME = "That cannot be told: it takes ratings with timestamps, before and now."
MOST_DAYS = 7  # the freshness policies', which tell of runs and not of what arrives


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec(name, asset="rating_drift", description=f"{check.rule} {EVIDENCE}")
        for name, check in DRIFT_CHECKS.items()
    ],
    ins={"rating_drift": dg.AssetIn("rating_drift")},
)
def drift_checks(
    context: dg.AssetCheckExecutionContext, rating_drift: Artifact
) -> Iterator[dg.AssetCheckResult]:
    """Warn of the changes that are beyond their limits and beyond chance, and show them all.

    What cannot be told passes, with a remark.
    """
    report = json.loads(rating_drift.path(REPORT).read_bytes())
    for name, check in DRIFT_CHECKS.items():
        found = [{"of": of, **report["changes"][of]} for of in check.changes if "changes" in report]
        remark = report.get("remark")
        if any(change["users"] < LEAST_USERS for change in found):
            remark = CANNOT_TELL
        if report.get("recent_rows") == 0 and set(check.changes) & set(OVER_TIME):
            remark = NO_TIME
        warnings = [change for change in found if change["warns"]]
        for change in warnings:
            context.log.warning(f"{name}: {_in_words(change)}")
        yield dg.AssetCheckResult(
            check_name=name,
            asset_key="rating_drift",
            passed=not warnings,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={
                **({"remark": remark} if remark else {}),
                **({"changes": table_of(found)} if found else {}),
            },
        )


def _in_words(change: Mapping[str, Any]) -> str:
    """Return how something changed, for the log."""
    was = ""
    if change["before"] is not None and change["now"] is not None:
        was = f"{change['before']:.4g} before and {change['now']:.4g} now, "
    size, noise, limit = change["size"], change["noise"], change["limit"]
    return (
        f"{change['of']}: {was}a change of {size:.4g} (by chance {noise:.4g}, limit {limit:.4g})."
    )


@dg.asset_check(
    asset="ratings", description=f"The last rating is no older than {MOST_DAYS} days: some arrive."
)
def ratings_are_recent(ratings: Artifact) -> dg.AssetCheckResult:
    """Warn if ratings no longer arrive; without any that has a timestamp, it passes.

    That there is none at all, another check says.
    """
    last = ratings.metadata.get("last_rating")
    try:
        days = (datetime.now(UTC) - datetime.fromisoformat(str(last))).days
    except ValueError:  # what stands there for a time that is null
        remark = "No rating has a timestamp."
        return dg.AssetCheckResult(passed=True, metadata={"last_rating": "none", "remark": remark})
    return dg.AssetCheckResult(
        passed=days < MOST_DAYS,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"last_rating": str(last), "days": days},
    )
