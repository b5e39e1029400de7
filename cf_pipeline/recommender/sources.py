"""Where MovieLens 100k comes from: its official address, a package index, or a local copy.

What is received is checked against the published checksums and kept as it is; `movielens` reads it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cf_pipeline.recommender.downloads import (
    DownloadError,
    Log,
    RemoteFile,
    pip_download,
    sha256,
)
from cf_pipeline.recommender.http_download import http_download, http_revision
from cf_pipeline.recommender.movielens_files import archive_files, u_data, within_bounds

LICENCE = (
    "For research use; no redistribution without permission of GroupLens, University of Minnesota "
    "(https://files.grouplens.org/datasets/movielens/ml-100k-README.txt)."
)
CITATION = (
    "F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context. "
    "ACM Transactions on Interactive Intelligent Systems 5, 4, Article 19. doi:10.1145/2827872"
)
ML_100K = RemoteFile(
    "ml-100k.zip", 4_924_029, "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229"
)
# Carries u.data byte for byte, and the side tables in another layout.
RECBOLE_REQUIREMENT = "recbole==1.2.1"
RECBOLE_WHEEL = RemoteFile(
    "recbole-1.2.1-py3-none-any.whl",
    2_130_151,
    "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
)
U_DATA_SHA256 = "06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490"

OFFICIAL_URL = "https://files.grouplens.org/datasets/movielens"
# The address of a mirror; what it sends must have the same checksum.
URL_VARIABLE = "CF_PIPELINE_MOVIELENS_URL"
REMEDIES = {
    "official": "Allow HTTPS to files.grouplens.org (HTTPS_PROXY and REQUESTS_CA_BUNDLE are "
    f"honoured), set {URL_VARIABLE} to a mirror's address, or raise timeout and retries.",
    "package_index": f"Point pip at an index that has {RECBOLE_REQUIREMENT} (PIP_INDEX_URL or "
    "pip.conf), run `python -m ensurepip` if pip is missing, or raise timeout.",
}
LOCAL_REMEDY = (
    "Give the path of ml-100k.zip, of the recbole wheel, or of a folder with u.data; sources that "
    "are no path are 'auto', 'official' and 'package_index'."
)


class ArchiveUnavailableError(Exception):
    """No source gave the archive; `causes` maps each that was tried to what went wrong.

    `transient` says that one of the causes may pass by itself.
    """

    def __init__(self, causes: dict[str, str], *, transient: bool = False) -> None:
        super().__init__(
            "No source gave MovieLens 100k.\n"
            + "".join(
                f"- {source}: {cause}\n  {REMEDIES.get(source, LOCAL_REMEDY)}\n"
                for source, cause in causes.items()
            )
            + f"Or download {OFFICIAL_URL}/{ML_100K.name} by hand, and put its path into sources."
        )
        self.causes = causes
        self.transient = transient


@dataclass(frozen=True)
class ReceivedArchive:
    """What was received: the `files` in the destination, their `bytes` together, their `sha256`.

    The digest of several files is the digest of what `sha256sum` prints for them.
    `matches_release` says whether the ratings are those that GroupLens published.
    """

    source: str
    files: tuple[str, ...]
    bytes: int
    sha256: str
    matches_release: bool


def fetch_archive(
    destination: Path, sources: Sequence[str], *, timeout: float, retries: int, log: Log
) -> ReceivedArchive:
    """Put MovieLens 100k into `destination`, from the first of `sources` that gives it.

    A source is 'official', 'package_index', 'auto' (both, in this order), or the path of a local
    zip, wheel or folder. Each may take `timeout` seconds in all; 'official' is tried again up to
    `retries` times. A local copy may have other ratings than the release: a warning is logged.

    `destination` must be empty or absent. Its files appear when they are verified, and only then.

    Raises:
        ArchiveUnavailableError: no source gave it; the message says why, and the remedies.
        FileExistsError: `destination` is not empty.
        ValueError: a source is an address, which may hold a password.
    """
    destination.mkdir(parents=True, exist_ok=True)
    if any(destination.iterdir()):
        raise FileExistsError(f"{destination} is not empty: empty it, or give another directory.")
    causes, transient = {}, False
    for source in _expand(sources):
        log(f"Getting MovieLens 100k from {source}.")
        with tempfile.TemporaryDirectory(prefix=".receiving-", dir=destination) as name:
            staging = Path(name)
            try:
                _receive(source, staging, timeout, retries, log)
                received = _verify(source, staging, log)
            except (OSError, ValueError, DownloadError) as error:
                causes[source] = str(error)
                transient |= isinstance(error, DownloadError) and error.transient
                log(f"{source} did not give MovieLens 100k: {error}")
                continue
            for file in received.files:
                (staging / file).replace(destination / file)
            return received
    raise ArchiveUnavailableError(causes, transient=transient)


def source_fingerprints(sources: Sequence[str]) -> dict[str, str]:
    """Return, in the order they are tried, what tells the content of each source, offline.

    For a local source it is its SHA-256, as of `ReceivedArchive`, or 'missing': its path does not
    count. For the others, whose content a checksum fixes, it is the name.

    Raises:
        ValueError: a source is an address.
    """
    return {
        source: source if source in REMEDIES else _digest_or_missing(source)
        for source in _expand(sources)
    }


def local_digest(source: str) -> str:
    """Return the SHA-256 of the archive at a path, as of `ReceivedArchive`.

    Raises:
        OSError: nothing is there, or it cannot be read.
        ValueError: it is not MovieLens 100k in a layout known here, or too large.
    """
    return _sha256(_local_files(source))


def last_change(source: str) -> float:
    """Return when the archive at a path last changed, in seconds since 1970.

    Raises:
        OSError: nothing is there, or it cannot be read.
        ValueError: it is not MovieLens 100k in a layout known here, or too large.
    """
    return max(file.stat().st_mtime for file in _local_files(source))


def official_revision() -> str:
    """Return what tells that the official source's archive changed, without downloading it.

    Raises:
        DownloadError: the server cannot be reached, refuses, or does not tell.
    """
    return http_revision(_official_url(), ML_100K.name)


def _official_url() -> str:
    return os.environ.get(URL_VARIABLE, OFFICIAL_URL)


def _expand(sources: Sequence[str]) -> list[str]:
    """Return the sources to try, each once."""
    for number, source in enumerate(sources, 1):
        if "://" in source:  # which may hold a password, so it is not quoted
            raise ValueError(
                f"Source {number} is an address, but sources are names or paths. Put the address "
                f"of a mirror into the environment variable {URL_VARIABLE}; if this one has a "
                "password, change that: Dagster keeps the config of every run in its history."
            )
    named = (REMEDIES if source == "auto" else [source] for source in sources)
    return list(dict.fromkeys(source for group in named for source in group))


def _receive(source: str, staging: Path, timeout: float, retries: int, log: Log) -> None:
    if source == "official":
        http_download(_official_url(), ML_100K, staging, timeout=timeout, retries=retries, log=log)
    elif source == "package_index":
        pip_download(RECBOLE_REQUIREMENT, RECBOLE_WHEEL, staging, timeout=timeout)
    else:
        for file in _local_files(source):
            shutil.copyfile(file, staging / file.name)


def _verify(source: str, staging: Path, log: Log) -> ReceivedArchive:
    """Return what is in `staging`, ValueError if it is a remote source's and not the release."""
    files = archive_files(staging)
    matches = hashlib.sha256(u_data(staging)).hexdigest() == U_DATA_SHA256
    if not matches:
        if source in REMEDIES:
            raise ValueError(f"the ratings in {files[0].name} are not those of the release")
        log(f"WARNING: the ratings in {source} are not those of the published MovieLens 100k.")
    size = sum(file.stat().st_size for file in files)
    return ReceivedArchive(
        source, tuple(file.name for file in files), size, _sha256(files), matches
    )


def _sha256(files: Sequence[Path]) -> str:
    digests = {file.name: sha256(file) for file in files}
    if len(digests) == 1:
        return digests.popitem()[1]
    lines = "".join(f"{digest}  {name}\n" for name, digest in digests.items())
    return hashlib.sha256(lines.encode()).hexdigest()


def _local_files(source: str) -> list[Path]:
    try:
        path = Path(source).expanduser()
    except RuntimeError as error:  # there is no such user
        raise FileNotFoundError(f"{source}: {error}") from error
    if path.is_file():
        return [within_bounds(path)]
    inner = path / "ml-100k"  # what unpacking the zip gives
    return archive_files(inner if inner.is_dir() else path)


def _digest_or_missing(source: str) -> str:
    try:
        return local_digest(source)
    except (OSError, ValueError):
        return "missing"
