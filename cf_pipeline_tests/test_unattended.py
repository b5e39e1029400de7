"""Nobody touches it: Dagster's daemon retrains on what arrives, survives a kill, stops at bad
ratings, and tells of both."""

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from cf_pipeline.recommender.movielens_files import u_data
from cf_pipeline_tests.project import Project
from cf_pipeline_tests.test_caching import ASSETS
from cf_pipeline_tests.test_faults import wait_for
from cf_pipeline_tests.test_notifications import Webhook, webhook
from cf_pipeline_tests.webserver import webserver

__all__ = ["webhook"]  # a fixture

PID = re.compile(r"Executing steps in process \(pid: (\d+)\)")


@pytest.fixture
def arriving(tmp_path: Path, archive: Path) -> Path:
    """A folder with the ratings of the first 150 users."""
    folder = tmp_path / "arriving"
    folder.mkdir()
    rows = b"".join(u_data(archive)).decode().splitlines(keepends=True)
    few = [row for row in rows if int(row.partition("\t")[0]) <= 150]
    (folder / "u.data").write_text("".join(few))
    return folder


def a_minute_passes(instance: dg.DagsterInstance, sensor: str) -> None:
    """Make the daemon evaluate a sensor as soon as if its interval had passed."""
    (state,) = (one for one in instance.all_instigator_state() if one.name == sensor)
    data = state.sensor_instigator_data
    assert data is not None
    now = data._replace(last_tick_timestamp=None, last_tick_start_timestamp=None)
    instance.update_instigator_state(state.with_data(now))


@pytest.mark.timeout(600)
def test_a_day_without_anybody(tmp_path, archive, arriving, webhook: Webhook):
    project = Project(tmp_path / "project", archive).with_variables(
        {
            "CF_PIPELINE_RATINGS": str(arriving),
            "CF_PIPELINE_AUTOMATION": "on",
            "CF_PIPELINE_RETRAINING_CRON": "0 0 1 1 *",
            "CF_PIPELINE_WATCH_SECONDS": "1",
            "CF_PIPELINE_WEBHOOK": webhook.url,
            "NO_PROXY": "127.0.0.1",
        }
    )
    with webserver(project, development=True), project.instance() as instance:

        def run(number: int, ended: bool = False) -> Callable[[], dg.DagsterRun | None]:
            def find() -> dg.DagsterRun | None:
                found = instance.get_runs()[::-1]
                if len(found) <= number or (ended and not found[number].is_finished):
                    return None
                return found[number]

            return find

        # Ratings are there: it trains, and its process is killed.
        wait_for(run(0), 120)
        wait_for(lambda: list(project.artifacts.glob("factor_model/*.partial")), 120)
        first = instance.get_runs()[-1]
        assert first.job_name == "retraining"
        messages = "".join(entry.message for entry in instance.all_logs(first.run_id))
        (pid,) = PID.findall(messages)
        os.kill(int(pid), signal.SIGKILL)
        a_minute_passes(instance, "dead_runs")
        wait_for(run(0, ended=True), 150)
        # Dagster launches it again, and it goes on from what was finished.
        wait_for(run(1, ended=True), 240)
        (again,) = (run for run in instance.get_runs() if run.parent_run_id == first.run_id)
        assert again.status.value == "SUCCESS"
        cached = project.cache_of(again.run_id)
        assert set(cached) == ASSETS - {"cross_validation"}
        assert (cached["ratings"], cached["factor_model"]) == ("hit", "miss")
        # Ratings that fail their checks end the run, which is not launched again.
        with (arriving / "u.data").open("a") as file:
            file.write((arriving / "u.data").read_text().splitlines()[0] + "\n")
        wait_for(run(2, ended=True), 120)
        bad = instance.get_runs()[0]
        assert (bad.job_name, bad.status.value) == ("retraining", "FAILURE")
        assert set(project.cache_of(bad.run_id)) == {
            *("movielens_archive", "ratings", "movies", "users")
        }
        wait_for(lambda: len(webhook.texts) == 2, 90)
        killed, refused = webhook.texts
        assert killed.startswith(f"Run {first.run_id} of retraining failed. It is launched again.")
        assert f"Run {bad.run_id} of retraining failed.\n- check ratings_have_no" in refused
        assert len(instance.get_runs()) == 3
    for path in project.directory.rglob("*"):  # the webhook's address is a secret
        if path.is_file() and path.suffix in {".log", ".err", ".out", ".db"}:
            assert b"s3cret" not in path.read_bytes(), path
