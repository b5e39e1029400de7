"""Runs whose process is gone: each run in progress holds a lock, which dies with its process.

Dagster hears nothing from a process that is killed with SIGKILL or whose machine stops, and under
its default launcher nothing looks for it: the run would say "Started" for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
from filelock import FileLock

from cf_pipeline.locks import Log, if_free

UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
# A process takes this long at most, on a busy machine, from Dagster's first word of its run to the
# lock.
SECONDS_TO_LOCK = 300.0
REASON = (
    "The process of this run is gone: it was killed, or its machine stopped, before it could say "
    "so. What it had finished is in the cache. Launch the run again to go on from there."
)

_held: dict[str, FileLock] = {}


def hold(root: Path, run_id: str) -> None:
    """Let this process hold the run's lock in the store `root` until it ends.

    Not until the run ends: there is something left to report once Dagster gives back its resources.
    """
    folder = _locks(root)
    folder.mkdir(exist_ok=True)
    # Under its own name from when it is held on: somebody who looks in between would find it free.
    fresh = folder / f"{run_id}.new.lock"
    _held[run_id] = FileLock(fresh)
    _held[run_id].acquire()
    fresh.rename(folder / f"{run_id}.lock")


def in_progress(root: Path) -> Iterator[Path]:
    """Yield the lock of each run in progress, this process's own among them."""
    for path in _locks(root).glob("*.lock"):
        with if_free(path) as free:
            if not free:
                yield path


def fail_dead_runs(
    instance: dg.DagsterInstance, root: Path, log: Log, seconds_to_lock: float = SECONDS_TO_LOCK
) -> list[str]:
    """Mark as failed each run of this project whose process is gone, and return their ids.

    A run without a lock may be about to take it: it counts as gone after `seconds_to_lock`.
    """
    failed = []

    def fail(run_id: str) -> None:
        run = instance.get_run_by_id(run_id)
        # What the history says counts only now: a run that ended meanwhile has said so.
        if run is not None and run.status in UNFINISHED:
            instance.report_run_failed(run, REASON)
            log(f"Run {run_id} was left unfinished by a process that is gone: it has failed.")
            failed.append(run_id)

    for path in sorted(_locks(root).glob("*.lock")):
        with if_free(path) as gone:
            if gone:
                fail(path.stem)
    for record in instance.get_run_records(dg.RunsFilter(statuses=UNFINISHED)):
        run = record.dagster_run
        age = (datetime.now(UTC) - record.update_timestamp).total_seconds()
        if _of_this_project(run) and age > seconds_to_lock:
            with if_free(_locks(root) / f"{run.run_id}.lock") as gone:
                if gone:
                    fail(run.run_id)
    return failed


def _locks(root: Path) -> Path:
    return root / "runs"


def _of_this_project(run: dg.DagsterRun) -> bool:
    origin = run.job_code_origin
    module = getattr(origin.repository_origin.code_pointer, "module", "") if origin else ""
    return bool(module.partition(".")[0] == __name__.partition(".")[0])
