"""How the pipeline is deployed: what the environment says of it, read once.

The UI, the command line, the schedule, the sensors and the automation conditions, which take no run
config, all start from the defaults that are made of it, and so agree.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import dagster as dg
from dagster._utils.schedules import is_valid_cron_string

RATINGS = "CF_PIPELINE_RATINGS"
AUTOMATION = "CF_PIPELINE_AUTOMATION"
CRON = "CF_PIPELINE_RETRAINING_CRON"
WATCH_SECONDS = "CF_PIPELINE_WATCH_SECONDS"
WEBHOOK = "CF_PIPELINE_WEBHOOK"
DEVICE_LOCKS = "CF_PIPELINE_DEVICE_LOCKS"
ADDRESSES = ("http://", "https://")


class DeploymentError(ValueError):
    """A variable of the environment cannot be what it is."""


@dataclass(frozen=True)
class Deployment:
    """Where ratings arrive, what runs by itself, and whom it tells.

    `ratings` is the folder or zip where they arrive, None for MovieLens 100k as published;
    `watch_seconds` is the time between two looks at it. `webhook` is the address that is told of
    failed runs, None for nobody; it may hold a secret.
    """

    ratings: str | None = None
    automation: bool = False
    retraining_cron: str = "0 3 * * *"
    watch_seconds: int = 30
    webhook: str | None = field(default=None, repr=False)
    device_locks: Path = field(default_factory=lambda: _device_locks())

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """Read the variables of `environment`; one that is empty counts as unset.

        Raises:
            DeploymentError: a variable has a value that it cannot have.
        """
        said = {name: value for name, value in environment.items() if value}
        default = cls()
        return cls(
            ratings=_path(said),
            automation=_switch(said),
            retraining_cron=_cron(said, default.retraining_cron),
            watch_seconds=_seconds(said, default.watch_seconds),
            webhook=_address(said),
            device_locks=Path(said.get(DEVICE_LOCKS, default.device_locks)),
        )

    @property
    def sources(self) -> list[str]:
        """The sources of the archive, unless a run's config names others."""
        return [self.ratings or "auto"]

    @property
    def schedule_status(self) -> dg.DefaultScheduleStatus:
        """Whether schedules run until somebody says otherwise in the UI."""
        return dg.DefaultScheduleStatus["RUNNING" if self.automation else "STOPPED"]

    @property
    def sensor_status(self) -> dg.DefaultSensorStatus:
        """Whether sensors run until somebody says otherwise in the UI."""
        return dg.DefaultSensorStatus["RUNNING" if self.automation else "STOPPED"]


def _path(said: Mapping[str, str]) -> str | None:
    if "://" in said.get(RATINGS, ""):  # which may hold a password, so it is not quoted
        raise DeploymentError(
            f"{RATINGS} is an address: give the path of a folder with u.data, or of a zip."
        )
    return said.get(RATINGS)


def _switch(said: Mapping[str, str]) -> bool:
    value = said.get(AUTOMATION, "off")
    if value not in ("on", "off"):
        raise DeploymentError(f"{AUTOMATION} is {value!r}: set it to on or off.")
    return value == "on"


def _cron(said: Mapping[str, str], default: str) -> str:
    value = said.get(CRON, default)
    if not is_valid_cron_string(value):
        raise DeploymentError(
            f"{CRON} is {value!r}, which is no cron expression of five fields: minute, hour, day, "
            f"month and day of the week, as in {default!r}."
        )
    return value


def _seconds(said: Mapping[str, str], default: int) -> int:
    value = said.get(WATCH_SECONDS, str(default))
    if not value.isdecimal() or int(value) == 0:
        raise DeploymentError(f"{WATCH_SECONDS} is {value!r}: give a whole number above zero.")
    return int(value)


def _address(said: Mapping[str, str]) -> str | None:
    value = said.get(WEBHOOK)
    if value is not None and not value.startswith(ADDRESSES):  # it may be a secret: unquoted
        raise DeploymentError(f"{WEBHOOK} is no address that begins with {' or '.join(ADDRESSES)}.")
    return value


def _device_locks() -> Path:
    """Return a folder of this machine's that all processes of the user agree on."""
    return Path(tempfile.gettempdir()) / f"cf_pipeline-devices-{os.getuid()}"


DEPLOYMENT = Deployment.of(os.environ)
