"""Where anybody's own tables are: what tells that they changed, and what is refused."""

import gzip
import os
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import fsspec
import pytest

from cf_pipeline.recommender.custom_archive import changed, fetch_custom
from cf_pipeline.recommender.custom_files import (
    MISSING,
    CustomTableError,
    fingerprint,
    last_change,
    read_batches,
    receive,
)
from cf_pipeline.recommender.custom_settings import CustomMoviesSettings, CustomRatingsSettings
from cf_pipeline_tests.s3_server import BUCKET, s3_server, variables
from cf_pipeline_tests.webserver import free_port

TEXT = "user,item,rating\n1,2,3\n"
Put = Callable[[str], str]


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Put]:
    """Puts text on S3, as another process would, and returns its address."""
    port = free_port()
    for name, value in variables(port).items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()

    def put(text: str) -> str:
        elsewhere = fsspec.filesystem("s3", skip_instance_cache=True)
        elsewhere.pipe(f"{BUCKET}/ratings/part.csv", text.encode())
        return f"s3://{BUCKET}/ratings"

    with s3_server(port):
        yield put


class _Handler(SimpleHTTPRequestHandler):
    headers_left_out: tuple[str, ...] = ()

    def send_header(self, keyword: str, value: str) -> None:
        if keyword not in self.headers_left_out:
            super().send_header(keyword, value)

    def log_message(self, *_: object) -> None:
        pass


class _SilentHandler(_Handler):
    headers_left_out = ("Last-Modified",)


@pytest.fixture
def http(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Put]:
    """Puts text behind a web server, and returns its address."""
    (tmp_path / "served").mkdir()
    handler = getattr(request, "param", _Handler)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=tmp_path / "served"))
    Thread(target=server.serve_forever, args=[0.02], daemon=True).start()

    def put(text: str) -> str:
        (tmp_path / "served" / "ratings.csv").write_text(text)
        return f"http://127.0.0.1:{server.server_port}/ratings.csv"

    yield put
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("kind", ["s3", "http"])
def test_a_change_is_seen_by_a_process_that_looked_before(kind, request, tmp_path):
    put = request.getfixturevalue(kind)
    address = put(TEXT)
    before = fingerprint(address)
    assert fingerprint(address) == before != MISSING
    seen = last_change(address)
    assert (seen > 0) == (kind == "s3")
    assert put(f"{TEXT}4,5,6\n") == address
    assert fingerprint(address) not in (before, MISSING)
    (name,) = receive(address, tmp_path, "ratings")
    assert (tmp_path / name).read_text() == f"{TEXT}4,5,6\n"


@pytest.mark.parametrize("http", [_SilentHandler], indirect=True)
def test_a_server_that_does_not_tell_of_changes_is_refused(http, tmp_path):
    address = http(TEXT)
    with pytest.raises(CustomTableError, match="does not tell when it changes.*: download it"):
        receive(address, tmp_path, "ratings")
    assert fingerprint(address) == MISSING


@pytest.mark.parametrize("where", ["ratings", "movies"])
def test_no_password_is_logged(where, tmp_path):
    secret = "s3://me:s3cret@host/x.csv"
    (tmp_path / "r.csv").write_text(TEXT)
    paths = {"ratings": str(tmp_path / "r.csv"), "movies": str(tmp_path / "r.csv"), where: secret}
    settings = CustomRatingsSettings(
        path=paths["ratings"], movies=CustomMoviesSettings(path=paths["movies"])
    )
    (tmp_path / "archive").mkdir()
    log: list[str] = []
    with pytest.raises(CustomTableError) as error:
        fetch_custom(tmp_path / "archive", settings, log.append)
    assert "s3cret" not in f"{log} {error.value}"


def test_the_tables_changed_when_the_last_one_did(tmp_path):
    for name, at in (("ratings", 1000), ("movies", 2000)):
        (tmp_path / f"{name}.csv").write_text(TEXT)
        os.utime(tmp_path / f"{name}.csv", (at, at))
    movies = CustomMoviesSettings(path=str(tmp_path / "movies.csv"))
    settings = CustomRatingsSettings(path=str(tmp_path / "ratings.csv"), movies=movies)
    assert changed(settings) == 2000
    (tmp_path / "movies.csv").unlink()
    with pytest.raises(CustomTableError, match="there is nothing"):
        changed(settings)


def test_an_empty_path_is_not_the_working_directory(tmp_path):
    with pytest.raises(CustomTableError, match="path of a table is empty"):
        receive("", tmp_path, "ratings")


@pytest.mark.parametrize("name", ["what?.csv", "a#b.csv", "a:b@c.csv", "R.CSV.GZ"])
def test_a_file_may_be_called_anything(name, tmp_path):
    data = TEXT.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("GZ") else data)
    (tmp_path / "archive").mkdir()
    (copy,) = receive(str(tmp_path / name), tmp_path / "archive", "ratings")
    settings = CustomRatingsSettings(path="")
    batches = read_batches([tmp_path / "archive" / copy], settings, {"user": None})
    assert [batch.to_pydict() for *_, batch in batches] == [{"user": ["1"]}]
