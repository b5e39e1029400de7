"""Each source gives the archive whole and verified, or leaves nothing and says what would help.

A mirror and a package index of the tests' own stand in for the real ones.
"""

import hashlib
import os
import shutil
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cf_pipeline.recommender import sources
from cf_pipeline.recommender.datasets import DATASETS, release
from cf_pipeline.recommender.downloads import RemoteFile
from cf_pipeline.recommender.movielens import read_ratings
from cf_pipeline.recommender.sources import (
    REMEDIES,
    ArchiveUnavailableError,
    fetch_archive,
    source_fingerprints,
)
from cf_pipeline.recommender.verification import ReceivedArchive
from cf_pipeline_tests.recommender.layouts import Tables, archive_files, read, write_zip
from cf_pipeline_tests.recommender.mirror import Mirror, self_signed, serve
from cf_pipeline_tests.recommender.releases import some_tables, write_release

WHEEL = "recbole-1.2.1-py3-none-any.whl"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def published(path: Path) -> RemoteFile:
    return RemoteFile(path.name, path.stat().st_size, sha256(path))


def publish(
    path: Path, monkeypatch: pytest.MonkeyPatch, dataset: str = "ml-100k", **known: Any
) -> None:
    """Take a file for the one that GroupLens published; `known` is what is known of it."""
    file = published(path)._replace(**known)
    monkeypatch.setitem(DATASETS, dataset, release(dataset)._replace(file=file))


