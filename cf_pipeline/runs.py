"""Runs whose process is gone: each run in progress holds a lock, which dies with its process.

Dagster hears nothing from a process that is killed with SIGKILL or whose machine stops, and under
its default launcher nothing looks for it: the run would say "Started" for ever.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
from dagster._core.launcher import WorkerStatus
from filelock import FileLock

from cf_pipeline.locks import Log, if_free, is_held

UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
# Where the lock of a run is, once it is held. A run that is retried hands its tags on, so the tag
# counts only for the run that it names.
LOCK_TAG = "cf_pipeline/lock"
# A process takes this long at most, on a busy machine, from Dagster's first word of its run to the
# lock.
SECONDS_TO_LOCK = 300.0
REASON = (
    "The process of this run is gone: it was killed, or its machine stopped, before it could say "
    "so. What it had finished is in the cache. Launch the run again to go on from there."
)

_held: dict[str, FileLock] = {}


def hold(instance: dg.DagsterInstance, run_id: str, root: Path) -> None:
    """Let this process hold the run's lock in the store `root` until it ends, and tag the run.

    Not until the run ends: there is something left to report once Dagster gives back its resources.
    """
    folder = _locks(root)
    folder.mkdir(exist_ok=True)
    # Under its own name from when it is held on: somebody who looks in between would find it free.
    fresh = folder / f"{run_id}.new.lock"
    _held[run_id] = FileLock(fresh)
    _held[run_id].acquire()
    fresh.rename(_lock(root, run_id))
    instance.add_run_tags(run_id, {LOCK_TAG: str(_lock(root, run_id))})


def oldest_start(root: Path) -> float:
    """Return when the oldest run in progress began, in seconds since 1970; infinity for none."""
    starts = [float("inf")]
    for path in _locks(root).glob("*.lock"):
        with suppress(FileNotFoundError):  # of a run that ends meanwhile
            if is_held(path):
                starts.append(path.stat().st_mtime)
    return min(starts)


def fail_dead_runs(
    instance: dg.DagsterInstance, root: Path, log: Log, seconds_to_lock: float = SECONDS_TO_LOCK
) -> list[str]:
    """Mark as failed each run of the store `root` whose process is gone, and return their ids.

    A run of this project without a lock may be about to take it: it counts as gone after
    `seconds_to_lock`, unless its launcher knows better. Runs of other stores and projects are not
    judged.
    """
    failed = []
    for record in instance.get_run_records(dg.RunsFilter(statuses=UNFINISHED)):
        run = record.dagster_run
        age = (datetime.now(UTC) - record.update_timestamp).total_seconds()
        lock = Path(run.tags.get(LOCK_TAG, ""))
        late = lock.stem != run.run_id and _of_this_project(run) and age > seconds_to_lock
        if lock != _lock(root, run.run_id) and (not late or _may_yet_begin(instance, run, log)):
            continue
        _locks(root).mkdir(parents=True, exist_ok=True)
        with if_free(_lock(root, run.run_id)) as gone:
            latest = instance.get_run_by_id(run.run_id)
            # What the history says counts only now: a run that ended meanwhile has said so.
            if gone and latest is not None and latest.status in UNFINISHED:
                instance.report_run_failed(latest, REASON)
                log(f"Run {run.run_id} was left unfinished by a process that is gone: it failed.")
                failed.append(run.run_id)
    for path in _locks(root).glob("*.lock"):
        ended = instance.get_run_by_id(path.stem)
        if ended is not None and ended.is_finished:
            with if_free(path):
                pass  # which removes it
    return failed


def _may_yet_begin(instance: dg.DagsterInstance, run: dg.DagsterRun, log: Log) -> bool:
    """Whether the launcher may still start the run, as one that waits for a node of a cluster.

    How long that may take is Dagster's to watch (`start_timeout_seconds` in its `dagster.yaml`), as
    is a run of which the launcher does not know.
    """
    try:
        launcher = instance.run_launcher
        if not launcher.supports_check_run_worker_health:
            return False
        status = launcher.check_run_worker_health(run).status
    except Exception as error:  # of whatever launcher; this machine may not reach what it asks
        log(f"Whether run {run.run_id} may yet begin, its launcher cannot say: {error}")
        return True
    return status in (WorkerStatus.RUNNING, WorkerStatus.UNKNOWN)


def _locks(root: Path) -> Path:
    return root / "runs"


def _lock(root: Path, run_id: str) -> Path:
    return _locks(root) / f"{run_id}.lock"


def _of_this_project(run: dg.DagsterRun) -> bool:
    origin = run.job_code_origin
    module = getattr(origin.repository_origin.code_pointer, "module", "") if origin else ""
    return bool(module.partition(".")[0] == __name__.partition(".")[0])
