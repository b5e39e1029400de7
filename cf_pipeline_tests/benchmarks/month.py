"""A month that runs itself: ratings arrive day by day, Dagster's daemon retrains, the gate decides.

The real ratings are replayed in the order of their time: the first day brings the oldest 40 %, each
of the others as many new ones. They are copied into a watched folder, as a feed would, and a real
daemon with the project's own sensors does the rest; a day lasts until its retraining has ended, not
24 hours. Two days are poisoned, and mended the day after: on one the new ratings are shuffled among
their rows, on the other they are given on twice the scale. On one day the run's process is killed
with SIGKILL in the middle of its training.

What is served is judged from the files alone, on honest ratings that neither the champion of the
day before nor that of the day has been fitted to.
"""

import argparse
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pyarrow as pa

from cf_pipeline.artifact_store import ArtifactStore
from cf_pipeline.champion import Champions
from cf_pipeline.decisions import Decision
from cf_pipeline.recommender import metrics
from cf_pipeline.recommender.factor_model import FactorModel
from cf_pipeline.recommender.promotion import PAIR
from cf_pipeline.recommender.rating_scale import STARS
from cf_pipeline.recommender.row_differences import without
from cf_pipeline.recommender.settings import GateSettings
from cf_pipeline.recommender.split_files import read_part
from cf_pipeline.recommender.splits import last_k_per_user
from cf_pipeline.recommender.table_files import SPLIT, table_files
from cf_pipeline_tests.benchmarks.report import Target, print_report
from cf_pipeline_tests.project import Project
from cf_pipeline_tests.real_data import real_archive
from cf_pipeline_tests.recommender.layouts import archive_files, read
from cf_pipeline_tests.webserver import service

BEFORE = 0.4  # of the ratings, on the first day
HELD_OUT = 10  # ratings of each user, the latest, as the deployment's default split has it
SHUFFLED, DOUBLED, KILLED = 9, 19, 14  # days
POISON = {SHUFFLED: "shuffled", DOUBLED: "scale doubled"}
REFUSED_BY = {SHUFFLED: "new_ratings_are_plausible", DOUBLED: "ratings_are_on_the_scale"}
RETRAINING = "retraining"
PATIENCE = 600.0  # seconds for a day
FINISHED = [
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
]


@dataclass
class Day:
    """What arrived on a day, and what came of it.

    `champion` is the decision that made it; `worse` is its RMSE less that of the champion of the
    day before, on the same ratings.
    """

    number: int
    arrived: str
    ratings: int
    runs: int = 0
    ended: str = ""
    champion: int = 0
    rmse: float = float("nan")
    worse: float = 0.0
    said: str = ""

    @property
    def poisoned(self) -> bool:
        """Whether the new ratings are not those that people gave."""
        return self.number in POISON

    @property
    def refused_by(self) -> str:
        """The check that poisoned ratings must fail."""
        return REFUSED_BY[self.number]

    def row(self) -> dict[str, str | float]:
        """Return the day as a row of the report."""
        return {
            "day": self.number,
            "arrived": self.arrived,
            "ratings": self.ratings,
            "runs": self.runs,
            "ended": self.ended,
            "champion": self.champion,
            "rmse": self.rmse,
            "worse_by": self.worse,
            "said": self.said,
        }


def main() -> None:
    """Live through the days, and print."""
    parser = argparse.ArgumentParser(description="A month of arriving ratings, unattended.")
    parser.add_argument("--days", type=int, default=30, help="days (default: 30)")
    days = parser.parse_args().days
    if days < DOUBLED + 1:
        parser.error(f"--days is {days}, but day {DOUBLED} is poisoned, and then mended.")
    with tempfile.TemporaryDirectory(prefix="cf_pipeline_") as directory:
        month = Month(Path(directory), days)
        lived = list(month.live())
    print_report("month", [day.row() for day in lived], targets(lived))


