"""A remote that machines share, behind each one's own artifact store: any file system of fsspec.

`CF_PIPELINE_REMOTE` names it, as `s3://bucket/prefix`; its credentials are in the environment or
where else the file system's own library looks, never in the address. On it,

- `results/<asset>/<key>/commits/<number>.json` makes a result: it has the names and the SHA-256 of
  its files, and says where they are. It comes last and is created only if no other has its number,
  so a result is there as a whole or not at all. The last sound one counts.
- `results/<asset>/<key>/uploads/<random>/` has the files of one commit.
- `records/<asset>/<number>.json` are the records of a log.
- `layout.json` tells the layout, as in the artifact store.

Nothing is ever written over, and nothing is removed here.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

from cf_pipeline.locks import Log
from cf_pipeline.recommender.downloads import redacted, sha256
from cf_pipeline.records import Records, create_whole, record_name
from cf_pipeline.store_layout import (
    LAYOUT_FILE,
    NO_ROOM,
    RECORD,
    RECORDS,
    ArtifactError,
    sealed,
    sync,
    unsealed,
)

VARIABLE = "CF_PIPELINE_REMOTE"
LAYOUT = 1
TRIES = 4  # of which S3 may refuse some with 409, when several create a file at once


class RemoteError(ArtifactError):
    """The remote cannot be used, whatever is asked of it."""


class Remote:
    """A directory on a file system of fsspec; nothing is asked of it before it is used.

    Whatever keeps it from being used, each method says with an ArtifactError.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")

    @classmethod
    def from_environment(cls) -> Remote | None:
        """Return the remote that CF_PIPELINE_REMOTE names, if it names one."""
        address = os.environ.get(VARIABLE)
        return cls(address) if address else None

    def check(self) -> None:
        """Raise ArtifactError unless the remote can be used, and keeps to what is asked of it."""
        self.create(LAYOUT_FILE, sealed({"layout": LAYOUT}))
        if self.create(LAYOUT_FILE, sealed({"layout": LAYOUT, "probe": uuid4().hex})):
            raise ArtifactError(
                f"{self} writes over a file that was to be created only if it was not there "
                "(If-None-Match, in S3): runs at once would spoil each other's results. Put "
                f"{VARIABLE} to a server that keeps to it."
            )
        layout = unsealed(self.read(LAYOUT_FILE), self.place(LAYOUT_FILE))["layout"]
        if layout != LAYOUT:
            raise ArtifactError(
                f"{self} has layout {layout!r}, and this release of cf_pipeline knows {LAYOUT}. "
                f"Upgrade cf_pipeline, or put {VARIABLE} to another directory."
            )

    def last_commit(self, asset: str, key: str) -> int:
        """Return the number of the last commit of a result, sound or not; 0 for none."""
        return max(self._commits(asset, key).numbers(), default=0)

    def fetch(self, asset: str, key: str, directory: Path, log: Log) -> bool:
        """Download a result's files into `directory`, and return whether there is a sound one.

        The files are on the disk and verified. What is damaged on the remote is logged.
        """
        commits = self._commits(asset, key)
        for number in reversed(commits.numbers()):
            try:
                commit = commits.read(number)
                if commit["result"] != f"{asset}/{key}":
                    raise ArtifactError(f"{commits.place(number)} is of {commit['result']}.")
                for name, digest in commit["files"].items():
                    if Path(name).name != name or name == "..":
                        raise ArtifactError(f"{commits.place(number)} has a file {name!r}.")
                    self._download(f"{commit['uploads']}/{name}", directory / name, digest)
            except RemoteError:
                raise
            except ArtifactError as error:
                log(f"Not used: {error}")
                for path in directory.iterdir():
                    path.unlink()
            else:
                return True
        return False

    def publish(
        self, asset: str, key: str, directory: Path, files: Mapping[str, str], after: int
    ) -> None:
        """Upload a result and commit it, unless it has a commit past number `after`.

        `files` maps the names of the files in `directory` to their SHA-256; `after` is the last
        commit that the caller knows not to be sound, or 0.
        """
        if self.last_commit(asset, key) > after:
            return
        uploads = f"results/{asset}/{key}/uploads/{uuid4().hex}"
        for name in files:
            self._upload(directory / name, f"{uploads}/{name}")
        commit = {"result": f"{asset}/{key}", "uploads": uploads, "files": files}
        self._commits(asset, key).append(after + 1, commit)

    def records(self, asset: str) -> Records:
        """Return the log of records that machines share for `asset`."""
        return RemoteRecords(self, f"{RECORDS}/{asset}")

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder; none if it is not there."""
        with self._reached():
            try:
                found = self._files.ls(self._path(folder), detail=False)
            except FileNotFoundError:
                return []
        return [path.rpartition("/")[2] for path in found]

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        with self._reached():
            try:
                content: bytes = self._files.cat_file(self._path(name))
            except FileNotFoundError as error:
                raise ArtifactError(f"{self.place(name)} is not there.") from error
        return content

    def create(self, name: str, content: bytes) -> bool:
        """Write a file if there is none of this name, and return whether it is this one.

        Contents of several writers must differ: who wrote what is there is told by them.
        """
        with self._reached():
            path = self._path(name)
            if self._is_local:
                return create_whole(_with_parent(path), content)
            for tries_left in reversed(range(TRIES)):
                try:
                    with self._files.open(path, "xb") as file:
                        file.write(content)
                except OSError:
                    # It was there, perhaps from an earlier try whose answer was lost; or not.
                    with suppress(FileNotFoundError):
                        return bool(self._files.cat_file(path) == content)
                    if not tries_left:
                        raise
                    time.sleep(0.1)
                else:
                    break
        return True

    def place(self, name: str) -> str:
        """Return the address of a file, without credentials."""
        return redacted(f"{self.address}/{name}")

    def __str__(self) -> str:
        return f"The remote {redacted(self.address)}"

    def _commits(self, asset: str, key: str) -> RemoteRecords:
        return RemoteRecords(self, f"results/{asset}/{key}/commits")

    def _upload(self, path: Path, name: str) -> None:
        with self._reached():
            if self._is_local:
                sync(shutil.copyfile(path, _with_parent(self._path(name))))
            else:
                self._files.put_file(str(path), self._path(name))

    def _download(self, name: str, path: Path, digest: str) -> None:
        with self._reached(beside=NO_ROOM):  # which is this machine's
            try:
                self._files.get_file(self._path(name), str(path))
            except FileNotFoundError as error:
                raise ArtifactError(f"{self.place(name)} is not there.") from error
        sync(path)
        if (found := sha256(path)) != digest:
            raise ArtifactError(
                f"{self.place(name)} was altered: its SHA-256 is {found}, {digest} was written."
            )

    @contextmanager
    def _reached(self, beside: Set[int] = frozenset()) -> Iterator[None]:
        """Turn any failure into an error with the remedy, but those with a number in `beside`."""
        try:
            yield
        except ArtifactError:
            raise
        except Exception as error:  # each file system has errors of its own
            if isinstance(error, OSError) and error.errno in beside:
                raise
            cause = redacted(f"{type(error).__name__}: {error}")
        else:
            return
        # Without the first error, which may tell a password, and which Dagster would keep.
        raise RemoteError(
            f"{self} cannot be used: {cause}. Have it reached, with its credentials in the "
            "environment (for S3 AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, if it is not "
            "Amazon's, AWS_ENDPOINT_URL; `pip install 'cf_pipeline[s3]'` brings its library), then "
            "run it again: what was finished is kept."
        ) from None

    def _path(self, name: str) -> str:
        return f"{self._file_system[1]}/{name}"

    @property
    def _files(self) -> Any:
        return self._file_system[0]

    @property
    def _is_local(self) -> bool:
        """Whether it shows files before they are whole, as an object store does not."""
        return "file" in self._files.protocol

    @cached_property
    def _file_system(self) -> tuple[Any, str]:
        from fsspec.core import url_to_fs

        files, root = url_to_fs(self.address, use_listings_cache=False)
        return files, root.rstrip("/")


class RemoteRecords(Records):
    """The log in the folder `folder` of a remote."""

    def __init__(self, remote: Remote, folder: str) -> None:
        self.remote = remote
        self.folder = folder

    def numbers(self) -> list[int]:
        """Return the numbers that are taken, in order."""
        names = self.remote.names(self.folder)
        return sorted(int(name.partition(".")[0]) for name in names if RECORD.fullmatch(name))

    def place(self, number: int) -> str:
        """Return the address of the record `number`."""
        return self.remote.place(self._name(number))

    def read_bytes(self, number: int) -> bytes:
        """Return the record `number` as it was written; raises ArtifactError if there is none."""
        return self.remote.read(self._name(number))

    def create(self, number: int, content: bytes) -> bool:
        """Write the record `number` at once, and return whether the number was free."""
        return self.remote.create(self._name(number), content)

    def _name(self, number: int) -> str:
        return f"{self.folder}/{record_name(number)}"


def _with_parent(path: str) -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return Path(path)
