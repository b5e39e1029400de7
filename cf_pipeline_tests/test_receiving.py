"""How new ratings are noticed at their source, and the archive that a run then receives."""

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import dagster as dg
import pytest

from cf_pipeline import retraining
from cf_pipeline.assets import movielens_archive as archive_asset
from cf_pipeline.assets.movielens_archive import movielens_archive
from cf_pipeline.caching import Artifacts
from cf_pipeline.deployment import Deployment
from cf_pipeline.recommender import http_download, sources
from cf_pipeline.recommender.datasets import DATASETS, release
from cf_pipeline.recommender.downloads import DownloadError, RemoteFile, sha256
from cf_pipeline.recommender.sources import URL_VARIABLE
from cf_pipeline_tests.recommender.mirror import Mirror, self_signed, serve
from cf_pipeline_tests.test_retraining import instance, launched, rate, watch

__all__ = ["instance", "watch"]  # fixtures


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    monkeypatch.setattr(retraining, "DEPLOYMENT", Deployment())
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve(b"") as mirror:
        monkeypatch.setenv(URL_VARIABLE, mirror.url.replace("://", "://alice:s3cret@"))
        yield mirror


def revision(request: dg.RunRequest) -> str:
    return str(request.run_config["ops"]["movielens_archive"]["config"]["revision"])


@pytest.mark.parametrize("header", ["ETag", "Last-Modified"])
def test_a_new_revision_of_the_source_is_taken(watch, mirror, header):
    mirror.head = {header: "one"}
    watch()
    first = launched(watch())
    assert watch() == "The ratings are those of the last retraining."
    mirror.head = {header: "two"}
    watch()
    assert revision(launched(watch())) != revision(first)
    assert mirror.logins[0] == "Basic YWxpY2U6czNjcmV0"
    assert mirror.requests[0] == "/datasets/ml-100k.zip"


def test_a_source_that_does_not_answer_is_a_reason_to_skip(watch, mirror, monkeypatch):
    mirror.head = {"ETag": "one"}
    watch()
    for status, reason in [("503", "503 Server Error"), ("404", "404 Client Error")]:
        mirror.answers = [status]
        assert reason in watch()
        assert "s3cret" not in watch()
    mirror.answers, mirror.head = ["good"], {}
    assert "has neither an ETag nor a date" in watch()
    monkeypatch.setenv(URL_VARIABLE, "http://alice:s3cret@127.0.0.1:9")
    assert "does not tell its revision" in watch()
    assert "s3cret" not in watch()
    monkeypatch.setenv(URL_VARIABLE, mirror.url)
    mirror.head = {"ETag": "one"}
    launched(watch())  # what was seen before counts


@pytest.mark.parametrize("answer", ["trickled_headers", "stalled"])
def test_a_source_that_trickles_holds_no_tick_up(watch, mirror, monkeypatch, answer):
    monkeypatch.setattr(http_download, "REVISION_TIMEOUT", 0.5)
    mirror.answers = [answer]
    assert "not received within 0.5 s" in watch()


