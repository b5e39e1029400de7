"""Runs that need not import anything, so that hundreds of them can be disturbed in an hour."""

import multiprocessing
import os
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from tempfile import mkstemp
from typing import cast

import torch

from cf_pipeline_tests.project import Config, Project

# What a whole run imports, most of its time with a fast model.
MODULES = (
    *(
        "dagster._cli",
        "torch",
        "pandas",
        "pyarrow.parquet",
        "matplotlib.pyplot",
        "safetensors.torch",
    ),
    *("cf_pipeline.definitions", "cf_pipeline.recommender.distillation"),
    *("cf_pipeline.recommender.gradient_descent", "cf_pipeline.recommender.metrics"),
    *("cf_pipeline.recommender.plots", "cf_pipeline.recommender.sources"),
    *("cf_pipeline.recommender.movielens", "cf_pipeline.recommender.cross_validation"),
)


def preload() -> None:
    """Import all that; processes that are forked from this one have it then."""
    for module in MODULES:
        import_module(module)
    torch.set_num_threads(1)  # as OMP_NUM_THREADS says, which may have come too late


class PreloadedProject(Project):
    """A project whose runs are forked from this process: the same command line, already loaded."""

    def start(self, select: str = "*", config: Config | None = None) -> "subprocess.Popen[str]":
        """Start a run; one that another command must start, or in another Python, as ever."""
        if self.prefix or "PYTHONPATH" in self.environment:
            return super().start(select, config)
        descriptor, output = mkstemp(dir=self.directory)
        os.close(descriptor)
        process = multiprocessing.get_context("fork").Process(
            target=_run, args=(self, self.command(select, config), output)
        )
        process.start()
        return cast("subprocess.Popen[str]", _Forked(process, Path(output)))


class _Forked:
    """As much of a Popen as the faults need."""

    def __init__(self, process: multiprocessing.process.BaseProcess, output: Path) -> None:
        self._process = process
        self._output = output
        self.returncode: int | None = None

    def send_signal(self, number: int) -> None:
        if self._process.is_alive() and self._process.pid:
            os.kill(self._process.pid, number)

    def communicate(self, timeout: float) -> tuple[str, None]:
        self._process.join(timeout)
        self.returncode = self._process.exitcode
        return self._output.read_text(), None


def _run(project: Project, command: list[str], output: str) -> None:
    with Path(output).open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(project.directory)
    os.environ.clear()
    os.environ.update(project.variables())
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.argv = ["dagster", *command[command.index("dagster") + 1 :]]
    import_module("dagster._cli").main()
