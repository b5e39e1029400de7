"""Locks between processes: the operating system's, which die with their holder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

Log = Callable[[str], None]


@contextmanager
def exclusive(path: Path, log: Log) -> Iterator[None]:
    """Hold the lock `path`, and wait for it where another process holds it, which is logged."""
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        log(f"Waiting for another process, which holds {path}.")
        lock.acquire()
    with _held(lock, path):
        yield


@contextmanager
def if_free(path: Path) -> Iterator[bool]:
    """Hold the lock `path` unless another process does; yields whether it is held."""
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        yield False
    else:
        with _held(lock, path):
            yield True


def is_held(path: Path) -> bool:
    """Whether a process holds the lock `path`; its file stays as it is."""
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    return False


@contextmanager
def _held(lock: FileLock, path: Path) -> Iterator[None]:
    # The file goes while it is locked: who waits for it sees that it is gone, and makes a new one.
    try:
        yield
    finally:
        with suppress(OSError):  # one that cannot be removed does no harm
            path.unlink()
        lock.release()