def test_a_source_that_would_have_its_revision_asked_unencrypted_is_refused(
    mirror, tmp_path, monkeypatch
):
    certificate = self_signed(tmp_path / "certificate.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    mirror.head = {"ETag": "one"}
    with serve(b"", certificate) as encrypted:
        encrypted.answers = [f"302 Location: {mirror.url}/ml-100k.zip"]
        with pytest.raises(DownloadError, match="redirects to http address, which is not https"):
            http_download.http_revision(encrypted.url, "ml-100k.zip")
        encrypted.answers, encrypted.head = ["good"], {"ETag": "one"}
        assert http_download.http_revision(encrypted.url, "ml-100k.zip") == "ETag one"
    assert mirror.requests == []


# --- the archive that a run then receives


@pytest.fixture
def official(mirror: Mirror, archive: Path, monkeypatch: pytest.MonkeyPatch) -> Mirror:
    """The mirror, which is taken to have published this machine's copy of the archive."""
    (copy,) = (path for path in archive.iterdir() if path.name != "dataset.json")
    mirror.body = copy.read_bytes()
    published = RemoteFile("ml-100k.zip", len(mirror.body), sha256(copy))
    monkeypatch.setitem(DATASETS, "ml-100k", release("ml-100k")._replace(file=published))
    monkeypatch.setattr(archive_asset, "WAITS", (0.1, 0.2, 0.4))
    return mirror


class Receive:
    """Materializes the archive from the official source."""

    def __init__(self, instance: dg.DagsterInstance, root: Path) -> None:
        self.instance = instance
        self.root = root

    def __call__(self, **config: object) -> dg.ExecuteInProcessResult:
        settings = {"sources": ["official"], "retries": 0, "timeout": 20, **config}
        return dg.materialize(
            [movielens_archive],
            instance=self.instance,
            resources={"artifacts": Artifacts(root=str(self.root))},
            run_config={"ops": {"movielens_archive": {"config": settings}}},
            raise_on_error=False,
        )


@pytest.fixture
def receive(instance: dg.DagsterInstance, tmp_path: Path) -> Receive:
    return Receive(instance, tmp_path / "artifacts")


def cache(result: dg.ExecuteInProcessResult) -> object:
    assert result.success
    (event,) = result.get_asset_materialization_events()
    return event.step_materialization_data.materialization.metadata["cache"].value


def waits(result: dg.ExecuteInProcessResult) -> list[float | None]:
    return [
        event.step_retry_data.seconds_to_wait
        for event in result.all_events
        if event.event_type_value == "STEP_UP_FOR_RETRY"
    ]


def test_another_revision_is_received_anew_and_comes_out_the_same(receive, official):
    assert [cache(receive()), cache(receive())] == ["miss", "hit"]
    assert len(official.requests) == 1
    assert cache(receive(revision="2")) == "miss"
    assert len(official.requests) == 2
    assert [cache(receive()), cache(receive(revision="2"))] == ["hit", "hit"]


def test_what_may_pass_is_tried_again_after_longer_and_longer_waits(receive, official):
    official.answers = ["503", "hang_up", "good"]
    result = receive()
    assert cache(result) == "miss"
    assert waits(result) == [0.1, 0.2]


@pytest.mark.parametrize(("answer", "requests"), [("404", 1), ("wrong", 1), ("503", 4)])
def test_what_lasts_fails_at_once_and_what_does_not_pass_after_the_last_try(
    receive, official, answer, requests
):
    official.answers = [answer]
    result = receive()
    assert not result.success
    assert len(official.requests) == requests
    assert len(waits(result)) == requests - 1
    (failure,) = result.get_step_failure_events()
    assert "No source gave MovieLens 100k" in failure.step_failure_data.error_display_string


def test_a_path_that_is_not_there_fails_at_once(receive, tmp_path):
    result = receive(sources=[str(tmp_path / "nowhere")])
    assert not result.success
    assert waits(result) == []


@pytest.fixture
def local(receive: Receive, tmp_path: Path) -> Callable[[], dg.ExecuteInProcessResult]:
    """Materializes the archive from a folder with one rating of three stars."""
    rate(tmp_path / "ml-100k", 3)
    return lambda: receive(sources=[str(tmp_path / "ml-100k")])


class Racing:
    """Has somebody change files just before they are copied, as often as there are changes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *changes: Callable[[], None]) -> None:
        self.copied = shutil.copyfile
        self.changes = list(changes)
        monkeypatch.setattr(archive_asset, "WAITS", (0.1, 0.2))
        monkeypatch.setattr(shutil, "copyfile", self.copyfile)

    def copyfile(self, source: Path, target: Path) -> object:
        if self.changes:
            self.changes.pop(0)()
        return self.copied(source, target)


def test_ratings_that_change_while_they_are_received_are_not_taken_for_what_was_there(
    receive, local, tmp_path, monkeypatch
):
    folder = tmp_path / "ml-100k"
    Racing(monkeypatch, lambda: rate(folder, 4))
    result = local()
    assert cache(result) == "miss"
    assert waits(result) == [0.1]  # and then the fingerprint is that of what was copied
    assert cache(local()) == "hit"
    rate(folder, 3)
    assert cache(local()) == "miss"


def test_ratings_that_go_on_changing_fail_and_say_so(local, tmp_path, monkeypatch):
    folder = tmp_path / "ml-100k"
    Racing(monkeypatch, *(partial(rate, folder, stars) for stars in (4, 5, 1)))
    result = local()
    assert not result.success
    assert waits(result) == [0.1, 0.2]
    (failure,) = result.get_step_failure_events()
    error = failure.step_failure_data.error_display_string
    assert "it changed while it was received" in error
    assert "renaming" in error


def test_ratings_that_arrive_meanwhile_are_not_kept_as_those_of_nothing(
    receive, tmp_path, monkeypatch
):
    """Or whoever looks where nothing is would be given them."""
    folder = tmp_path / "ml-100k"
    monkeypatch.setattr(archive_asset, "WAITS", (0.1, 0.2))
    looks = sources.local_digest

    def then_they_arrive(source: str, dataset: str) -> str:
        try:
            return looks(source, dataset)
        finally:
            rate(folder, 3)

    monkeypatch.setattr(sources, "local_digest", then_they_arrive)
    result = receive(sources=[str(folder)])
    assert cache(result) == "miss"
    assert waits(result) == [0.1]
    monkeypatch.undo()
    assert not receive(sources=[str(tmp_path / "nowhere")]).success
