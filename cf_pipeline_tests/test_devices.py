"""Trainings take turns on a device, and one that was killed frees it."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import pytest

from cf_pipeline_tests.project import REPOSITORY, Project
from cf_pipeline_tests.test_caching import FAST
from cf_pipeline_tests.test_faults import wait_for

TRAIN = """
import select, sys, torch
from cf_pipeline.devices import training_on

def log(line):
    print(line, flush=True)

with training_on(torch.device(sys.argv[1]), log):
    log("training")
    select.select([sys.stdin], [], [], float(sys.argv[2]))
"""
WAITING = "Waiting for cpu, on which another process trains."


class Trainer:
    """A process that trains on a device for some seconds, or until it is told to stop."""

    def __init__(self, locks: Path, seconds: float, device: str = "cpu") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", TRAIN, device, str(seconds)],
            env={"PYTHONPATH": str(REPOSITORY), "CF_PIPELINE_DEVICE_LOCKS": str(locks)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@pytest.fixture
def trainer(tmp_path):
    """A function that starts a trainer, which ends with the test at the latest."""
    started = []

    def start(seconds: float, device: str = "cpu") -> Trainer:
        started.append(Trainer(tmp_path / "locks", seconds, device))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


def test_a_second_training_waits_and_says_so(trainer):
    first = trainer(600)
    assert first.says() == "training"
    second = trainer(0)
    assert second.says() == WAITING
    first.stop()
    assert second.says() == "training"
    assert first.process.wait(60) == second.process.wait(60) == 0


def test_a_killed_training_frees_its_device(trainer):
    first = trainer(600)
    assert first.says() == "training"
    second = trainer(0)
    assert second.says() == WAITING
    first.process.kill()
    assert second.says() == "training"


def test_another_device_is_free(trainer):
    first = trainer(600)
    assert first.says() == "training"
    assert trainer(0, "meta").says() == "training"


@pytest.mark.parametrize(
    ("select", "config"),
    [
        ("factor_model", {"factor_model": {"seed": 1, **FAST}}),
        ("ranking_model", {"ranking_model": {"seed": 1}}),
        ("cross_validation", {"cross_validation": {"gibbs": False, "folds": "random", "seed": 1}}),
    ],
)
def test_an_asset_waits_until_the_device_is_free(project, trainer, tmp_path, select, config):
    project.environment["CF_PIPELINE_DEVICE_LOCKS"] = str(tmp_path / "locks")
    assert trainer(600).says() == "training"
    run = project.start(select, config)
    line = next(line for line in run.stdout if WAITING in line or "RUN_FAILURE" in line)
    assert WAITING in line
    time.sleep(0.5)
    assert run.poll() is None
    run.kill()
    run.communicate()


def test_the_search_waits_too(project: Project, trainer, tmp_path):
    project.environment["CF_PIPELINE_DEVICE_LOCKS"] = str(tmp_path / "locks")
    holder = trainer(600)
    assert holder.says() == "training"
    config = {"method": "gradient_descent", "n_trials": 1, "epochs": 1}
    job = "hyperparameter_search"
    with project.instance() as instance, ThreadPoolExecutor(1) as pool:

        def waits() -> bool:
            runs = instance.get_runs(dg.RunsFilter(job_name=job))
            said = [entry.user_message for run in runs for entry in instance.all_logs(run.run_id)]
            return done.done() or WAITING in said

        done = pool.submit(project.execute, job, {"search_hyperparameters": config})
        wait_for(waits)
        assert not done.done()
        holder.stop()
        run = done.result()
    assert run.returncode == 0, run.output
