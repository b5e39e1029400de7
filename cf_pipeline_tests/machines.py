"""What other machines do meanwhile, in processes of their own."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from cf_pipeline.artifact_store import ArtifactStore
from cf_pipeline.artifacts import Recipe
from cf_pipeline.remote import Remote

RECIPE = Recipe(asset="numbers", code_version="1", config={"n": 3}, inputs={"source": "v1"})


def started(do: Callable[..., None], *arguments: object) -> SpawnProcess:
    """Start a process; a fork would not do, as the loop of fsspec's clients does not survive it."""
    process = multiprocessing.get_context("spawn").Process(target=do, args=arguments)
    process.start()
    return process


def build(directory: Path) -> Mapping[str, str]:
    (directory / "numbers.txt").write_text("1 2 3")
    return {"total": "6"}


def slow_and_random(directory: Path) -> Mapping[str, Any]:
    for number in range(10):
        (directory / f"{number}.bin").write_bytes(os.urandom(50_000))
    time.sleep(0.5)
    return {}


def get(root: Path, address: str) -> None:
    artifact, _ = ArtifactStore(root, Remote(address)).get_or_build(RECIPE, slow_and_random, print)
    artifact.verified()


def many_files(directory: Path) -> Mapping[str, Any]:
    for number in range(300):
        (directory / f"{number}.txt").write_text(str(number))
    return {}


def get_many(root: Path, address: str) -> None:
    ArtifactStore(root, Remote(address)).get_or_build(RECIPE, many_files, print)


class KilledInMidUpload(Remote):
    """Its process is killed when it has uploaded 100 files."""

    uploaded = 0

    def _upload(self, path: Path, name: str) -> None:
        super()._upload(path, name)
        self.uploaded += 1
        if self.uploaded == 100:
            os.kill(os.getpid(), signal.SIGKILL)


def get_many_until_killed(root: Path, address: str) -> None:
    ArtifactStore(root, KilledInMidUpload(address)).get_or_build(RECIPE, many_files, print)


def append_all(address: str, name: int) -> None:
    records = Remote(address).records("champion")
    for turn in range(4):
        while not records.append(1 + len(records.numbers()), {"by": [name, turn]}):
            pass
