"""The artifact store: where results live, and when they may be used again.

A result is a directory whose name is a digest of everything that made it: the asset, the version of
its code, its config and the data versions of its inputs. What stands under that name is complete or
absent: it is built beside it and renamed into place. A manifest records every file's SHA-256, so a
deleted, truncated or altered result is recognised and built again.

Behind the store there may be a remote that machines share (`cf_pipeline.remote`): what is not here
is looked for there before it is built, and what is here is published there.

Nothing here knows Dagster: see `cf_pipeline.caching` for how assets use it, and
`cf_pipeline.upkeep` for what is removed, and when.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cf_pipeline.artifacts import MANIFEST, Artifact, Recipe
from cf_pipeline.locks import Log, exclusive
from cf_pipeline.recommender.downloads import sha256
from cf_pipeline.records import LocalRecords, Records
from cf_pipeline.remote import Remote
from cf_pipeline.store_layout import (
    ArtifactError,
    digest,
    ensure_layout,
    put_in_place,
    results,
    scratch_of,
    sealed,
    sync,
    unfinished,
    unsealed,
    writing,
)

Build = Callable[[Path], Mapping[str, Any]]

LOGGER = logging.getLogger(__name__)


class ArtifactStore:
    """Results under `root`: one directory an asset, in it one a result, named by its recipe's key.

    `<asset>/latest` is a link to the result used last, for people and notebooks; the pipeline never
    reads it. A result's directory was modified, by its time, when the result was last used.

    `remote` is what machines share behind their stores, if anything. A store with a remote that
    cannot be reached fails: to build alone what others have would go unnoticed.
    """

    def __init__(self, root: Path, remote: Remote | None = None) -> None:
        self.root = root.absolute()
        self.remote = remote

    def open(self, asset: str, key: str, log: Log = LOGGER.warning) -> Artifact:
        """Return the result `key` of `asset`; its files are verified where they are used.

        It counts as used from now on. It is fetched from the remote if it is only there.

        Raises:
            ArtifactError: there is no such result, or its manifest is damaged.
        """
        directory = self.root / asset / key
        if self.remote is not None and not directory.exists():
            with self._locked(asset, key, log):
                if not directory.exists():
                    self._fetch(self.remote, asset, key, log)
        return self._open(asset, key)

    def _open(self, asset: str, key: str) -> Artifact:
        """Count a result as used, and read its manifest."""
        with suppress(FileNotFoundError):  # which reading it says
            _touch(self.root / asset / key)
        return self._read(asset, key)

    def _read(self, asset: str, key: str) -> Artifact:
        directory = self.root / asset / key
        try:
            written = (directory / MANIFEST).read_bytes()
        except FileNotFoundError as error:
            raise ArtifactError(
                f"{asset} {key} is not in the artifact store {self.root}. "
                f"Materialize {asset} again."
            ) from error
        except OSError as error:
            raise ArtifactError(f"{directory / MANIFEST} cannot be read: {error!r}") from error
        manifest = unsealed(written, directory / MANIFEST)
        return Artifact(
            asset=asset,
            key=key,
            code_version=manifest["code_version"],
            directory=directory,
            files=manifest["files"],
            data_version=manifest["data_version"],
            inputs=manifest["inputs"],
            metadata=manifest["metadata"],
        )

    def made_from(self, asset: str, inputs: Mapping[str, str], log: Log) -> Artifact | None:
        """Return the result of `asset`, in this store, that was made from these inputs.

        Whatever code and config made it; of several it is the one used last. `inputs` maps names to
        data versions. None if there is no sound one.
        """
        found = [path for path in results(self.root) if path.parent == self.root / asset]
        for path in sorted(found, key=_last_used, reverse=True):
            try:
                artifact = self._read(asset, path.name)
                if artifact.inputs == inputs:
                    artifact.verified()
                    return self._open(asset, path.name)
            except ArtifactError as error:
                log(f"Not reused: {error}")
        return None

    def records(self, asset: str, log: Log) -> Records:
        """Return the log of records that is kept for `asset`: on the remote, where there is one."""
        if self.remote is not None:
            return self.remote.records(asset)
        return LocalRecords(self.root, asset, log)

    def get_or_build(self, recipe: Recipe, build: Build, log: Log) -> tuple[Artifact, bool]:
        """Return the recipe's result and whether it was there already, or on the remote.

        `build` writes the result's files into the empty directory it is given and returns the
        metadata. It runs in one process at a time for a recipe: others wait, then find the result.
        The lock is the operating system's and dies with its holder. An exception in `build` leaves
        nothing behind under the result's name; what it put into `scratch_of(directory)` is there
        for the next attempt.

        Raises:
            ArtifactError: the store cannot be written, or is of a later release of cf_pipeline; or
            the remote cannot be used, in which case what was built stays here.
        """
        artifact = self._find(recipe, log)
        hit, last_commit = artifact is not None, 0
        if artifact is None:
            with self._locked(recipe.asset, recipe.key, log):
                artifact = self._find(recipe, log)
                if artifact is None and self.remote is not None:
                    last_commit = self.remote.last_commit(recipe.asset, recipe.key)
                    artifact = self._fetch(self.remote, recipe.asset, recipe.key, log)
                hit = artifact is not None
                if artifact is None:
                    artifact = self._build(recipe, build)
        self.point_latest(artifact, log)
        self._publish(artifact, after=0 if hit else last_commit)
        return artifact, hit

    @contextmanager
    def _locked(self, asset: str, key: str, log: Log) -> Iterator[None]:
        """Hold the result's lock, in a store that can be written."""
        ensure_layout(self.root, log)
        with writing(self.root, asset):
            parent = self.root / asset
            parent.mkdir(parents=True, exist_ok=True)
            with exclusive(parent / f"{key}.lock", log):
                yield

    def _find(self, recipe: Recipe, log: Log) -> Artifact | None:
        if not (self.root / recipe.asset / recipe.key).exists():
            return None
        try:
            artifact = self._open(recipe.asset, recipe.key)
            artifact.verified()
        except ArtifactError as error:
            log(f"Not reused: {error}")
            return None
        return artifact

    def _fetch(self, remote: Remote, asset: str, key: str, log: Log) -> Artifact | None:
        with unfinished(self.root / asset / key) as partial:
            if not remote.fetch(asset, key, partial, log):
                return None
            put_in_place(partial, self.root / asset / key)
            shutil.rmtree(scratch_of(partial), ignore_errors=True)
        return self._open(asset, key)

    def _build(self, recipe: Recipe, build: Build) -> Artifact:
        with unfinished(self.root / recipe.asset / recipe.key) as partial:
            metadata = build(partial)
            files = {path.name: _sealed_file(path) for path in sorted(partial.iterdir())}
            manifest = {
                **asdict(recipe),
                "files": files,
                "data_version": digest(files),
                "metadata": dict(metadata),
            }
            path = partial / MANIFEST
            path.write_bytes(sealed(manifest))
            sync(path)
            put_in_place(partial, self.root / recipe.asset / recipe.key)
            shutil.rmtree(scratch_of(partial), ignore_errors=True)
        return self._open(recipe.asset, recipe.key)

    def _publish(self, artifact: Artifact, after: int) -> None:
        if self.remote is not None:
            directory = artifact.directory
            files = {**artifact.files, MANIFEST: sha256(directory / MANIFEST)}
            self.remote.publish(artifact.asset, artifact.key, directory, files, after)

    def point_latest(self, artifact: Artifact, log: Log) -> None:
        """Let the link `<asset>/latest` point to a result."""
        link = self.root / artifact.asset / "latest"
        if link.is_symlink() and link.readlink() == Path(artifact.key):
            return
        try:
            with exclusive(link.with_suffix(".lock"), log):
                fresh = link.with_suffix(".partial")
                fresh.unlink(missing_ok=True)
                fresh.symlink_to(artifact.key)
                fresh.replace(link)
        except OSError as error:  # in a store that can only be read
            log(f"{link} was left as it is: {error}")


def _last_used(directory: Path) -> float:
    try:
        return directory.stat().st_mtime
    except FileNotFoundError:  # removed just now
        return 0.0


def _touch(directory: Path) -> None:
    """Say that the result is in use now, which keeps it from being removed as unused.

    Raises:
        FileNotFoundError: there is no such directory.
    """
    try:
        os.utime(directory)
    except FileNotFoundError:
        raise
    except OSError:  # nothing is removed from a store that can only be read
        return


def _sealed_file(path: Path) -> str:
    """Return the file's SHA-256, once it is on the disk: the rename must not outlive its bytes."""
    sync(path)
    return sha256(path)
