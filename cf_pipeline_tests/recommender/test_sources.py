"""Each source gives the archive whole and verified, or leaves nothing and says what would help.

A mirror and a package index of the tests' own stand in for the real ones.
"""

import hashlib
import os
import shutil
import sys
import venv
from pathlib import Path

import pytest

from cf_pipeline.recommender import sources
from cf_pipeline.recommender.movielens import read_ratings
from cf_pipeline.recommender.sources import (
    REMEDIES,
    ArchiveUnavailableError,
    source_fingerprints,
)
from cf_pipeline.recommender.verification import ReceivedArchive
from cf_pipeline_tests.recommender.fetches import Fetch, publish, published, sha256
from cf_pipeline_tests.recommender.layouts import Tables, archive_files, write_zip
from cf_pipeline_tests.recommender.mirror import Mirror, self_signed, serve

WHEEL = "recbole-1.2.1-py3-none-any.whl"


@pytest.fixture
def index(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip is configured to take as its only index; its wheel is the published one."""
    folder = tmp_path / "index"
    folder.mkdir()
    shutil.copy(wheel, folder)
    monkeypatch.setattr(sources, "RECBOLE_WHEEL", published(wheel))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


# --- official


def test_the_official_zip_is_kept_as_it_was_sent(
    fetch: Fetch, mirror: Mirror, official_zip: Path
) -> None:
    received = fetch("official")
    assert fetch.files == ["ml-100k.zip"]
    assert received == ReceivedArchive(
        source="official",
        files=("ml-100k.zip",),
        bytes=official_zip.stat().st_size,
        sha256=sha256(fetch.destination / "ml-100k.zip"),
        matches_release=True,
        checked_by="SHA-256 known in advance",
    )
    assert received.sha256 == sha256(official_zip)
    assert mirror.requests == ["/datasets/ml-100k.zip"]


def test_progress_is_logged(fetch: Fetch, mirror: Mirror) -> None:
    fetch("official")
    lines = [line for line in fetch.log if "bytes received" in line]
    assert 10 <= len(lines) <= 12
    size = f"{len(mirror.body):,}"
    assert lines[-1] == f"ml-100k.zip: {size} of {size} bytes received."


@pytest.mark.parametrize("fault", ["wrong", "429"])
def test_a_passing_fault_is_tried_again(fault: str, fetch: Fetch, mirror: Mirror) -> None:
    mirror.answers = [fault, "good"]
    assert fetch("official").matches_release
    assert fetch.files == ["ml-100k.zip"]
    assert len(mirror.requests) == 2
    assert any(line.startswith("This attempt failed: ") for line in fetch.log)


def test_a_published_zip_has_the_published_ratings(
    fetch: Fetch, mirror: Mirror, tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = write_zip(tables._replace(ratings=tables.ratings.slice(1)), tmp_path / "ml-100k.zip")
    publish(short, monkeypatch)
    mirror.body = short.read_bytes()
    assert "are not those of the release" in fetch.fails("official")


def test_the_proxy_of_the_environment_is_used(
    fetch: Fetch, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", mirror.url)
    monkeypatch.setenv(sources.URL_VARIABLE, "http://mirror.invalid")
    fetch("official")
    assert mirror.requests == ["http://mirror.invalid/ml-100k.zip"]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
def test_a_certificate_of_the_environment_is_trusted(
    fetch: Fetch, official_zip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = self_signed(tmp_path / "certificate.pem")
    publish(official_zip, monkeypatch)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with serve(official_zip.read_bytes(), certificate) as mirror:
        monkeypatch.setenv(sources.URL_VARIABLE, mirror.url)
        assert fetch("official").matches_release


# --- package index


def test_the_wheel_comes_through_pip(fetch: Fetch, index: Path, wheel: Path) -> None:
    received = fetch("package_index")
    assert fetch.files == [WHEEL]
    assert (received.sha256, received.matches_release) == (sha256(wheel), True)
    assert read_ratings(fetch.destination).num_rows == 100_000


def test_another_wheel_is_refused(fetch: Fetch, index: Path) -> None:
    with (index / WHEEL).open("ab") as file:
        file.write(b"\0")
    message = fetch.fails("package_index")
    assert "Got" in message
    assert REMEDIES["package_index"] in message


def test_pip_may_be_missing(
    fetch: Fetch, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv.create(tmp_path / "venv", symlinks=True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "bin" / "python"))
    message = fetch.fails("package_index")
    assert "No module named pip" in message
    assert "python -m ensurepip" in message


def test_pip_may_take_too_long(fetch: Fetch, index: Path) -> None:
    assert "pip took longer than 0.01 s" in fetch.fails("package_index", timeout=0.01)


# --- local


def test_a_local_zip_is_copied(fetch: Fetch, official_zip: Path) -> None:
    received = fetch(official_zip)
    assert (received.source, received.files) == (str(official_zip), ("ml-100k.zip",))
    assert (received.sha256, received.matches_release) == (sha256(official_zip), True)


@pytest.mark.parametrize("inner", ["", "ml-100k"])
def test_a_local_folder_is_copied(inner: str, fetch: Fetch, tables: Tables, tmp_path: Path) -> None:
    folder = tmp_path / "folder" / inner
    folder.mkdir(parents=True)
    for name, data in archive_files(tables).items():
        (folder / name).write_bytes(data)
    (folder / "u1.base").touch()
    received = fetch(tmp_path / "folder")
    assert received.files == ("u.item", "u.user", "u.genre", "u.data")
    assert fetch.files == sorted(received.files)
    assert received.bytes == sum(map(len, archive_files(tables).values()))
    lines = [f"{sha256(fetch.destination / name)}  {name}\n" for name in received.files]
    assert received.sha256 == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert received.matches_release


def test_what_was_fetched_is_a_source(fetch: Fetch, official_zip: Path, tmp_path: Path) -> None:
    fetch(official_zip)
    again = Fetch(tmp_path / "again")
    assert again(fetch.destination).sha256 == sha256(official_zip)


def test_other_ratings_are_taken_with_a_warning(fetch: Fetch, tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("1\t2\t3\t881250949\n")
    assert not fetch(tmp_path / "u.data").matches_release
    assert any(line.startswith("WARNING: the ratings in ") for line in fetch.log)
    assert read_ratings(fetch.destination).num_rows == 1


# --- several


def test_the_next_source_is_tried(fetch: Fetch, mirror: Mirror, index: Path) -> None:
    mirror.answers = ["404"]
    received = fetch("/no/such/folder", "auto")
    assert received.source == "package_index"
    assert fetch.files == [WHEEL]
    assert any(line.startswith("official did not give") and "404" in line for line in fetch.log)
    assert any("/no/such/folder" in line for line in fetch.log)


def test_every_cause_and_remedy_is_reported(
    fetch: Fetch, mirror: Mirror, index: Path, tmp_path: Path
) -> None:
    mirror.answers = ["404"]
    (index / WHEEL).unlink()
    page = tmp_path / "ml-100k.zip"
    page.write_text("<html>Sign in</html>")
    with pytest.raises(ArchiveUnavailableError) as caught:
        fetch("auto", page, "offical", "official")
    assert list(caught.value.causes) == ["official", "package_index", str(page), "offical"]
    message = str(caught.value)
    no_wheel = "No matching distribution found for recbole==1.2.1"
    for part in ("404", no_wheel, "nor one sound zip", *REMEDIES.values()):
        assert part in message
    assert message.count("Give the path of ml-100k.zip, of the recbole wheel, or of a folder") == 2
    assert len(mirror.requests) == 1
    assert sources.URL_VARIABLE in message


def test_a_destination_in_use_is_refused(fetch: Fetch, official_zip: Path) -> None:
    fetch(official_zip)
    with pytest.raises(FileExistsError, match="is not empty"):
        fetch(official_zip)
    assert fetch.files == ["ml-100k.zip"]


def fingerprints(*sources: str) -> list[str]:
    return list(source_fingerprints(sources).values())


def test_a_fingerprint_follows_the_content(official_zip: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.zip"
    shutil.copy(official_zip, copy)
    assert fingerprints("auto") == ["official", "package_index"]
    assert fingerprints(str(copy), "official") == [sha256(official_zip), "official"]
    copy.write_bytes(b"")
    assert fingerprints(str(copy)) != [sha256(official_zip)]
    copy.unlink()
    assert fingerprints(str(copy)) == ["missing"]
