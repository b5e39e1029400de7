"""Fetches of the archive for tests, and files that are taken for those that GroupLens published."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from cf_pipeline.recommender.datasets import DATASETS, release
from cf_pipeline.recommender.downloads import RemoteFile
from cf_pipeline.recommender.sources import ArchiveUnavailableError, fetch_archive
from cf_pipeline.recommender.verification import ReceivedArchive


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