class Month:
    """A deployment whose ratings arrive in a folder, and the days that it lives through."""

    def __init__(self, directory: Path, days: int) -> None:
        archive = real_archive()
        self.tables = read(archive)
        self.ratings = self.tables.ratings.to_pandas().sort_values("timestamp", kind="stable")
        first = round(BEFORE * len(self.ratings))
        self.ends = np.linspace(first, len(self.ratings), days).round().astype(int)
        self.folder = directory / "arriving"
        self.folder.mkdir()
        self.project = Project(directory / "project", archive).with_variables(
            {
                "CF_PIPELINE_RATINGS": str(self.folder),
                "CF_PIPELINE_AUTOMATION": "on",
                "CF_PIPELINE_WATCH_SECONDS": "1",
                "DAGSTER_HOME": str(directory / "project"),
            }
        )
        self.store = ArtifactStore(self.project.artifacts)

    def live(self) -> Iterator[Day]:
        """Yield each day when it is over."""
        daemon = ("run", "-m", "cf_pipeline.definitions")
        with (
            service(self.project, "dagster._daemon", *daemon) as process,
            self.project.instance() as instance,
        ):
            self.daemon = process
            for number in range(1, len(self.ends) + 1):
                champion = self.champion()
                honest, day = self.deliver(number)
                known = {run.run_id for run in self.runs(instance)}
                self.wait(instance, known, day)
                self.judge(instance, known, day, champion, honest)
                print(" ".join(f"{k} {v}" for k, v in day.row().items()), file=sys.stderr)
                yield day

    def deliver(self, number: int) -> tuple[pd.DataFrame, Day]:
        """Put the ratings of a day into the folder, and return what they are when not poisoned."""
        honest = self.ratings.iloc[: self.ends[number - 1]]
        sent, arrived = honest.copy(), "honest"
        if number in POISON:
            arrived = POISON[number]
            new = sent.index[self.ends[number - 2] :]
            stars = sent.loc[new, "rating"].to_numpy()
            shuffled = np.random.default_rng(number).permutation(stars)
            sent.loc[new, "rating"] = shuffled if number == SHUFFLED else 2 * stars
        elif number - 1 in POISON:
            arrived = "honest, and the day before mended"
        elif number == KILLED:
            arrived = "honest, killed in training"
        table = self.tables._replace(
            ratings=pa.Table.from_pandas(
                sent, schema=self.tables.ratings.schema, preserve_index=False
            )
        )
        for name, content in archive_files(table).items():
            fresh = self.folder / f".{name}"
            fresh.write_bytes(content)
            fresh.replace(self.folder / name)
        return honest, Day(number, arrived, len(sent))

    def wait(self, instance: dg.DagsterInstance, known: set[str], day: Day) -> None:
        """Wait until a retraining has begun and nothing goes on; kill one on the day for that."""
        killed = day.number != KILLED
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self.daemon.poll() is not None:
                raise RuntimeError(f"The daemon ended with {self.daemon.returncode}.")
            runs = [run for run in self.runs(instance) if run.run_id not in known]
            if not killed and list(self.project.artifacts.glob("factor_model/*.partial")):
                os.kill(self.process_of(instance, runs[0].run_id), signal.SIGKILL)
                killed = True
            retried = day.number != KILLED or len(runs) > 1
            if runs and killed and retried and all(run.status in FINISHED for run in runs):
                return
            time.sleep(0.2)
        raise TimeoutError(f"Day {day.number} did not end within {PATIENCE:g} s.")

    def judge(
        self,
        instance: dg.DagsterInstance,
        known: set[str],
        day: Day,
        before: Decision | None,
        honest: pd.DataFrame,
    ) -> None:
        """Say what came of the day, and compare what is served with what was the day before."""
        runs = [run for run in self.runs(instance) if run.run_id not in known]
        day.runs, day.ended = len(runs), runs[0].status.value
        decided = [one for one in self.decisions() if one.run_id in {run.run_id for run in runs}]
        said = [f"{one.action}: {one.reason}" for one in decided]
        day.said = "; ".join([*failed_checks(instance, runs[0].run_id), *said])
        after = self.champion()
        if after is None:
            raise RuntimeError(f"There is no champion after day {day.number}: {day.said}")
        day.champion = after.number
        held_out = honest[last_k_per_user(honest, HELD_OUT)]
        for decision in filter(None, (before, after)):
            split = table_files(self.folder_of(decision), SPLIT)
            held_out = without(held_out, read_part(split, "train"), PAIR)
        day.rmse = self.rmse(after, held_out)
        if before:
            day.worse = day.rmse - self.rmse(before, held_out)

    def rmse(self, decision: Decision, rows: pd.DataFrame) -> float:
        """Return the RMSE of a champion on ratings."""
        model = FactorModel.load(self.folder_of(decision))
        return metrics.rmse(rows["rating"], model.predict(rows["user"], rows["movie"]).clip(*STARS))

    def folder_of(self, decision: Decision) -> Path:
        """Return the folder of the champion of a decision."""
        assert decision.champion is not None
        return self.project.artifacts / "champion_model" / decision.champion.key

    def decisions(self) -> list[Decision]:
        """Return all decisions so far."""
        return Champions(self.store, print).decisions()

    def champion(self) -> Decision | None:
        """Return the decision that made the champion what it is."""
        decisions = self.decisions()
        if not decisions or decisions[-1].champion is None:
            return None
        return next(one for one in decisions if one.champion == decisions[-1].champion)

    def runs(self, instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
        """Return all runs, the latest first."""
        return list(instance.get_runs())

    def process_of(self, instance: dg.DagsterInstance, run_id: str) -> int:
        """Return the process that executes a run."""
        messages = "".join(entry.message for entry in instance.all_logs(run_id))
        found = re.findall(r"Executing steps in process \(pid: (\d+)\)", messages)
        return int(found[0])


def failed_checks(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """Return the names of the blocking checks that a run failed."""
    records = instance.get_records_for_run(
        run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
    ).records
    found = [record.event_log_entry.asset_check_evaluation for record in records]
    return [one.check_name for one in found if one and one.blocking and not one.passed]


def targets(days: list[Day]) -> list[Target]:
    """Return what the issue asks for."""
    poisoned = [day for day in days if day.poisoned]
    refused = [
        day
        for day in poisoned
        if day.refused_by in day.said and day.champion == days[day.number - 2].champion
    ]
    told = [day for day in days if day.said]
    promoted = {day.champion for day in days}
    (killed,) = [day for day in days if day.number == KILLED]
    return [
        Target("days that retrained, or say why not", len(told), least=len(days)),
        Target("poisoned days refused", len(refused), least=len(poisoned)),
        Target(
            "worst growth of the served champion's held-out RMSE",
            max(day.worse for day in days),
            limit=GateSettings().margin,
        ),
        Target("retraining that was killed, made by another run", killed.runs - 1, least=1),
        Target("champions", len(promoted), least=2),
    ]


if __name__ == "__main__":
    main()
