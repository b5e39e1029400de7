"""A stage of a benchmark in a process of its own, so that its peak memory is its own.

A stage is a function, named `module:function` as in `scale_ingest:polars`, whose arguments and
figures are JSON. It tells its `seconds` itself, as it knows what is to be timed; all else of its
process, imports too, is in the peak memory.
"""

import json
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

Figures: TypeAlias = dict[str, Any]
PACKAGE = "cf_pipeline_tests.benchmarks"
STATUS = Path("/proc/self/status")


class UnfinishedError(Exception):
    """A stage took longer than its limit, or failed."""


def in_own_process(stage: str, *arguments: object, limit: float | None = None) -> Figures:
    """Return the figures of a `stage`, and its `peak_bytes`.

    Raises:
        UnfinishedError: it ran for `limit` seconds, or failed; the message says which.
    """
    command = [sys.executable, "-m", f"{PACKAGE}.scale_process", stage, json.dumps(arguments)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        raise UnfinishedError(f"not within {limit:g} s") from None
    if done.returncode < 0:
        raise UnfinishedError(f"killed by signal {-done.returncode}")
    if done.returncode:
        raise UnfinishedError(done.stderr.strip().splitlines()[-1])
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def seconds_of(work: Callable[[], object]) -> float:
    """Return how many seconds `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _peak_bytes() -> int:
    if STATUS.exists():  # getrusage would count what the parent had when it started this process
        return int(re.findall(r"VmHWM:\s+([0-9]+) kB", STATUS.read_text())[0]) << 10
    kib = 1 if sys.platform == "darwin" else 1024  # there ru_maxrss is in bytes already
    return kib * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Run the stage that the command line names, and print its figures as the last line."""
    module, function = sys.argv[1].split(":")
    stage: Callable[..., Figures] = getattr(import_module(f"{PACKAGE}.{module}"), function)
    figures = stage(*json.loads(sys.argv[2]))
    print(json.dumps({"peak_bytes": _peak_bytes(), **figures}))


if __name__ == "__main__":
    main()
