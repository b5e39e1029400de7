"""A log of numbered JSON records, such as the decisions about what is promoted.

Records are only ever added. Whoever adds one says its number, and learns whether somebody else took
that number first: of several that read the log and act on it, one wins, and the others read again.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from cf_pipeline.locks import Log, exclusive
from cf_pipeline.store_layout import (
    RECORD,
    RECORDS,
    ArtifactError,
    ensure_layout,
    sealed,
    sync,
    unsealed,
    writing,
)


class Records(ABC):
    """A log of records, each of them whole or not there, whoever is killed while it is added."""

    def entries(self) -> list[dict[str, Any]]:
        """Return all records in the order of their numbers, each with its `number`.

        Raises:
            ArtifactError: a record was altered or truncated since it was added.
        """
        return [self.read(number) for number in self.numbers()]

    def read(self, number: int) -> dict[str, Any]:
        """Return the record `number`, with its `number`.

        Raises:
            ArtifactError: there is none, or it was altered or truncated since it was added.
        """
        where = self.place(number)
        record = unsealed(self.read_bytes(number), where)
        if record.get("number") != number:
            raise ArtifactError(f"{where} is the record {record.get('number')!r}, by its content.")
        record.pop("writer")
        return record

    def append(self, number: int, record: Mapping[str, Any]) -> bool:
        """Add a record, and return whether `number`, 1 or more, was free; it lasts from then on.

        `record` is JSON. Its key `number` is set to the number, and `writer` is taken.

        Raises:
            ArtifactError: it cannot be written.
        """
        if number < 1:
            raise ValueError(f"Records are numbered from 1 on, and this one has {number}.")
        # Equal records of two writers differ by it: each must know whose is there.
        writer = uuid4().hex
        return self.create(number, sealed({**record, "number": number, "writer": writer}))

    @abstractmethod
    def numbers(self) -> list[int]:
        """Return the numbers that are taken, in order."""

    @abstractmethod
    def place(self, number: int) -> object:
        """Return where the record `number` stands."""

    @abstractmethod
    def read_bytes(self, number: int) -> bytes:
        """Return the record `number` as it was written; raises ArtifactError if there is none."""

    @abstractmethod
    def create(self, number: int, content: bytes) -> bool:
        """Write the record `number` at once, and return whether the number was free."""


class LocalRecords(Records):
    """The log of `asset` in the artifact store `root`: `<asset>/records/<number>.json`."""

    def __init__(self, root: Path, asset: str, log: Log) -> None:
        self.root = root
        self.asset = asset
        self.log = log

    def numbers(self) -> list[int]:
        """Return the numbers that are taken, in order."""
        return sorted(
            int(path.stem) for path in self._folder.glob("*.json") if RECORD.fullmatch(path.name)
        )

    def place(self, number: int) -> Path:
        """Return the path of the record `number`."""
        return self._folder / record_name(number)

    def read_bytes(self, number: int) -> bytes:
        """Return the record `number` as it was written; raises ArtifactError if there is none."""
        try:
            return self.place(number).read_bytes()
        except OSError as error:
            raise ArtifactError(f"{self.place(number)} cannot be read: {error}") from error

    def create(self, number: int, content: bytes) -> bool:
        """Write the record `number` at once, and return whether the number was free."""
        ensure_layout(self.root, self.log)
        with writing(self.root, f"Record {number} of {self.asset}"):
            self._folder.mkdir(parents=True, exist_ok=True)
            # So that nobody sweeps what is being written.
            with exclusive(self._folder / "append.lock", self.log):
                return create_whole(self.place(number), content)

    @property
    def _folder(self) -> Path:
        return self.root / self.asset / RECORDS


def record_name(number: int) -> str:
    """Return the name of a record's file, which sorts as its number does up to a million."""
    return f"{number:06}.json"


def create_whole(path: Path, content: bytes) -> bool:
    """Write a file that nobody sees before it is whole and on the disk; False if it is there."""
    fresh = path.with_name(f"append.{uuid4().hex[:8]}.partial")
    try:
        fresh.write_bytes(content)
        sync(fresh)
        os.link(fresh, path)  # unlike a rename, it replaces nothing
        sync(path.parent)
    except FileExistsError:
        return False
    finally:
        fresh.unlink(missing_ok=True)
    return True
