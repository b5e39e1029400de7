"""How the artifact store lies on the disk, and what is in it that is no result.

`layout.json` tells the layout:

1. No `layout.json`. A lock stayed beside every result, and a build's folder was `<key>.partial`.
2. `<asset>/<key>/` is a result; `<key>.lock` beside it lasts as long as it is held; each build has
   a folder of its own, `<key>.<random>.partial`, and `<key>.scratch` for what the next attempt may
   go on from. `runs/` has a lock for each run in progress.
   `<asset>/records/<number>.json` are the records of a log: see `cf_pipeline.records`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from cf_pipeline.locks import Log, exclusive, if_free, is_held

LAYOUT_FILE = "layout.json"
LAYOUT = 2
RESULT = re.compile(r"[0-9a-f]{32}")
LEFTOVER = re.compile(
    r"[0-9a-f]{32}(\.[0-9a-f]{8})?\.partial|[0-9a-f]{32}\.scratch|latest\.partial|append\.[0-9a-f]{8}\.partial"
    r"|([0-9a-f]{32}|latest|append)\.lock"
)
SCRATCH, SCRATCH_SECONDS = ".scratch", 7 * 86_400
RECORDS = "records"
RECORD = re.compile(r"[0-9]{6,}\.json")
# What keeps a process from writing, whatever it writes.
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE}


class ArtifactError(Exception):
    """A result that is asked for is not there, is not what was written, or cannot be kept."""


def ensure_layout(root: Path, log: Log) -> None:
    """Make the store's directory if it is not there, and bring it to the layout known here.

    Raises:
        ArtifactError: the store has a later layout, or does not tell which; or `root` is no store,
            but holds something else.
    """
    with writing(root, LAYOUT_FILE):
        root.mkdir(parents=True, exist_ok=True)
    if _layout_of(root) == LAYOUT:
        return
    with writing(root, LAYOUT_FILE), exclusive(root / "layout.lock", log):
        if not (root / LAYOUT_FILE).exists():
            _refuse_foreign(root)
        if not any(path.is_dir() for path in root.iterdir()):  # nothing to migrate
            _write(root, LAYOUT)
        for layout in range(_layout_of(root), LAYOUT):
            log(f"Bringing the artifact store {root} from layout {layout} to {layout + 1}.")
            MIGRATIONS[layout](root)
            _write(root, layout + 1)


@contextmanager
def writing(root: Path, what: str) -> Iterator[None]:
    """Turn what keeps `what` from being written into the store into an error with the remedy.

    Raises:
        ArtifactError: there is no room, no permission or no file handle for it.
    """
    try:
        yield
    except ArtifactError:
        raise
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        denied = number in {errno.EACCES, errno.EPERM} and str(root) in str(error)
        # Libraries have errors of their own for a full disk, without the number.
        full = os.strerror(errno.ENOSPC) in str(error) or "disk is full" in str(error)
        if not (number in NO_ROOM or denied or full):
            raise
        raise ArtifactError(
            f"{what} cannot be made and kept in the artifact store {root}: {error}. Make room "
            "there, or let this user write to it, or put CF_PIPELINE_ARTIFACTS to another "
            "directory; with too many open files, raise `ulimit -n`. Then run it again: what was "
            "finished is kept."
        ) from error


def results(root: Path) -> Iterator[Path]:
    """Yield the directory of every result in the store, sound or not."""
    for folder, directories, _ in _walk(root):
        yield from (folder / name for name in directories if RESULT.fullmatch(name))


def leftovers(root: Path) -> list[Path]:
    """Return what processes left that died: folders of builds, links and locks."""
    found = [
        folder / name
        for folder, directories, files in _walk(root)
        for name in sorted([*directories, *files])
        if LEFTOVER.fullmatch(name)
    ]
    return [path for path in found if not (is_held(_lock_of(path)) or _is_awaited(path))]


def sweep(path: Path) -> bool:
    """Remove one of the leftovers, and return whether it is gone; it stays if somebody uses it."""
    lock = _lock_of(path)
    with if_free(lock) as free:
        if free and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif free and path != lock:  # which goes when it is given back
            path.unlink(missing_ok=True)
    return free


@contextmanager
def unfinished(final: Path) -> Iterator[Path]:
    """Yield a new directory beside the place of a result, whose lock is held; it does not last."""
    # Whatever is left here belonged to a process that died. A child of it may still write there:
    # ours is another directory.
    for left in final.parent.glob(f"{final.name}.*partial"):
        shutil.rmtree(left, ignore_errors=True)
    partial = final.with_suffix(f".{uuid4().hex[:8]}.partial")
    partial.mkdir()
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def scratch_of(place: Path) -> Path:
    """Return where what is half done of a result lies, to go on from if the process dies.

    `place` is the result's directory, or the one in which it is built. It goes when the result is
    complete, or fetched from the remote; and where the job store_upkeep runs, when nobody went on
    with it for SCRATCH_SECONDS.
    """
    return place.with_name(f"{place.name.partition('.')[0]}{SCRATCH}")


def put_in_place(partial: Path, final: Path) -> None:
    """Put a directory, whose files are on the disk, into the place of a result."""
    sync(partial)
    if final.exists():  # damaged, or it would have been found
        shutil.rmtree(final)
    partial.rename(final)
    sync(final.parent)


def digest(value: object) -> str:
    """Return 128 bits of the SHA-256 of what is JSON, in hexadecimal."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def sealed(content: Mapping[str, Any]) -> bytes:
    """Return the content as JSON with a seal, by which `unsealed` knows whether it was altered."""
    plain = json.loads(json.dumps(content))  # as it will be read: with keys of text
    return json.dumps({**plain, "seal": digest(plain)}, indent=1).encode()


