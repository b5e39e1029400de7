"""What people are told of failed runs: by the sensor, on real runs, to a real server."""

import json
import logging
import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import dagster as dg
import pytest

from cf_pipeline import runs
from cf_pipeline.notifications import LogNotifier, Notifier, WebhookNotifier, failed_runs
from cf_pipeline.recommender.movielens_files import u_data
from cf_pipeline_tests.project import Project


class Webhook:
    """A server that keeps the texts it is sent, and answers with `status`."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.status = 200
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.headers["Content-Type"] == "application/json"
                webhook.texts.append(json.loads(body)["text"])
                self.send_response(webhook.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing of requests."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/s3cret"


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    webhook = Webhook()
    thread = Thread(target=webhook.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield webhook
    webhook.server.shutdown()
    thread.join()
    webhook.server.server_close()


@pytest.fixture
def project(tmp_path: Path, archive: Path) -> Project:
    """A project without history."""
    return Project(tmp_path / "project", archive)


def tell(project: Project, notifier: Notifier) -> str:
    """Evaluate the sensor on the failed run, and return the run's id."""
    with project.instance() as instance:
        (run,) = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
        (record,) = instance.get_records_for_run(
            run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE
        ).records
        event = record.event_log_entry.dagster_event
        assert event is not None
        failed_runs(
            dg.build_run_status_sensor_context(
                "failed_runs", event, instance, run, resources={"notifier": notifier}
            ).for_run_failure()
        )
        return str(run.run_id)


def test_a_failed_check_is_told_by_its_name(project, webhook, tmp_path, archive):
    folder = tmp_path / "ml-100k"
    folder.mkdir()
    (folder / "u.data").write_bytes(u_data(archive).splitlines(keepends=True)[0] * 2)
    sources = {"movielens_archive": {"sources": [str(folder)]}}
    assert project.materialize("*train_test_split", sources).returncode == 1
    run_id = tell(project, WebhookNotifier(url=webhook.url))
    (text,) = webhook.texts
    first, check, *rest = text.splitlines()
    assert first == f"Run {run_id} of movielens_archive, ratings, train_test_split failed."
    assert check.startswith("- check ratings_have_no_duplicates of ratings")
    assert "faults 2" in check
    assert all(line.startswith("- step ratings_checks: ") for line in rest)


def test_a_failed_step_is_told_with_its_cause(project, webhook, tmp_path):
    sources = {"movielens_archive": {"sources": [str(tmp_path / "nowhere")]}}
    assert project.materialize("movielens_archive", sources).returncode == 1
    tell(project, WebhookNotifier(url=webhook.url))
    (text,) = webhook.texts
    assert "- step movielens_archive: " in text
    assert "No source gave MovieLens 100k" in text
    assert "nowhere" in text


def test_a_killed_run_is_told_of(project, webhook):
    process = project.start("*factor_model")
    while not list(project.artifacts.glob("factor_model/*.partial")):
        assert process.poll() is None
    process.kill()
    process.communicate()
    with project.instance() as instance:
        assert runs.fail_dead_runs(instance, project.artifacts, print)
    tell(project, WebhookNotifier(url=webhook.url))
    (text,) = webhook.texts
    assert "The process of this run is gone" in text


@pytest.fixture
def failed(project: Project, tmp_path: Path) -> Project:
    sources = {"movielens_archive": {"sources": [str(tmp_path / "nowhere")]}}
    assert project.materialize("movielens_archive", sources).returncode == 1
    return project


@pytest.mark.parametrize("fault", ["refused", "500"])
def test_a_webhook_that_is_not_there_harms_nobody_and_its_address_is_not_told(
    failed, webhook, fault, caplog, capfd
):
    caplog.set_level(logging.INFO)
    webhook.status = 500
    url = webhook.url if fault == "500" else "http://127.0.0.1:9/s3cret"
    tell(failed, WebhookNotifier(url=url))
    said = caplog.text + "".join(capfd.readouterr())
    assert "The webhook in CF_PIPELINE_WEBHOOK" in said
    assert "No source gave MovieLens 100k" in said
    assert "s3cret" not in said


def test_without_a_webhook_the_log_is_told(failed, caplog, capfd):
    tell(failed, LogNotifier())
    said = caplog.text + "".join(capfd.readouterr())
    assert "No source gave MovieLens 100k" in said


def test_another_notifier_takes_its_place(failed):
    class Kept(Notifier):
        path: str

        def notify(self, text, log):
            log("Kept.")
            Path(self.path).write_text(text)

    path = failed.directory / "told.txt"
    tell(failed, Kept(path=os.fspath(path)))
    assert "step movielens_archive" in path.read_text()
