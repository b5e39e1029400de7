"""What happens to machines, done to real runs, and what must hold of a project afterwards."""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from cf_pipeline import runs
from cf_pipeline.artifact_store import ArtifactStore
from cf_pipeline.runs import UNFINISHED
from cf_pipeline.store_layout import ArtifactError
from cf_pipeline_tests.project import Config, Project, Run

QUICK: Config = {"factor_model": {"method": "gradient_descent", "epochs": 1}}
# Python runs these when it starts.
SET_BACK = """
import datetime, threading, time_machine

def set_back():
    then = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=3)
    time_machine.travel(then, tick=True).start()

timer = threading.Timer({seconds}, set_back)
timer.daemon = True
timer.start()
"""
IN_A_CALLBACK = """
import gc, os, pathlib, signal, threading

def terminate(phase, info):
    is_made = any(pathlib.Path(".dagster/artifacts").glob("{asset}/*.partial"))
    if is_made and threading.current_thread() is threading.main_thread():
        gc.callbacks.remove(terminate)
        os.kill(os.getpid(), signal.SIGTERM)

gc.callbacks.append(terminate)
"""
Contents = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Undisturbed:
    """What a first run leaves that nothing happened to, and how many seconds it took."""

    contents: Contents
    seconds: float


@dataclass(frozen=True)
class Aftermath:
    """A project after a fault and one ordinary run: what did not come out as it should have.

    `lost` are results that a run reported and that are not there, or not whole; `wrong` are assets
    whose files differ from those of an undisturbed run; `unfinished` are runs that Dagster holds to
    be going on; `leftovers` is what nobody will sweep.
    """

    run: Run
    lost: list[str]
    wrong: list[str]
    unfinished: list[str]
    leftovers: list[Path]

    @property
    def survived(self) -> bool:
        return self.run.returncode == 0 and not (
            self.lost or self.wrong or self.unfinished or self.leftovers
        )


def undisturbed(project: Project) -> Undisturbed:
    """Run in a fresh project, which must succeed."""
    start = time.perf_counter()
    run = project.materialize(config=QUICK)
    seconds = time.perf_counter() - start
    assert run.returncode == 0, run.output
    return Undisturbed(contents(project), seconds)


def contents(project: Project) -> Contents:
    """The SHA-256 of every file of each asset's latest result, told from the files alone."""
    store = ArtifactStore(project.artifacts)
    found = {}
    for asset in project.data_versions():
        artifact = store.open(asset, str(project.metadata(asset)["cache_key"]))
        found[asset] = {name: _sha256(artifact.directory / name) for name in artifact.files}
    return found


def aftermath(project: Project, expected: Undisturbed) -> Aftermath:
    """Run once, as ever, and say what did not come out as it should have."""
    run = project.materialize(config=QUICK)
    found = contents(project) if run.returncode == 0 else {}
    with project.instance() as instance:
        # As if time had passed, for a run that was killed before it took its lock.
        runs.fail_dead_runs(instance, project.artifacts, print, seconds_to_lock=0)
        unfinished = [one.run_id for one in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))]
    return Aftermath(
        run,
        lost=lost(project),
        wrong=[
            asset for asset in expected.contents if found.get(asset) != expected.contents[asset]
        ],
        unfinished=unfinished,
        leftovers=list(project.artifacts.rglob("*.partial")),
    )


def lost(project: Project) -> list[str]:
    """The results that any run reported and that are not there, or not whole."""
    store = ArtifactStore(project.artifacts)
    missing = []
    with project.instance() as instance:
        for run in instance.get_runs():
            for record in instance.get_records_for_run(
                run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
            ).records:
                event = record.event_log_entry.asset_materialization
                assert event is not None
                asset, key = event.asset_key.to_user_string(), event.metadata["cache_key"].value
                try:
                    store.open(asset, str(key)).verified()
                except ArtifactError as error:
                    missing.append(str(error))
    return missing


