"""What the pipeline survives: faults done to whole runs, and bad input offered to its readers.

Each crash is done to a run in a directory of its own and followed by one ordinary run, which must
leave the same files, bit for bit, as a run that nothing happened to. Runs that are started together
must all end well, with the files of runs alone. Bad input must be refused with an error that says
what is wrong.

Crashes are done to the command line in processes that have imported its libraries already: the same
run in half the time. The runs at once are as users start them, as are all those of the tests.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cf_pipeline_tests import faults
from cf_pipeline_tests.benchmarks.preloaded import PreloadedProject, preload
from cf_pipeline_tests.benchmarks.report import Target, print_report
from cf_pipeline_tests.project import Config, Project, Run
from cf_pipeline_tests.real_data import real_archive
from cf_pipeline_tests.recommender import hostile, model_faults, network_faults
from cf_pipeline_tests.test_caching import TO_THE_GATE

AT_ONCE = 8
CONFIGS: list[Config] = [
    {"factor_model": {"method": "gradient_descent", "epochs": 1, "n_factors": n}} for n in (3, 4)
]


@dataclass(frozen=True)
class Crash:
    """A fault done to a run: the first of its project, or, `warm`, one that goes on from one."""

    name: str
    inject: Callable[[Project], Run]
    warm: bool = False


@dataclass
class Tally:
    """How often something bad was tried, and how it went: a line of the table."""

    name: str
    tried: int = 0
    survived: int = 0
    lost: int = 0
    wrong: int = 0
    refused: int = 0
    escaped: int = 0

    def row(self) -> dict[str, str | int]:
        """Return the line: faults are survived, bad input is refused."""
        return {
            "fault or bad input": self.name,
            "tried": self.tried,
            "survived": self.survived,
            "lost artifacts": self.lost,
            "wrong artifacts": self.wrong,
            "refused with a clear error": self.refused,
            "escaped": self.escaped,
        }


def main() -> None:
    """Inject, judge and print."""
    parser = argparse.ArgumentParser(description="Faults injected, survived, lost and wrong.")
    parser.add_argument("--kills", type=int, default=200, help="SIGKILLs (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="of their instants (default: 0)")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # two runs at a time, a core for each
    with tempfile.TemporaryDirectory(prefix="cf_pipeline_") as name:
        directory = Path(name)
        preload()
        first = PreloadedProject(directory / "undisturbed", real_archive())
        expected = faults.undisturbed(first)
        faults_done = judge_crashes(
            directory, first, expected, crashes(expected.seconds, arguments)
        )
        faults_done += judge_runs_at_once(directory, first)
        inputs = list(judge_inputs(directory))
    rows = [tally.row() for tally in [*faults_done, *inputs]]
    print_report("reliability", rows, targets(faults_done, inputs))


def crashes(seconds: float, arguments: argparse.Namespace) -> Iterator[Crash]:
    """Yield what is done to runs of so many seconds."""
    chosen = partial(faults.instants, seconds=seconds, seed=arguments.seed)
    for after in chosen(arguments.kills):
        yield Crash("kill -9", partial(faults.killed, seconds=after))
    for after in chosen(12):
        yield Crash("SIGTERM", partial(faults.killed, seconds=after, with_signal=signal.SIGTERM))
    for number in range(8 if faults.can_mount() else 0):
        room = 0.05 + 0.9 * number
        yield Crash("disk full", partial(faults.without_room, mebibytes=room))
    for handles in range(12, 24, 2):
        yield Crash("no file handles", partial(faults.without_file_handles, handles=handles))
    for after in chosen(3):
        yield Crash("clock set back", partial(faults.with_clock_set_back, seconds=after))
        yield Crash("clock set back", partial(faults.with_clock_set_back, seconds=after), warm=True)
    yield Crash("no permission to write", faults.without_permission, warm=True)
    yield Crash("read-only store", faults.read_only, warm=True)


def judge_crashes(
    directory: Path, first: Project, expected: faults.Undisturbed, planned: Iterator[Crash]
) -> list[Tally]:
    """Do each crash to a project of its own, two at a time, and count."""
    tallies: dict[str, Tally] = {}
    do = partial(judge, directory, first, expected)
    with ProcessPoolExecutor(2) as pool:
        for crash, after in pool.map(do, *zip(*enumerate(planned), strict=True)):
            tally = tallies.setdefault(crash.name, Tally(crash.name))
            tally.tried += 1
            tally.survived += after.survived
            tally.lost += len(after.lost)
            tally.wrong += len(after.wrong)
            print(tally, "" if after.survived else after, file=sys.stderr, flush=True)
    return list(tallies.values())


def judge(
    directory: Path, first: Project, expected: faults.Undisturbed, number: int, crash: Crash
) -> tuple[Crash, faults.Aftermath]:
    """Do a crash to a project of its own, and return what came of it."""
    folder = directory / f"project-{number}"
    project = first.copy(folder) if crash.warm else PreloadedProject(folder, first.archive)
    try:
        crash.inject(project)
        return crash, faults.aftermath(project, expected)
    finally:
        faults.unmount(project)
        shutil.rmtree(folder)


def judge_runs_at_once(directory: Path, first: Project) -> list[Tally]:
    """Start several runs together, in a fresh directory and in one with a history, and count."""
    alone = []
    for number, config in enumerate(CONFIGS):
        project = Project(directory / f"alone-{number}", first.archive)
        project.cache(TO_THE_GATE, config)
        alone.append(faults.contents(project))
    tallies = []
    for name, warm in (("8 runs at once, cold", False), ("8 runs at once, warm", True)):
        folder = directory / name
        project = first.copy(folder) if warm else Project(folder, first.archive)
        runs = faults.at_once(
            project, TO_THE_GATE, [CONFIGS[i % len(CONFIGS)] for i in range(AT_ONCE)]
        )
        tally = Tally(name, tried=len(runs), survived=sum(run.returncode == 0 for run in runs))
        tally.lost = len(faults.lost(project))
        for config, expected in zip(CONFIGS, alone, strict=True):
            project.cache(TO_THE_GATE, config)
            found = faults.contents(project)
            tally.wrong += sum(found[asset] != expected[asset] for asset in expected)
        print(tally, file=sys.stderr, flush=True)
        tallies.append(tally)
    return tallies


def judge_inputs(directory: Path) -> Iterator[Tally]:
    """Offer every bad input of the tests' catalogues to its reader, and count."""
    catalogues: dict[str, tuple[Sequence[Any], Callable[[Any, Path], str]]] = {
        "hostile archives": (hostile.ZIPS, hostile.attempt),
        "hostile tables": (hostile.TABLES, hostile.attempt),
        "network faults": (network_faults.FAULTS, network_faults.meet),
        "bad model files": (model_faults.FAULTS, model_faults.attempt),
    }
    for name, (entries, attempt) in catalogues.items():
        tally = Tally(name)
        for number, entry in enumerate(entries):
            folder = directory / f"{name} {number}"
            folder.mkdir()
            tally.tried += 1
            try:
                attempt(entry, folder)
            except Exception as error:  # whatever it is, the reader should have refused it
                tally.escaped += 1
                print(f"{name}, {entry.name}: {error!r}", file=sys.stderr, flush=True)
            else:
                tally.refused += 1
            shutil.rmtree(folder)
        print(tally, file=sys.stderr, flush=True)
        yield tally


def targets(faults_done: Sequence[Tally], inputs: Sequence[Tally]) -> list[Target]:
    """Return the targets."""
    kills = sum(tally.tried for tally in faults_done if tally.name == "kill -9")
    return [
        Target("kill -9 at random instants", kills, least=200),
        Target("faults not survived", sum(of.tried - of.survived for of in faults_done), 0),
        Target("lost artifacts", sum(tally.lost for tally in faults_done), 0),
        Target("wrong artifacts", sum(tally.wrong for tally in faults_done), 0),
        Target("bad inputs not refused", sum(of.tried - of.refused for of in inputs), 0),
        Target("bad inputs escaped", sum(tally.escaped for tally in inputs), 0),
    ]


if __name__ == "__main__":
    main()
