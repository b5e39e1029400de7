"""What is removed from the artifact store: results that nobody needs, and what dead processes left.

A result is needed if it is one of the last that its asset used, if a link such as `latest` or
Dagster's history points to it as the asset's latest, if it is the champion or the one before, or if
it was used since a run in progress began.
"""

from __future__ import annotations

import shutil
from collections.abc import Set
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import dagster as dg

from cf_pipeline import runs
from cf_pipeline.artifact_store import ArtifactStore
from cf_pipeline.champion import CHAMPION, Champions
from cf_pipeline.decisions import lineage, of_dataset
from cf_pipeline.locks import Log, if_free
from cf_pipeline.store_layout import results


@dataclass(frozen=True)
class StoredResult:
    """A result in the store, as its directory tells without being read."""

    directory: Path
    asset: str
    last_used: float

    @property
    def bytes(self) -> int:
        """The bytes of its files."""
        return sum(path.stat().st_size for path in self.directory.iterdir())

    def shown(self) -> dict[str, object]:
        """Return the result as the row of a table."""
        return {
            "asset": self.asset,
            "key": self.directory.name,
            "bytes": self.bytes,
            "last_used": f"{datetime.fromtimestamp(self.last_used, UTC):%Y-%m-%d %H:%M:%S} UTC",
        }


def unneeded(root: Path, keep: int, latest: Set[Path]) -> list[StoredResult]:
    """Return the results that are not needed, each asset's in the order of their last use.

    `keep` is how many an asset keeps of those used last; `latest` are directories that stay in any
    case, such as those to which Dagster's history points.
    """
    began = runs.oldest_start(root)
    found = []
    for _, stored in sorted(_by_asset(root).items()):
        folder = stored[0].directory.parent
        pointed_to = {folder / path.readlink() for path in folder.iterdir() if path.is_symlink()}
        found += [
            result
            for result in stored[: max(0, len(stored) - keep)]
            if result.last_used < began and result.directory not in pointed_to | latest
        ]
    return found


def remove(result: StoredResult) -> bool:
    """Remove the result, and return whether it is gone; it stays if somebody uses it meanwhile."""
    directory = result.directory
    with if_free(directory.with_suffix(".lock")) as free:
        if not free or not directory.exists() or directory.stat().st_mtime != result.last_used:
            return False
        out_of_the_way = directory.with_suffix(f".{uuid4().hex[:8]}.partial")
        directory.rename(out_of_the_way)
        if out_of_the_way.stat().st_mtime != result.last_used:
            out_of_the_way.rename(directory)
            return False
        shutil.rmtree(out_of_the_way)
    return True


def champions(store: ArtifactStore, log: Log) -> set[Path]:
    """Return the directories of the champion and the one before, and of what was served of them.

    Each dataset has such two.
    """
    decided = Champions(store, log)
    decisions = decided.decisions()
    datasets = {one.champion.dataset for one in decisions if one.champion}
    line = [of for name in datasets for of in lineage(of_dataset(decisions, name))[-2:]]
    served = [decided.served(version, log) for version in line]
    return {
        *(store.root / CHAMPION / version.key for version in line),
        *(artifact.directory for artifact in served if artifact),
    }


def latest_in_history(instance: dg.DagsterInstance, root: Path) -> set[Path]:
    """Return the directory of each asset's latest result in Dagster's history."""
    directories = set()
    for key in instance.all_asset_keys():
        event = instance.get_latest_materialization_event(key)
        materialization = event.asset_materialization if event else None
        if materialization and (cache_key := materialization.metadata.get("cache_key")):
            directories.add(root / key.to_user_string() / str(cache_key.value))
    return directories


def _by_asset(root: Path) -> dict[str, list[StoredResult]]:
    """Return the results of each asset, the one used last at the end."""
    found: dict[str, list[StoredResult]] = {}
    for directory in results(root):
        with suppress(FileNotFoundError):  # of one that is replaced just now
            asset = directory.parent.relative_to(root).as_posix()
            result = StoredResult(directory, asset, directory.stat().st_mtime)
            found.setdefault(asset, []).append(result)
    for stored in found.values():
        stored.sort(key=lambda result: result.last_used)
    return found
