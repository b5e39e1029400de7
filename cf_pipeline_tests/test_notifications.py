"""What people are told of failed and canceled runs: by sensors, on real runs, to a real server."""

import json
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import dagster as dg
import pytest

from cf_pipeline import notifications, runs
from cf_pipeline.notifications import (
    LogNotifier,
    Notifier,
    WebhookNotifier,
    canceled_runs,
    failed_runs,
)
from cf_pipeline.recommender.movielens_files import u_data
from cf_pipeline_tests.project import Project
from cf_pipeline_tests.test_faults import wait_for


class Webhook:
    """A server that keeps the texts it is sent, and answers with the next of `statuses`; the last
    one counts for ever. An answer of 0 does not come in time."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.statuses = [200]
        self.closing = Event()
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.headers["Content-Type"] == "application/json"
                status = webhook.statuses[min(len(webhook.texts), len(webhook.statuses) - 1)]
                webhook.texts.append(json.loads(body)["text"])
                if status == 0:
                    webhook.closing.wait()
                    return
                self.send_response(status)
                if status == 307:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing of requests."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/s3cret"


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    webhook = Webhook()
    thread = Thread(target=webhook.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield webhook
    webhook.closing.set()
    webhook.server.shutdown()
    thread.join()
    webhook.server.server_close()


@pytest.fixture
def project(tmp_path: Path, archive: Path) -> Project:
    """A project without history."""
    return Project(tmp_path / "project", archive)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Returns all that was logged or printed."""
    caplog.set_level(logging.INFO)
    return lambda: caplog.text + "".join(capfd.readouterr())


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
    (folder / "u.data").write_bytes(b"".join(u_data(archive)).splitlines(keepends=True)[0] * 2)
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


@pytest.fixture
def killed(project: Project) -> Project:
    """A project with a run whose process was killed, of which the history does not know."""
    process = project.start("*factor_model")
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(process.communicate)  # a full pipe would stop it
        wait_for(lambda: ended.done() or list(project.artifacts.glob("factor_model/*.partial")))
        assert not ended.done()
        process.kill()
    return project


def test_a_killed_run_is_told_of(killed, webhook):
    project = killed
    with project.instance() as instance:
        assert runs.fail_dead_runs(instance, project.artifacts, print)
    tell(project, WebhookNotifier(url=webhook.url))
    (text,) = webhook.texts
    assert "The process of this run is gone" in text


def test_a_run_whose_server_saw_it_killed_is_told_of_with_the_signal(killed, webhook):
    signal = "Run execution process was terminated by signal 9 (SIGKILL)."
    with killed.instance() as instance:
        (run,) = instance.get_runs()
        instance.report_engine_event(signal, run)  # as Dagster's code server does
        instance.report_run_failed(run)
    tell(killed, WebhookNotifier(url=webhook.url))
    (text,) = webhook.texts
    assert text.splitlines()[1:] == [f"- {signal}"]


def test_a_canceled_run_is_told_of_with_the_reason(killed, webhook):
    reason = "Canceling due to exceeding maximum runtime of 15 seconds."
    with killed.instance() as instance:
        (run,) = instance.get_runs()
        instance.report_run_canceling(run, message=reason)
        canceled = instance.report_run_canceled(run)
        canceled_runs(
            dg.build_run_status_sensor_context(
                *("canceled_runs", canceled, instance, run),
                resources={"notifier": WebhookNotifier(url=webhook.url)},
            )
        )
    (text,) = webhook.texts
    assert text.startswith(f"Run {run.run_id} of ")
    assert text.endswith(
        f"factor_model, movielens_archive, movies, ratings, train_test_split, users, "
        f"vocabularies was canceled.\n- {reason}"
    )


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory, archive: Path) -> Project:
    """A project with a run that failed."""
    project = Project(tmp_path_factory.mktemp("failed") / "project", archive)
    sources = {"movielens_archive": {"sources": ["nowhere"]}}
    assert project.materialize("movielens_archive", sources).returncode == 1
    return project


@pytest.mark.parametrize(
    ("statuses", "sent"), [([307], 1), ([404], 1), ([500], 2), ([0], 2), ([503, 204], 2)]
)
def test_a_webhook_that_takes_nothing_is_tried_again_if_that_may_pass(
    failed, webhook, statuses, sent, told, monkeypatch
):
    monkeypatch.setattr(notifications, "PAUSE", 0.01)
    webhook.statuses = statuses
    tell(failed, WebhookNotifier(url=webhook.url, timeout=0.5))
    assert len(webhook.texts) == sent
    said = told()
    assert "No source gave MovieLens 100k" in said
    assert ("nobody was told" in said) == (statuses[-1] != 204)
    assert "s3cret" not in said


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/s3cret",
        "http://[s3cret",
        "http://127.0.0.1:s3cret/",
        "http://.s3cret./",
        f"http://{'s3cret' * 20}/",
        "https://s3cret@/",
    ],
)
def test_a_webhook_that_is_not_there_harms_nobody_and_its_address_is_not_told(
    failed, url, told, monkeypatch
):
    monkeypatch.setattr(notifications, "PAUSE", 0.01)
    monkeypatch.setenv("NO_PROXY", "*")
    tell(failed, WebhookNotifier(url=url))
    said = told()
    assert "The webhook in CF_PIPELINE_WEBHOOK cannot be reached" in said
    assert "No source gave MovieLens 100k" in said
    assert "s3cret" not in said


def test_without_a_webhook_the_log_is_told(failed, told):
    tell(failed, LogNotifier())
    assert "No source gave MovieLens 100k" in told()


def test_another_notifier_takes_its_place(failed, tmp_path):
    class Kept(Notifier):
        path: str

        def notify(self, text, log):
            log("Kept.")
            Path(self.path).write_text(text)

    path = tmp_path / "told.txt"
    tell(failed, Kept(path=os.fspath(path)))
    assert "step movielens_archive" in path.read_text()
