"""Where a release of MovieLens comes from: its official address, a package index, or a local copy.

What is received is checked against the published checksums and kept as it is; `movielens` reads it.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from cf_pipeline.recommender.datasets import OFFICIAL_URL, Dataset, describe, release
from cf_pipeline.recommender.downloads import DownloadError, Log, RemoteFile, pip_download
from cf_pipeline.recommender.movielens_files import archive_files, within_bounds
from cf_pipeline.recommender.verification import ReceivedArchive, digest_of, verify

PACKAGED = "ml-100k"  # what the package index has
# Carries u.data byte for byte, and the side tables in another layout.
RECBOLE_REQUIREMENT = "recbole==1.2.1"
RECBOLE_WHEEL = RemoteFile(
    "recbole-1.2.1-py3-none-any.whl",
    2_130_151,
    "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
)

# The address of a mirror; what it sends must have the same checksum.
URL_VARIABLE = "CF_PIPELINE_MOVIELENS_URL"
REMEDIES = {
    "official": "Allow HTTPS to files.grouplens.org (HTTPS_PROXY and REQUESTS_CA_BUNDLE are "
    f"honoured), set {URL_VARIABLE} to a mirror's address, or raise timeout and retries.",
    "package_index": f"Point pip at an index that has {RECBOLE_REQUIREMENT} (PIP_INDEX_URL or "
    "pip.conf), run `python -m ensurepip` if pip is missing, or raise timeout.",
}


def remedy(source: str, dataset: Dataset) -> str:
    """Return what to do if a source does not give a dataset."""
    if source == "official" and dataset.name != PACKAGED:
        only = f"The package index has {PACKAGED} only."
        return " ".join(filter(None, [REMEDIES[source], only, dataset.note]))
    if source in _named("auto", dataset):
        return REMEDIES[source]
    wheel = ", of the recbole wheel," if dataset.name == PACKAGED else ""
    *names, last = map(repr, ["auto", *_named("auto", dataset)])
    return (
        f"Give the path of {dataset.file.name}{wheel} or of a folder with "
        f"{dataset.layouts[0].ratings.file}; sources that are no path are "
        f"{', '.join(names)} and {last}."
    )


class ArchiveUnavailableError(Exception):
    """No source gave the archive; `causes` maps each that was tried to what went wrong.

    `transient` says that one of the causes may pass by itself.
    """

    def __init__(
        self, causes: dict[str, str], dataset: Dataset, *, transient: bool = False
    ) -> None:
        super().__init__(
            f"No source gave {dataset.title}.\n"
            + "".join(
                f"- {source}: {cause}\n  {remedy(source, dataset)}\n"
                for source, cause in causes.items()
            )
            + f"Or download {OFFICIAL_URL}/{dataset.file.name} by hand, and put its path into "
            "sources."
        )
        self.causes = causes
        self.transient = transient


def fetch_archive(
    destination: Path,
    sources: Sequence[str],
    *,
    timeout: float,
    retries: int,
    log: Log,
    dataset: str = PACKAGED,
) -> ReceivedArchive:
    """Put a release of MovieLens into `destination`, from the first of `sources` that gives it.

    A source is 'official', 'package_index' (which has ml-100k only), 'auto' (those that have the
    dataset, in this order), or the path of a local zip, wheel or folder. Each may take `timeout`
    seconds in all; 'official' is tried again up to `retries` times. A local copy may have other
    ratings than the release: a warning is logged.

    `destination` must be empty or absent. Its files appear when they are verified, and only then,
    and beside them a dataset.json, which says what they are.

    Raises:
        ArchiveUnavailableError: no source gave it; the message says why, and the remedies.
        FileExistsError: `destination` is not empty.
        ValueError: a source is an address, which may hold a password; or there is no such release.
    """
    chosen = release(dataset)
    destination.mkdir(parents=True, exist_ok=True)
    if any(destination.iterdir()):
        raise FileExistsError(f"{destination} is not empty: empty it, or give another directory.")
    causes, transient = {}, False
    for source in _expand(sources, chosen):
        log(f"Getting {chosen.title} from {source}.")
        with tempfile.TemporaryDirectory(prefix=".receiving-", dir=destination) as name:
            staging = Path(name)
            try:
                checked_by = _receive(source, chosen, staging, timeout, retries, log)
                received = verify(source, chosen, staging, checked_by, log)
            except (OSError, ValueError, DownloadError) as error:
                causes[source] = str(error)
                transient |= isinstance(error, DownloadError) and error.transient
                log(f"{source} did not give {chosen.title}: {error}")
                continue
            for file in received.files:
                (staging / file).replace(destination / file)
            describe(destination, dataset)
            return received
    raise ArchiveUnavailableError(causes, chosen, transient=transient)


def source_fingerprints(sources: Sequence[str], dataset: str = PACKAGED) -> dict[str, str]:
    """Return, in the order they are tried, what tells the content of each source, offline.

    For a local source it is its SHA-256, as of `ReceivedArchive`, or 'missing': its path does not
    count. For the others it is the name: a checksum fixes their content, except that of ml-32m.

    Raises:
        ValueError: a source is an address; or there is no such release.
    """
    chosen = release(dataset)
    return {
        source: source if source in REMEDIES else _digest_or_missing(source, chosen)
        for source in _expand(sources, chosen)
    }


def local_digest(source: str, dataset: str = PACKAGED) -> str:
    """Return the SHA-256 of the archive at a path, as of `ReceivedArchive`.

    Raises:
        OSError: nothing is there, or it cannot be read.
        ValueError: it is not the dataset in a layout known here, or too large.
    """
    return digest_of(_local_files(source, release(dataset)))


def last_change(source: str, dataset: str = PACKAGED) -> float:
    """Return when the archive at a path last changed, in seconds since 1970.

    Raises:
        OSError: nothing is there, or it cannot be read.
        ValueError: it is not the dataset in a layout known here, or too large.
    """
    return max(file.stat().st_mtime for file in _local_files(source, release(dataset)))


def official_revision(dataset: str = PACKAGED) -> str:
    """Return what tells that the official source's archive changed, without downloading it.

    Raises:
        DownloadError: the server cannot be reached, refuses, or does not tell.
    """
    # It takes longer to import than a run takes to see that it has the archive.
    from cf_pipeline.recommender.http_download import http_revision

    return http_revision(_official_url(), release(dataset).file.name)


def _official_url() -> str:
    return os.environ.get(URL_VARIABLE, OFFICIAL_URL)


def _named(source: str, dataset: Dataset) -> list[str]:
    """Return the sources that `source` stands for."""
    if source != "auto":
        return [source]
    return ["official", "package_index"] if dataset.name == PACKAGED else ["official"]


def _expand(sources: Sequence[str], dataset: Dataset) -> list[str]:
    """Return the sources to try, each once."""
    for number, source in enumerate(sources, 1):
        if "://" in source:  # which may hold a password, so it is not quoted
            raise ValueError(
                f"Source {number} is an address, but sources are names or paths. Put the address "
                f"of a mirror into the environment variable {URL_VARIABLE}; if this one has a "
                "password, change that: Dagster keeps the config of every run in its history."
            )
    named = (_named(source, dataset) for source in sources)
    return list(dict.fromkeys(source for group in named for source in group))


def _receive(
    source: str, dataset: Dataset, staging: Path, timeout: float, retries: int, log: Log
) -> str | None:
    """Put the source's files into `staging`, and return the published checksum that they have."""
    if source == "official":
        from cf_pipeline.recommender.http_download import http_download

        deadline = time.monotonic() + timeout
        file, checked_by = _with_checksum(dataset, timeout, retries, log)
        remaining = deadline - time.monotonic()
        http_download(_official_url(), file, staging, timeout=remaining, retries=retries, log=log)
        return checked_by
    if source == "package_index":
        if dataset.name != PACKAGED:
            raise DownloadError(f"the package index has {PACKAGED} only, not {dataset.name}")
        pip_download(RECBOLE_REQUIREMENT, RECBOLE_WHEEL, staging, timeout=timeout)
        return "SHA-256 of the wheel"
    for copy in _local_files(source, dataset):
        shutil.copyfile(copy, staging / copy.name)
    return None


