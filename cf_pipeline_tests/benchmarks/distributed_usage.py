"""What the processes of a stage take: memory, by what they are for, and cores. It takes Linux."""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from cf_pipeline_tests.benchmarks.scale_process import Figures

BLOCK_BYTES = 512  # of st_blocks, whatever the file system


def peak_bytes() -> Figures:
    """Return the peaks of this process, of Ray's workers, of its store, and of what else it runs.

    The greatest resident set of a process has the pages of the store that it looked at, too. The
    store's file grows as it is written to, and never shrinks.
    """
    started = psutil.Process().children(recursive=True)
    workers = {process.pid for process in started if _is_worker(process)}
    others = {process.pid for process in started} - workers
    return {
        "driver_bytes": peak_of([os.getpid()]),
        "worker_bytes": peak_of(workers),
        "store_bytes": sum(
            {inode: size for pid in others for inode, size in _stores(pid)}.values()
        ),
        "service_bytes": peak_of(others),
    }


def cpu_seconds() -> float:
    """Return the seconds that this process, and those that it runs, had a core so far.

    On a machine that is busy with other things too, they say more than the time that went by.
    """
    me = psutil.Process()
    times = [process.cpu_times() for process in (me, *me.children(recursive=True))]
    return float(sum(of.user + of.system for of in times))


def peak_of(processes: Iterable[int]) -> int:
    """Return the sum of the greatest resident sets of those processes that are still there."""
    statuses = []
    for pid in processes:
        with suppress(FileNotFoundError, ProcessLookupError):
            statuses.append(Path(f"/proc/{pid}/status").read_text())
    peaks = re.findall(r"VmHWM:\s+([0-9]+) kB", "".join(statuses))
    return sum(int(kib) << 10 for kib in peaks)


def _is_worker(process: psutil.Process) -> bool:
    title = (process.cmdline() or [""])[0]  # which Ray sets to what the worker is about
    return title.startswith("ray::") and not title.endswith("Agent")


def _stores(pid: int) -> Iterable[tuple[int, int]]:
    """Yield the inode and the size of each of Ray's stores that a process has opened."""
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        if descriptor.is_symlink() and descriptor.readlink().name.startswith("plasma"):
            status = descriptor.stat()
            yield status.st_ino, status.st_blocks * BLOCK_BYTES
