"""Samplers in processes of their own that sweep by turns, so that what disturbs one disturbs all.

A process sets its sampler up, says so, and then answers each line that it is sent by a sweep. While
one sweeps the others wait. Ray listens on every interface, whatever it
is told, so a process that starts Ray has a network of its own, in which there is nobody else.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Self, TypeAlias

from cf_pipeline_tests.benchmarks.scale_process import PACKAGE, Figures, UnfinishedError

Turn: TypeAlias = Callable[[], Figures]
ALONE = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$0" "$@"')


class Turns:
    """One process, run as `python -m cf_pipeline_tests.benchmarks.<module> <arguments as JSON>`."""

    def __init__(self, module: str, arguments: Mapping[str, object], *, alone: bool) -> None:
        """Start it, and wait until it is set up; what it says of that is `figures`.

        Raises:
            UnfinishedError: it ended before; what it said is above.
        """
        command = [sys.executable, "-m", f"{PACKAGE}.{module}", json.dumps(arguments)]
        # BLAS and OpenMP are told once, before they are loaded.
        environment = os.environ | {"OMP_NUM_THREADS": str(arguments["threads"])}
        self._process = subprocess.Popen(
            [*ALONE, *command] if alone else command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.figures = self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End it, by the end of its input."""
        self._process.communicate()

    def take(self) -> Figures:
        """Have it take a turn, and return what it says of it.

        Raises:
            UnfinishedError: it ended instead.
        """
        print(file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Figures:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise UnfinishedError(f"ended with {self._process.wait()}")
        figures: Figures = json.loads(line)
        return figures


def serve(prepared: Callable[[Figures], AbstractContextManager[tuple[Figures, Turn]]]) -> None:
    """Be such a process: set up by the arguments of the command line, then take turns."""
    with os.fdopen(os.dup(1), "w") as answers:  # what else is printed is no answer
        os.dup2(2, 1)
        with prepared(json.loads(sys.argv[1])) as (figures, turn):
            print(json.dumps(figures), file=answers, flush=True)
            for _ in sys.stdin:
                print(json.dumps(turn()), file=answers, flush=True)
