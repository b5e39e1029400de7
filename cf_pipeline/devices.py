"""Two trainings of a user never share a device: who trains holds its lock, which dies with them.

Dagster's own pools would keep the slot of a process that was killed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cf_pipeline.deployment import DEPLOYMENT
from cf_pipeline.locks import Log, exclusive

if TYPE_CHECKING:
    import torch


@contextmanager
def training_on(device: torch.device, log: Log) -> Iterator[None]:
    """Hold the device for a training, and wait where another process trains on it, which is logged.

    Locks of results are taken before that of a device, never while it is held.
    """
    folder = DEPLOYMENT.device_locks
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def say_why(_: str) -> None:
        log(f"Waiting for {device}, on which another process trains.")

    with exclusive(folder / f"{_name(device)}.lock", say_why):
        yield


def _name(device: torch.device) -> str:
    """Return what tells the device on this machine, whatever its number is in this process."""
    if device.type != "cuda":
        return device.type
    import torch

    return f"cuda-{torch.cuda.get_device_properties(device).uuid}"
