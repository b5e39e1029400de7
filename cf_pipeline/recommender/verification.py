"""Whether what was received is what GroupLens published."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cf_pipeline.recommender.downloads import sha256
from cf_pipeline.recommender.movielens_files import archive_files, ratings_place, u_data

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from cf_pipeline.recommender.datasets import Dataset
    from cf_pipeline.recommender.downloads import Log, RemoteFile


@dataclass(frozen=True)
class ReceivedArchive:
    """What was received: the `files` in the destination, their `bytes` together, their `sha256`.

    The digest of several files is the digest of what `sha256sum` prints for them.
    `matches_release` says whether the ratings are those that GroupLens published, and `checked_by`
    what says so.
    """

    source: str
    files: tuple[str, ...]
    bytes: int
    sha256: str
    matches_release: bool
    checked_by: str


def verify(
    source: str, dataset: Dataset, staging: Path, checked_by: str | None, log: Log
) -> ReceivedArchive:
    """Return what is in `staging`, ValueError if it is a remote source's and not the release.

    `checked_by` is the checksum that a remote source's file has, None for a local source.
    """
    files = archive_files(staging, dataset)
    if dataset.ratings_sha256:
        matches = _digest_of_chunks(u_data(staging)) == dataset.ratings_sha256
        if not matches and checked_by:
            raise ValueError(f"the ratings in {files[0].name} are not those of the release")
        known_by = checked_by or "SHA-256 of the ratings"
    else:
        ratings_place(staging, dataset)  # that there are ratings
        # A checksum that came along says that the file came whole, and not that it is the release.
        is_known = dataset.file.checksum is not None
        matches = is_known and (checked_by is not None or _is_file(files, dataset.file))
        known_by = checked_by or f"checksum of {dataset.file.name}"
    if not matches:
        known_by = checked_by or "nothing"
        log(
            f"WARNING: the ratings in {source} are not those of the published {dataset.title}, or "
            "there is no checksum to tell that they are."
        )
    size = sum(file.stat().st_size for file in files)
    return ReceivedArchive(
        source, tuple(file.name for file in files), size, digest_of(files), matches, known_by
    )


def _digest_of_chunks(chunks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _is_file(files: Sequence[Path], published: RemoteFile) -> bool:
    """Whether `files` are one, with the published checksum."""
    if len(files) != 1:
        return False
    try:
        published.check(files[0])
    except ValueError:
        return False
    return True


def digest_of(files: Sequence[Path]) -> str:
    """Return the SHA-256 of files together, as of `ReceivedArchive`."""
    digests = {file.name: sha256(file) for file in files}
    if len(digests) == 1:
        return digests.popitem()[1]
    lines = "".join(f"{digest}  {name}\n" for name, digest in digests.items())
    return hashlib.sha256(lines.encode()).hexdigest()