def _with_checksum(
    dataset: Dataset, timeout: float, retries: int, log: Log
) -> tuple[RemoteFile, str]:
    """Return the release's file with a checksum, and what that is; it may have to be asked for."""
    file = dataset.file
    if file.checksum:
        return file, f"{'SHA-256' if file.sha256 else 'MD5'} known in advance"
    from cf_pipeline.recommender.http_download import http_download

    beside = RemoteFile(f"{file.name}.md5", None, most=1000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        http_download(_official_url(), beside, folder, timeout=timeout, retries=retries, log=log)
        text = (folder / beside.name).read_text("latin-1")
    found = set(re.findall(r"\b[0-9a-f]{32}\b", text))
    if len(found) != 1:
        raise DownloadError(f"{beside.name} does not hold one MD5 but {text[:80]!r}")
    return file._replace(md5=found.pop()), f"MD5 in {beside.name}, from the same address"


def _local_files(source: str, dataset: Dataset) -> list[Path]:
    try:
        path = Path(source).expanduser()
    except RuntimeError as error:  # there is no such user
        raise FileNotFoundError(f"{source}: {error}") from error
    if path.is_file():
        return [within_bounds(path, dataset.layouts[0])]
    inner = path / dataset.folder  # what unpacking the zip gives
    return archive_files(inner if inner.is_dir() else path, dataset)


def _digest_or_missing(source: str, dataset: Dataset) -> str:
    try:
        return local_digest(source, dataset.name)
    except (OSError, ValueError):
        return "missing"
