"""The job that retrains, and what starts it: a schedule, and a sensor on new ratings."""

import hashlib
import json
import time

import dagster as dg

from cf_pipeline.assets.factor_model import FactorModelConfig
from cf_pipeline.assets.movielens_archive import MovielensArchiveConfig
from cf_pipeline.assets.ranking_model import RankingModelConfig
from cf_pipeline.assets.train_test_split import TrainTestSplitConfig
from cf_pipeline.deployment import DEPLOYMENT
from cf_pipeline.recommender.datasets import CUSTOM, DATASETS, SYNTHETIC
from cf_pipeline.runs import UNFINISHED

# A run whose process was killed is launched again by Dagster's daemon, and finds what it finished
# in the cache. One of which a step failed is not: it would fail again, or the step has retried.
RETRIES_OF_KILLED_RUNS = {
    "dagster/max_retries": "3",
    "dagster/retry_strategy": "ALL_STEPS",
    "dagster/retry_on_asset_or_op_failure": "false",
}
# What a newcomer may want to change.
SHOWN_SETTINGS: dict[str, tuple[type[dg.Config], set[str]]] = {
    "train_test_split": (TrainTestSplitConfig, {"strategy", "fold", "test_fraction", "cut", "k"}),
    "factor_model": (FactorModelConfig, {"method", "n_factors", "seed"}),
    "ranking_model": (RankingModelConfig, {"n_factors", "iterations"}),
}

retraining = dg.define_asset_job(
    "retraining",
    selection=dg.AssetSelection.all() - dg.AssetSelection.assets("cross_validation"),
    # The defaults that the assets have anyway: a run of this job and any other share the cache.
    config={
        "ops": {
            asset: {"config": config.model_validate({}).model_dump(include=names)}
            for asset, (config, names) in SHOWN_SETTINGS.items()
        }
    },
    description="From the ratings to the lists: fits the model, judges it, and makes people's "
    "lists with it if it passes the gate; all but the leaderboards. What is up to date comes from "
    "the cache. The launchpad has the settings that are worth a try first, at their defaults.",
    tags=RETRIES_OF_KILLED_RUNS,
)


@dg.schedule(
    job=retraining,
    cron_schedule=DEPLOYMENT.retraining_cron,
    default_status=DEPLOYMENT.schedule_status,
    description="Launches retraining when CF_PIPELINE_RETRAINING_CRON says, by default every "
    "night at three, UTC; not while one goes on, nor while ratings are arriving.",
)
def retraining_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Retrains, unless a retraining has not ended or ratings have changed just now."""
    if busy := _busy(context.instance):
        return dg.SkipReason(f"Run {busy} of retraining has not ended.")
    if _arriving():
        return dg.SkipReason(
            f"The ratings changed within the last {DEPLOYMENT.watch_seconds} s, and may still be "
            "arriving: the sensor new_ratings takes them, or the next tick does."
        )
    return dg.RunRequest()


@dg.sensor(
    job=retraining,
    minimum_interval_seconds=DEPLOYMENT.watch_seconds,
    default_status=DEPLOYMENT.sensor_status,
    description="Launches retraining when ratings are new or changed, once they have stayed the "
    "same for two looks.",
)
def new_ratings(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Retrains on ratings that are new or changed, once they have stayed the same for two looks.

    The look is at what CF_PIPELINE_RATINGS tells, else at what the official source, or the mirror
    in CF_PIPELINE_MOVIELENS_URL, says of its revision.
    """
    seen = json.loads(context.cursor or "{}")
    found = _fingerprint()
    if isinstance(found, dg.SkipReason):
        return dg.SensorResult(skip_reason=found, cursor=context.cursor)
    cursor = {"launches": 0, **seen, "seen": found}
    reason = None
    if found == seen.get("launched"):
        reason = "The ratings are those of the last retraining."
    elif found != seen.get("seen"):
        reason = "There are new ratings: they are taken if they are the same at the next look."
    elif busy := _busy(context.instance):
        reason = f"There are new ratings, which wait until run {busy} has ended."
    if reason:
        return dg.SensorResult(skip_reason=reason, cursor=json.dumps(cursor))
    cursor |= {"launched": found, "launches": cursor["launches"] + 1}
    # Of what comes over the network nothing else tells that it is to be received anew.
    archive = {"revision": found} if _is_remote() else {}
    request = dg.RunRequest(
        # Ratings that come back are launched again; a tick that is repeated is not.
        run_key=f"{cursor['launches']} {found}",
        run_config={"ops": {"movielens_archive": {"config": archive}}},
    )
    return dg.SensorResult(run_requests=[request], cursor=json.dumps(cursor))


def _busy(instance: dg.DagsterInstance) -> str | None:
    """Return the id of a retraining that has not ended, if there is one."""
    busy = dg.RunsFilter(
        job_name=retraining.name, statuses=[*UNFINISHED, dg.DagsterRunStatus.QUEUED]
    )
    runs = instance.get_runs(busy, limit=1)
    return runs[0].run_id if runs else None


def _default_source() -> MovielensArchiveConfig:
    """Return the config of a run that is given none."""
    return MovielensArchiveConfig.model_validate(dict(DEPLOYMENT.archive))


def _is_remote() -> bool:
    """Whether the default source is a release of MovieLens that comes over the network."""
    from cf_pipeline.recommender.sources import REMEDIES

    config = _default_source()
    return config.dataset in DATASETS and config.sources[0] in ("auto", *REMEDIES)


def _arriving() -> bool:
    """Whether the ratings that CF_PIPELINE_RATINGS tells changed less than a look's time ago."""
    from cf_pipeline.recommender import custom_archive, sources

    config = _default_source()
    try:
        if config.dataset == CUSTOM:
            changed = custom_archive.changed(config.own_tables())
        elif config.dataset in DATASETS and not _is_remote():
            changed = sources.last_change(config.sources[0], config.dataset)
        else:
            return False
    except (OSError, ValueError):  # which a run then says, and people are told
        return False
    return 0 <= time.time() - changed < DEPLOYMENT.watch_seconds


def _fingerprint() -> str | dg.SkipReason:
    """Return what tells the content of the default source, or why that cannot be told."""
    from cf_pipeline.recommender import custom_archive, custom_files, sources
    from cf_pipeline.recommender.downloads import DownloadError, redacted

    config = _default_source()
    if config.dataset == SYNTHETIC:
        return config.synthetic.model_dump_json()
    if config.dataset == CUSTOM:
        found = custom_archive.fingerprints(config.own_tables())
        if custom_files.MISSING in found:
            missing = custom_archive.paths(config.own_tables())[found.index(custom_files.MISSING)]
            return dg.SkipReason(f"Nothing that can be read is at {redacted(missing)}.")
        return hashlib.sha256(" ".join(found).encode()).hexdigest()
    if not _is_remote():
        try:
            return sources.local_digest(config.sources[0], config.dataset)
        except (OSError, ValueError) as error:
            return dg.SkipReason(f"There are no ratings at {config.sources[0]}: {error}")
    try:
        revision = sources.official_revision(config.dataset)
    except DownloadError as error:
        return dg.SkipReason(f"The source of the ratings does not tell its revision: {error}")
    return hashlib.sha256(revision.encode()).hexdigest()
