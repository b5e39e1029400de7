"""Whatever a mirror does, a download ends in time, with a clear error that tells no secret."""

import logging
import os
import shutil
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from cf_pipeline.recommender import downloads, http_download, sources
from cf_pipeline.recommender.datasets import DATASETS, release
from cf_pipeline.recommender.downloads import DownloadError, RemoteFile, redacted
from cf_pipeline.recommender.sources import (
    ArchiveUnavailableError,
    fetch_archive,
    source_fingerprints,
)
from cf_pipeline_tests.recommender.mirror import Mirror, serve
from cf_pipeline_tests.recommender.network_faults import BODY, FAULTS, NetworkFault, meet

PUBLISHED = RemoteFile("ml-100k.zip", len(BODY), sha256(BODY).hexdigest())
SECRETS = "alice", "s3cret", "s%2Fcret", "signature", "c2lnbmVk"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_an_error_in_time(fault: NetworkFault, tmp_path: Path) -> None:
    if fault.tls and shutil.which("openssl") is None:
        pytest.skip("makes a certificate with openssl")
    meet(fault, tmp_path)


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    with serve(BODY) as mirror:
        yield mirror


class Download:
    """Downloads PUBLISHED into `folder`, and keeps what was logged, and in which thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log: list[str] = []
        self.threads: set[threading.Thread] = set()

    def __call__(self, url: str, timeout: float = 60.0, retries: int = 1) -> bytes:
        http_download.http_download(
            url, PUBLISHED, self.folder, timeout=timeout, retries=retries, log=self._keep
        )
        return (self.folder / PUBLISHED.name).read_bytes()

    def _keep(self, line: str) -> None:
        self.log.append(line)
        self.threads.add(threading.current_thread())

    def fails(self, url: str, timeout: float = 60.0, retries: int = 1) -> str:
        with pytest.raises(DownloadError) as caught:
            self(url, timeout, retries)
        assert list(self.folder.iterdir()) == []
        assert caught.value.__cause__ is caught.value.__context__ is None
        return str(caught.value)


@pytest.fixture
def download(tmp_path: Path) -> Download:
    return Download(tmp_path)


# --- time


def test_a_pause_that_the_server_asks_for_is_kept(download: Download, mirror: Mirror) -> None:
    mirror.answers = ["503 Retry-After: 2", "good"]
    started = time.monotonic()
    assert download(mirror.url) == BODY
    assert time.monotonic() - started >= 2  # pooch alone would wait for a second
    assert "The server asks for a pause of 2 s." in download.log


def test_a_stall_is_tried_again_while_there_is_time(
    download: Download, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_download, "READ_TIMEOUT", 0.2)
    mirror.answers = ["stalled", "stalled_in_body", "good"]
    assert download(mirror.url, retries=2) == BODY
    assert sum("Read timed out" in line for line in download.log) == 2


def test_a_name_server_that_does_not_answer_is_given_up(
    download: Download, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: done.wait(60) and [])
    started = time.monotonic()
    assert "not received within 0.5 s" in download.fails("http://mirror.invalid", timeout=0.5)
    assert time.monotonic() - started < 30  # it would answer after 60
    done.set()


def test_nothing_is_heard_of_a_download_that_was_given_up(
    download: Download, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on in its thread, to the end even, but neither logs nor leaves anything."""
    before = set(threading.enumerate())
    late = threading.Event()
    find = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: late.wait(60) and find(*a, **k))
    download.fails(mirror.url, timeout=0.3)
    lines = list(download.log)
    late.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
    assert list(download.folder.iterdir()) == []
    assert download.log == lines == ["Downloading ml-100k.zip from 127.0.0.1."]
    assert download.threads == {threading.current_thread()}


# --- secrets


def untold(*texts: str) -> bool:
    return not any(secret in text for secret in SECRETS for text in texts)


