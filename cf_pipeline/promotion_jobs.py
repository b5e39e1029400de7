"""Jobs by which somebody decides which model people are shown, and not the gate."""

import dagster as dg

from cf_pipeline.deciding import JOBS, PROMOTE, ROLL_BACK

SHOWN = dg.AssetSelection.assets("champion_model").downstream()


promote_by_hand = dg.define_asset_job(
    JOBS[PROMOTE],
    selection=SHOWN,
    description="Makes the latest model the champion, whatever the gate finds, and lists by it. "
    "Say the reason in the launchpad: it is recorded.",
    config={"ops": {"champion_model": {"config": {"decide": PROMOTE, "reason": ""}}}},
)
roll_back = dg.define_asset_job(
    JOBS[ROLL_BACK],
    selection=SHOWN,
    description="Goes back to the champion before, or to that of an earlier decision, and makes "
    "its lists. Say the reason in the launchpad: it is recorded.",
    config={
        "ops": {"champion_model": {"config": {"decide": ROLL_BACK, "decision": 0, "reason": ""}}}
    },
)
