"""How much memory something takes, in a process of its own."""

import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

STATUS = Path("/proc/self/status")  # getrusage would count what the parent had at the fork
MEASURED = pytest.mark.skipif(not STATUS.exists(), reason="memory is read from /proc")


def peak_memory(use: Callable[[Path], object], folder: Path) -> int:
    """Return the most bytes that a process has in memory which does this with `folder`."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_peak_memory, use, folder).result()


def _peak_memory(use: Callable[[Path], object], folder: Path) -> int:
    use(folder)
    return int(re.findall(r"VmHWM:\s+([0-9]+) kB", STATUS.read_text())[0]) << 10