def test_the_password_is_sent_but_not_told(
    download: Download, mirror: Mirror, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    mirror.answers = ["500", "good"]
    assert download(mirror.url.replace("//", "//alice:s%2Fcret@")) == BODY
    assert mirror.logins == ["Basic YWxpY2U6cy9jcmV0"] * 2  # alice:s/cret
    assert any("HTTP 500" in line for line in download.log)
    assert untold(*download.log, caplog.text)


def test_another_host_does_not_get_the_password(download: Download, mirror: Mirror) -> None:
    elsewhere = mirror.url.replace("127.0.0.1", "localhost")
    mirror.answers = [f"302 Location: {elsewhere}/ml-100k.zip", "good"]
    assert download(mirror.url.replace("//", "//alice:s3cret@")) == BODY
    assert [bool(login) for login in mirror.logins] == [True, False]


SIGNED = "x?signature=c2lnbmVk"


@pytest.mark.parametrize(
    "answer",
    [
        "404",
        "500",
        "hang_up",
        "reset",
        "wrong",
        "gzip_bomb",
        "odd_header",
        "503 Retry-After: 99",
        f"302 Location: /{SIGNED}",
        f"302 Location: ftp://alice:s3cret@127.0.0.1/{SIGNED}",
        f"302 Location: http://alice:s3cret@127.0.0.1:9/{SIGNED}",
        f"302 Location: http://alice:s3cret/@127.0.0.1/{SIGNED}",
        f"302 Location: http://[alice:s3cret/@127.0.0.1/{SIGNED}",
    ],
)
def test_what_a_redirect_holds_is_not_told(
    answer: str,
    mirror: Mirror,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setitem(DATASETS, "ml-100k", release("ml-100k")._replace(file=PUBLISHED))
    monkeypatch.setenv(sources.URL_VARIABLE, mirror.url.replace("//", "//alice:s3cret@"))
    mirror.answers = [f"302 Location: /{SIGNED}", answer]
    log: list[str] = []
    with pytest.raises(ArchiveUnavailableError) as caught:
        fetch_archive(tmp_path / "to", ["official"], timeout=60, retries=0, log=log.append)
    assert len(mirror.requests) > 1
    chain = "".join(traceback.format_exception(caught.value))
    assert untold(*log, *caught.value.causes.values(), chain, caplog.text)


@pytest.mark.parametrize(
    "address",
    [
        "http://alice:s3c/ret@127.0.0.1",
        "http://alice:s3c?ret@127.0.0.1",
        "http://alice:1/s3cret@127.0.0.1",
        "ftp://alice:s3cret@127.0.0.1",
        "http://[alice:s3cret@127.0.0.1",
        "alice:s3cret@127.0.0.1",
        "http://",
        "",
    ],
)
def test_an_address_that_is_none_is_refused_unquoted(address: str, download: Download) -> None:
    message = download.fails(address)
    assert "is not an http or https one" in message
    assert "s3c" not in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://alice:s3cret@host/a.zip failed", "https://***@host/a.zip failed"),
        ("https://alice:s3@cret@host", "https://***@host"),
        ("'https://host/a?signature=a@b&c=d' failed", "'https://host/a?*** failed"),
        ("url: /a.zip?next=https://x/&signature=1 (", "url: /a.zip?*** ("),
        ("http://a?b=c,http://alice:s3cret@host", "http://a?***"),
        ("http://a,http://alice:s3cret@host/", "http://***@host/"),
        ("Is that so? Then write to alice@host.", "Is that so? Then write to alice@host."),
        ("https://host/a.zip and\nhttp://b", "https://host/a.zip and\nhttp://b"),
        ("https://host/a.zip#token=s3cret", "https://host/a.zip#***"),
        ("proxy alice:s3cret@proxy:3128 failed", "proxy ***@proxy:3128 failed"),
        ("https://alice:s3c?ret@host/", "https://***"),
        ("https://host:8080/a?b=c@d", "https://host:8080/a?***"),
    ],
)
def test_addresses_are_redacted(text: str, expected: str) -> None:
    assert redacted(text) == expected


def test_long_texts_are_redacted_in_no_time() -> None:
    started = time.monotonic()
    redacted("a://@?" * 100_000)
    assert time.monotonic() - started < 10  # its time grows with the text alone


def test_what_pip_says_of_addresses_is_redacted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip = tmp_path / "python"
    pip.write_text(f"#!/bin/sh\necho no https://alice:s3cret@host/{SIGNED} >&2\nexit 1\n")
    pip.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(pip))
    with pytest.raises(DownloadError, match=r"^no https://\*\*\*@host/x\?\*\*\*$"):
        downloads.pip_download("recbole", PUBLISHED, tmp_path, timeout=60)


def test_an_index_that_never_ends_fills_no_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = RemoteFile("recbole-1.2.1-py3-none-any.whl", 1000, "0" * 64)
    for name, value in {
        "TMPDIR": str(tmp_path),
        "NO_PROXY": "127.0.0.1",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_RETRIES": "0",
    }.items():
        monkeypatch.setenv(name, value)
    with serve(f'<a href="/{wheel.name}">{wheel.name}</a>'.encode()) as index:
        index.answers = ["page", "endless"]
        monkeypatch.setenv("PIP_INDEX_URL", index.url)
        with pytest.raises(DownloadError, match="File too large"):
            downloads.pip_download("recbole==1.2.1", wheel, tmp_path / "to", timeout=60)
    assert index.requests[-1] == f"/{wheel.name}"
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_an_address_among_the_sources_is_refused_unquoted(tmp_path: Path) -> None:
    names = ["official", "https://alice:s3cret@127.0.0.1/ml-100k.zip"]
    refusal = "Source 2 is an address.*environment variable CF_PIPELINE_MOVIELENS_URL.*change that"
    with pytest.raises(ValueError, match=refusal) as caught:
        fetch_archive(tmp_path, names, timeout=1, retries=0, log=print)
    with pytest.raises(ValueError, match=refusal):
        source_fingerprints(names)
    assert untold(str(caught.value))