@pytest.fixture
def mirror(official_zip: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """A mirror whose ml-100k.zip is taken for the published one."""
    publish(official_zip, monkeypatch)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve(official_zip.read_bytes()) as mirror:
        monkeypatch.setenv(sources.URL_VARIABLE, mirror.url)
        yield mirror


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


class Fetch:
    """Fetches into `destination`, and keeps what was logged."""

    def __init__(self, destination: Path) -> None:
        self.destination = destination
        self.log: list[str] = []

    def __call__(
        self,
        *names: str | Path,
        timeout: float = 60.0,
        retries: int = 1,
        dataset: str = "ml-100k",
    ) -> ReceivedArchive:
        return fetch_archive(
            self.destination,
            [str(name) for name in names],
            timeout=timeout,
            retries=retries,
            log=self.log.append,
            dataset=dataset,
        )

    def fails(
        self,
        *names: str | Path,
        timeout: float = 60.0,
        retries: int = 1,
        dataset: str = "ml-100k",
    ) -> str:
        """Fetch in vain, and return the message."""
        with pytest.raises(ArchiveUnavailableError) as caught:
            self(*names, timeout=timeout, retries=retries, dataset=dataset)
        assert list(self.destination.iterdir()) == []
        return str(caught.value)

    @property
    def files(self) -> list[str]:
        """What was received, but for the file that says what it is."""
        return sorted(
            path.name for path in self.destination.iterdir() if path.name != "dataset.json"
        )


@pytest.fixture
def fetch(tmp_path: Path) -> Fetch:
    return Fetch(tmp_path / "archive")


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


@pytest.mark.parametrize("fault", ["500", "cut", "wrong", "429"])
def test_a_passing_fault_is_tried_again(fault: str, fetch: Fetch, mirror: Mirror) -> None:
    mirror.answers = [fault, "good"]
    assert fetch("official").matches_release
    assert fetch.files == ["ml-100k.zip"]
    assert len(mirror.requests) == 2
    assert any(line.startswith("This attempt failed: ") for line in fetch.log)


def test_a_lasting_fault_is_reported_with_the_remedy(fetch: Fetch, mirror: Mirror) -> None:
    mirror.answers = ["404"]
    message = fetch.fails("official")
    assert "HTTP 404 Not Found" in message
    assert REMEDIES["official"] in message


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


def test_pip_says_what_it_lacks(fetch: Fetch, index: Path) -> None:
    (index / WHEEL).unlink()
    assert "No matching distribution found for recbole==1.2.1" in fetch.fails("package_index")


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


# --- other releases


class Released:
    """A mirror with a release that the test made, and the file that it has there."""

    def __init__(self, mirror: Mirror, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mirror = mirror
        self._folder = folder
        self._monkeypatch = monkeypatch

    def __call__(self, dataset: str, **known: Any) -> Path:
        """Publish `dataset`; `known` is what is known of its file, if not the size and SHA-256."""
        write_release(dataset, some_tables(dataset), self._folder, zipped=True)
        path = self._folder / release(dataset).file.name
        publish(path, self._monkeypatch, dataset, **known)
        self.mirror.body = path.read_bytes()
        return path


@pytest.fixture
def released(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Released:
    return Released(mirror, tmp_path / "released", monkeypatch)


UNKNOWN: dict[str, Any] = {"bytes": None, "sha256": None}


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("dataset", ["ml-1m", "ml-25m", "ml-latest-small"])
def test_a_release_comes_from_a_mirror(dataset: str, fetch: Fetch, released: Released) -> None:
    path = released(dataset)
    received = fetch("auto", dataset=dataset)
    assert (received.source, received.sha256) == ("official", sha256(path))
    assert (received.matches_release, received.checked_by) == (True, "SHA-256 known in advance")
    assert fetch.files == [path.name]
    assert read_ratings(fetch.destination) == some_tables(dataset).ratings
    assert released.mirror.requests == [f"/datasets/{path.name}"]


def test_an_md5_that_is_known_is_enough(fetch: Fetch, released: Released) -> None:
    path = released("ml-10m", **UNKNOWN)
    publish_md5 = {**UNKNOWN, "md5": md5(path)}
    released("ml-10m", **publish_md5)
    assert fetch("official", dataset="ml-10m").checked_by == "MD5 known in advance"
    released("ml-10m", **UNKNOWN, md5="0" * 32)
    again = Fetch(fetch.destination.with_name("again"))
    assert "MD5" in again.fails("official", dataset="ml-10m", retries=0)


@pytest.mark.parametrize("written", ["{}  ml-32m.zip\n", "MD5 (ml-32m.zip) = {}\n"])
def test_an_md5_beside_the_file_says_only_that_it_came_whole(
    written: str, fetch: Fetch, released: Released
) -> None:
    path = released("ml-32m", **UNKNOWN)
    released.mirror.others["ml-32m.zip.md5"] = written.format(md5(path)).encode()
    received = fetch("official", dataset="ml-32m")
    assert not received.matches_release
    assert any(line.startswith("WARNING: the ratings in official") for line in fetch.log)
    assert received.checked_by == "MD5 in ml-32m.zip.md5, from the same address"
    assert released.mirror.requests == ["/datasets/ml-32m.zip.md5", "/datasets/ml-32m.zip"]


@pytest.mark.parametrize(
    ("beside", "message"),
    [
        (b"0" * 32, "MD5"),
        (b"<html>Sign in</html>", "does not hold one MD5"),
        (b"%s\n%s\n" % (b"0" * 32, b"1" * 32), "does not hold one MD5"),
        (b"0" * 1001, "more bytes are sent than"),
    ],
)
def test_a_wrong_md5_beside_the_file_is_refused(
    beside: bytes, message: str, fetch: Fetch, released: Released
) -> None:
    released("ml-32m", **UNKNOWN)
    released.mirror.others["ml-32m.zip.md5"] = beside
    assert message in fetch.fails("official", dataset="ml-32m", retries=0)


def test_a_file_of_unknown_size_does_not_fill_the_disk(fetch: Fetch, released: Released) -> None:
    path = released("ml-10m", **UNKNOWN)
    released("ml-10m", **UNKNOWN, md5=md5(path), most=1 << 16)
    released.mirror.answers = ["endless"]
    assert "more bytes are sent than ml-10m.zip has" in fetch.fails("official", dataset="ml-10m")


def test_a_release_that_moved_is_refused_and_taken_from_a_path(
    fetch: Fetch, released: Released
) -> None:
    path = released("ml-latest-small", sha256="0" * 64)
    message = fetch.fails("auto", dataset="ml-latest-small", retries=0)
    assert "SHA-256" in message
    assert "GroupLens changes this one at times" in message
    received = fetch(path, dataset="ml-latest-small")
    assert (received.matches_release, received.checked_by) == (False, "nothing")
    assert any(line.startswith("WARNING: the ratings in ") for line in fetch.log)


def test_the_package_index_has_but_one_release(fetch: Fetch, released: Released) -> None:
    released("ml-1m")
    released.mirror.answers = ["404"]
    message = fetch.fails("auto", dataset="ml-1m")
    assert "No source gave MovieLens 1m" in message
    assert "The package index has ml-100k only." in message
    message = fetch.fails("package_index", dataset="ml-1m")
    assert "the package index has ml-100k only, not ml-1m" in message
    assert "sources that are no path are 'auto' and 'official'" in message
    assert list(source_fingerprints(["auto"], "ml-1m")) == ["official"]


@pytest.mark.parametrize("dataset", ["ml-1m", "ml-10m", "ml-20m"])
def test_a_local_copy_of_a_release_is_copied(
    dataset: str, fetch: Fetch, released: Released, tmp_path: Path
) -> None:
    path = released(dataset)
    assert fetch(path, dataset=dataset).checked_by == f"checksum of {dataset}.zip"
    unpacked = write_release(
        dataset, some_tables(dataset), tmp_path / "un" / release(dataset).folder, zipped=False
    )
    again = Fetch(tmp_path / "again")
    received = again(unpacked.parent, dataset=dataset)
    assert (received.matches_release, sorted(received.files)) == (False, again.files)
    assert read(again.destination) == read(fetch.destination)
    assert source_fingerprints([str(unpacked)], dataset) == {str(unpacked): received.sha256}


def test_another_release_at_the_path_is_refused(fetch: Fetch, released: Released) -> None:
    path = released("ml-1m")
    message = fetch.fails(path, dataset="ml-20m")
    assert "none of ['ml-20m/ratings.csv', 'ratings.csv']" in message
    assert "Give the path of ml-20m.zip or of a folder with ratings.csv" in message
    with pytest.raises(ValueError, match="'ml-3m' is no release"):
        fetch(path, dataset="ml-3m")


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
    for part in ("404", "No matching distribution", "nor one sound zip", *REMEDIES.values()):
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