def killed(project: Project, seconds: float, with_signal: int = signal.SIGKILL) -> Run:
    """Start a run, and send its process a signal after `seconds`."""
    process = project.start(config=QUICK)
    time.sleep(seconds)
    process.send_signal(with_signal)
    output, _ = process.communicate(timeout=240)
    return Run(process.returncode, output)


def without_room(project: Project, mebibytes: float) -> Run:
    """Run with history and artifacts on a disk of `mebibytes`, which is then enlarged."""
    disk = project.directory / ".dagster"
    disk.mkdir()
    _mount("-o", f"size={int(mebibytes * 1024)}k", disk)
    run = project.materialize(config=QUICK)
    _mount("-o", "remount,size=1g", disk)
    return run


def unmount(project: Project) -> None:
    """Take away the disk of `without_room`, if there is one."""
    disk = project.directory / ".dagster"
    if disk.is_mount():
        subprocess.run(["umount", "--lazy", disk], check=True)


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", *arguments], check=True, capture_output=True)


def can_mount() -> bool:
    """Whether this process may mount file systems."""
    return os.geteuid() == 0 and _succeeds(["unshare", "--mount", "true"])


def without_permission(project: Project) -> Run:
    """Run once all cached except one asset, in a store that this user may only read."""
    shutil.rmtree((project.artifacts / "vocabularies" / "latest").resolve())
    folders = [project.artifacts, *(path for path in project.artifacts.rglob("*") if path.is_dir())]
    with _unwritable(folders):
        return _bound_by_permissions(project).materialize(config=QUICK)


@contextmanager
def _unwritable(folders: list[Path]) -> Iterator[None]:
    modes = {path: path.stat().st_mode for path in folders if not path.is_symlink()}
    for path in modes:
        path.chmod(0o555)
    try:
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


def read_only(project: Project) -> Run:
    """Run, all cached, in a store that this user may only read."""
    folders = [project.artifacts, *(path for path in project.artifacts.rglob("*") if path.is_dir())]
    with _unwritable(folders):
        return _bound_by_permissions(project).materialize(config=QUICK)


def _bound_by_permissions(project: Project) -> Project:
    """The project, run without root's privilege to write everywhere."""
    capabilities = "-dac_override,-dac_read_search"
    prefix = ["setpriv", f"--bounding-set={capabilities}", f"--inh-caps={capabilities}"]
    return project.behind(*(prefix if os.geteuid() == 0 else []))


def without_file_handles(project: Project, handles: int) -> Run:
    """Run with no more than so many open files."""
    return project.behind("prlimit", f"--nofile={handles}:{handles}").materialize(config=QUICK)


def with_clock_set_back(project: Project, seconds: float) -> Run:
    """Run, and set the clock that the process sees back by three days after `seconds`."""
    return _beginning_with(project, SET_BACK.format(seconds=seconds)).materialize(config=QUICK)


def terminated_in_a_callback(project: Project, asset: str) -> Run:
    """Run, and send SIGTERM once it makes `asset`, in a callback of Python's garbage collector."""
    return _beginning_with(project, IN_A_CALLBACK.format(asset=asset)).materialize(config=QUICK)


def _beginning_with(project: Project, source: str) -> Project:
    """The same project, whose processes run `source` first."""
    site = project.directory / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(source)
    return project.with_variables({"PYTHONPATH": f"{site}{os.pathsep}{project.package}"})


def at_once(project: Project, select: str, configs: Sequence[Config]) -> list[Run]:
    """Start a run of `select` for each config together, and wait for them all."""
    processes = [project.start(select, config) for config in configs]
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    return [
        Run(process.returncode, output) for process, output in zip(processes, outputs, strict=True)
    ]


def instants(count: int, seconds: float, seed: int) -> list[float]:
    """Random instants of a run that takes `seconds`."""
    chance = random.Random(seed)
    return [chance.uniform(0, seconds) for _ in range(count)]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _succeeds(command: list[str]) -> bool:
    return (
        shutil.which(command[0]) is not None
        and not subprocess.run(command, check=False, capture_output=True).returncode
    )
