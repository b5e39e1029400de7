"""What caching costs, and the frame around it: wall time and peak memory of whole runs.

Runs of `dagster asset materialize` take turns:

- (a) an empty project: one asset that does nothing. It has our dagster.yaml, so that its history
  lasts and is warm, and nothing is sent to anyone, as with ours. All else is as Dagster ships it,
  so a step has a process of its own (the multiprocess executor);
- (b) our project, all cached;
- (c) our project, only the archive cached, up to `evaluation_metrics`: with gradient descent, and
  with the default method, Gibbs sampling;
- the empty project in one process, as ours is set up, to show what that alone saves.

The first turn does not count, and a ratio is the median of the turns' own ratios. One more turn is
for memory, because to watch it takes time: the most that a run's processes have together, Dagster's
helpers included. Pages that processes share count once.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from cf_pipeline_tests.benchmarks.report import Target, print_report
from cf_pipeline_tests.project import Project
from cf_pipeline_tests.real_data import real_archive

EMPTY_PROJECT = """
import dagster as dg

@dg.asset
def nothing() -> None: ...

defs = dg.Definitions(assets=[nothing])
"""
ONE_PROCESS = json.dumps({"execution": {"config": {"in_process": {}}}})
EMPTY, EMPTY_ONE_PROCESS = "(a) empty project", "empty project, one process"
CACHED = "(b) ours, all cached"
DESCENT = "(c) ours, only the archive cached, gradient descent"
GIBBS = "(c) ours, only the archive cached, default"
ARCHIVE, TO_METRICS = "movielens_archive", "*evaluation_metrics"
SAMPLING_SECONDS = 0.005


@dataclass(frozen=True)
class Contender:
    """A command line, run in a project; with `forgets`, only the archive is cached before."""

    project: Project
    command: list[str]
    forgets: bool = False

    def seconds(self) -> float:
        """Run to the end, and return the wall time in seconds."""
        self._prepare()
        start = time.perf_counter()
        done = subprocess.run(
            self.command,
            cwd=self.project.directory,
            env=self.project.variables(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - start
        if done.returncode:
            raise RuntimeError(f"{self.command} ended with {done.returncode}:\n{done.stdout}")
        return seconds

    def peak_mb(self) -> float:
        """Run to the end, and return the peak memory of all its processes together in MB."""
        self._prepare()
        with subprocess.Popen(
            self.command,
            cwd=self.project.directory,
            env=self.project.variables(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as run:
            peak = 0
            while run.poll() is None:
                peak = max(peak, _memory(run.pid))
                time.sleep(SAMPLING_SECONDS)
        if run.returncode:
            raise RuntimeError(f"{self.command} ended with {run.returncode}.")
        return peak / 1e6

    def _prepare(self) -> None:
        if self.forgets:
            for results in self.project.artifacts.iterdir():
                if results.is_dir() and results.name != ARCHIVE:
                    shutil.rmtree(results)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Wall time and peak memory beside plain Dagster.")
    parser.add_argument("--turns", type=int, default=5, help="turns that count (default: 5)")
    turns = parser.parse_args().turns
    if turns < 1:
        parser.error(f"--turns is {turns}, but one at least must count.")
    with tempfile.TemporaryDirectory(prefix="cf_pipeline_") as directory:
        contenders = make_contenders(Path(directory))
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        for turn in range(1 + turns):
            for name, contender in contenders.items():
                measured = contender.seconds()
                print(f"turn {turn} of {turns}  {name}: {measured:.2f} s", file=sys.stderr)
                if turn:
                    seconds[name].append(measured)
        peaks = {name: contender.peak_mb() for name, contender in contenders.items()}
        check_caches(contenders[CACHED].project, {"hit"})
        for name in (DESCENT, GIBBS):
            check_caches(contenders[name].project, {"miss"})
    rows = [row(name, seconds[name], peaks[name]) for name in contenders]
    print_report("orchestration", rows, targets(seconds, peaks))


def make_contenders(directory: Path) -> dict[str, Contender]:
    """Return what is compared, in projects of their own; ours have had a first run."""
    archive = real_archive()
    empty, cached = Project(directory / "empty", archive), Project(directory / "cached", archive)
    cached.cache()
    descent, gibbs = cached.copy(directory / "descent"), cached.copy(directory / "gibbs")
    by_descent = {"factor_model": {"method": "gradient_descent"}}
    (empty.directory / "empty_project.py").write_text(EMPTY_PROJECT)
    command = [sys.executable, "-m", "dagster", "asset", "materialize", "--select", "*"]
    command += ["-m", "empty_project"]
    return {
        EMPTY: Contender(empty, command),
        CACHED: Contender(cached, cached.command()),
        DESCENT: Contender(descent, descent.command(TO_METRICS, by_descent), forgets=True),
        GIBBS: Contender(gibbs, gibbs.command(TO_METRICS), forgets=True),
        EMPTY_ONE_PROCESS: Contender(empty, [*command, "--config-json", ONE_PROCESS]),
    }


def check_caches(project: Project, expected: set[str]) -> None:
    """Raise RuntimeError unless all but the archive, a hit, said `expected` in each later run."""
    with project.instance() as instance:
        *later, _ = [run.run_id for run in instance.get_runs()]  # the first is the oldest, and last
    for run_id in later:
        cache = project.cache_of(run_id)
        if cache.pop(ARCHIVE) != "hit" or set(cache.values()) != expected:
            raise RuntimeError(f"A run that should have been all {expected} was {cache}.")


def row(name: str, seconds: list[float], peak_mb: float) -> dict[str, str | float | list[float]]:
    """Return a run's line of the table; `seconds` are those of its turns."""
    return {
        "run": name,
        "wall seconds": statistics.median(seconds),
        "peak MB": peak_mb,
        "wall seconds of each turn": seconds,
    }


def targets(seconds: Mapping[str, list[float]], peaks: Mapping[str, float]) -> list[Target]:
    """Return the targets, from the wall times of each run's turns and its peak memory."""

    def ratio(name: str) -> float:
        turns = zip(seconds[name], seconds[EMPTY], strict=True)
        return statistics.median(ours / empty for ours, empty in turns)

    return [
        Target("(b) / (a) wall", ratio(CACHED), 1.1),
        Target("(b) peak MB", peaks[CACHED], 250),
        Target("(c) by gradient descent / (a) wall", ratio(DESCENT), 3),
        Target("(c) by default / (a) wall", ratio(GIBBS), 4),
    ]


def _memory(pid: int) -> int:
    """Return what a process and all its descendants have in memory together, in bytes.

    By proportional set sizes: a fork shares all its parent's pages until it runs something else.
    """
    total = 0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
    return total


if __name__ == "__main__":
    main()