def unsealed(written: bytes, where: object) -> dict[str, Any]:
    """Return the content that was sealed; `where` is the place to name.

    Raises:
        ArtifactError: it was altered or truncated, or is something else.
    """
    try:
        content: dict[str, Any] = json.loads(written)
        seal = content.pop("seal")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{where} cannot be read: {error!r}") from error
    if seal != digest(content):
        raise ArtifactError(f"{where} was altered: its seal does not match.")
    return content


def sync(path: Path) -> None:
    """Put a file, or the names in a directory, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _walk(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yield each folder of assets with the names in it; what is in results and builds is theirs."""
    for name, directories, files in os.walk(root):  # which passes over what goes meanwhile
        yield Path(name), list(directories), files
        directories[:] = [
            one for one in directories if not (RESULT.fullmatch(one) or LEFTOVER.fullmatch(one))
        ]


def _is_awaited(path: Path) -> bool:
    """Return whether somebody may yet go on from what lies there."""
    if path.suffix != SCRATCH:
        return False
    with suppress(FileNotFoundError):
        last = max((one.stat().st_mtime for one in path.rglob("*")), default=path.stat().st_mtime)
        return time.time() - last < SCRATCH_SECONDS
    return False


def _lock_of(path: Path) -> Path:
    """Return the lock that who uses a leftover would hold."""
    return path.with_name(f"{path.name.partition('.')[0]}.lock")


def _refuse_foreign(root: Path) -> None:
    """Raise ArtifactError if a directory that tells no layout holds what no store has."""
    ours = re.compile(rf"{LEFTOVER.pattern}|latest|layout\..*")
    for folder, _, files in _walk(root):
        for name in files:
            record = folder.name == RECORDS and RECORD.fullmatch(name)
            if not (record or ours.fullmatch(name)):
                raise ArtifactError(
                    f"{root} is no artifact store, and holds other files, such as {folder / name}. "
                    "Put CF_PIPELINE_ARTIFACTS to a directory that is empty or not there yet."
                )


def _from_1(root: Path) -> None:
    for path in leftovers(root):  # its locks stayed, and its builds had folders of another name
        sweep(path)


MIGRATIONS: dict[int, Callable[[Path], object]] = {1: _from_1}


def _layout_of(root: Path) -> int:
    path = root / LAYOUT_FILE
    try:
        layout = json.loads(path.read_bytes())["layout"]
    except FileNotFoundError:
        return 1
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{path} does not tell the layout of the artifact store ({error!r}). Write "
            f'{{"layout": {LAYOUT}}} into it if this release made the store; else delete {root}.'
        ) from error
    if not isinstance(layout, int) or not 1 <= layout <= LAYOUT:
        raise ArtifactError(
            f"The artifact store {root} has layout {layout!r}, and this release of cf_pipeline "
            f"knows those up to {LAYOUT}. Upgrade cf_pipeline, or put CF_PIPELINE_ARTIFACTS to "
            "another directory."
        )
    return layout


def _write(root: Path, layout: int) -> None:
    fresh = root / f"{LAYOUT_FILE}.partial"
    fresh.write_text(json.dumps({"layout": layout}), encoding="utf-8")
    sync(fresh)
    fresh.replace(root / LAYOUT_FILE)
