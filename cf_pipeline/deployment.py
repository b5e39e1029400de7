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
from typing import Any, Self

import dagster as dg
import yaml
from dagster._utils.schedules import is_valid_cron_string
from pydantic import BaseModel, ValidationError, model_validator

from cf_pipeline.recommender.custom_settings import CustomRatingsSettings
from cf_pipeline.recommender.datasets import Name
from cf_pipeline.recommender.synthetic_settings import SyntheticSettings

RATINGS = "CF_PIPELINE_RATINGS"
AUTOMATION = "CF_PIPELINE_AUTOMATION"
CRON = "CF_PIPELINE_RETRAINING_CRON"
WATCH_SECONDS = "CF_PIPELINE_WATCH_SECONDS"
WEBHOOK = "CF_PIPELINE_WEBHOOK"
DEVICE_LOCKS = "CF_PIPELINE_DEVICE_LOCKS"
RAY = "CF_PIPELINE_RAY"
CONFIG_SUFFIXES = (".yaml", ".yml")
TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".gz", ".bz2", ".zst")
ADDRESSES = ("http://", "https://")


class DeploymentError(ValueError):
    """A variable of the environment cannot be what it is."""


class ArchiveSettings(BaseModel, extra="forbid"):
    """What a file of config may say, as the config of movielens_archive does."""

    dataset: Name | None = None
    sources: list[str] = ["auto"]
    custom: CustomRatingsSettings | None = None
    synthetic: SyntheticSettings | None = None

    @model_validator(mode="after")
    def _check_dataset(self) -> Self:
        if self.dataset is None:  # which is said where only one is described
            if len(self.model_fields_set) != 1:
                raise ValueError("say the dataset, and what it takes: sources, custom or synthetic")
            self.dataset = "custom" if self.custom else "synthetic" if self.synthetic else "ml-100k"
        if self.dataset == "custom" and not self.custom:
            raise ValueError("the dataset is custom: say under custom where the ratings are")
        return self


@dataclass(frozen=True)
class Deployment:
    """Where ratings arrive, what runs by itself, and whom it tells.

    `ratings` is where they arrive, None for MovieLens 100k as published, and `archive` the config
    of movielens_archive that reads them; `watch_seconds` is the time between two looks at it.
    `webhook` is the address that is told of failed runs, None for nobody; it may hold a secret.
    `ray` is the address of the Ray cluster that works on blocks, None for the run's own process.
    """

    ratings: str | None = None
    automation: bool = False
    retraining_cron: str = "0 3 * * *"
    watch_seconds: int = 30
    webhook: str | None = field(default=None, repr=False)
    device_locks: Path = field(default_factory=lambda: _device_locks())
    archive: Mapping[str, Any] = field(default_factory=dict)
    ray: str | None = None

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
            archive=_archive(_path(said)),
            automation=_switch(said),
            retraining_cron=_cron(said, default.retraining_cron),
            watch_seconds=_seconds(said, default.watch_seconds),
            webhook=_address(said),
            device_locks=Path(said.get(DEVICE_LOCKS, default.device_locks)),
            ray=said.get(RAY),
        )

    @property
    def sources(self) -> list[str]:
        """The sources of the archive, unless a run's config names others."""
        named: list[str] = self.archive.get("sources", ["auto"])
        return named

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
            f"{RATINGS} is an address: give the path of a folder with u.data, of a zip, or of a "
            ".yaml file, which may name an address."
        )
    if said.get(RATINGS, "").endswith(TABLE_SUFFIXES):
        raise DeploymentError(
            f"{RATINGS} is {said[RATINGS]}, a table: give the path of a .yaml file that says which "
            "of its columns are what, as {custom: {path: ..., user: ..., item: ..., rating: ...}}."
        )
    return said.get(RATINGS)


def _archive(path: str | None) -> dict[str, Any]:
    """Return the config of movielens_archive that a path stands for."""
    if path is None or not path.endswith(CONFIG_SUFFIXES):
        return {"sources": [path]} if path else {}
    try:
        said = yaml.safe_load(Path(path).expanduser().read_text(encoding="utf-8"))
        settings = ArchiveSettings.model_validate(said)
    except yaml.YAMLError as error:  # which quotes the line, and a password in it
        mark = getattr(error, "problem_mark", None)
        cause = getattr(error, "problem", None) or "it is no YAML"
        line = f" in line {mark.line + 1}" if mark else ""
        raise DeploymentError(f"{RATINGS} is {path}, which cannot be read: {cause}{line}") from None
    except ValidationError as error:
        causes = [
            ": ".join(filter(None, [".".join(map(str, fault["loc"])), fault["msg"]]))
            for fault in error.errors()
        ]
        raise DeploymentError(
            f"{RATINGS} is {path}, which cannot be the config of movielens_archive, whose "
            f"{', '.join(ArchiveSettings.model_fields)} it may have: {'; '.join(causes)}"
        ) from None
    except (OSError, ValueError) as error:
        raise DeploymentError(f"{RATINGS} is {path}, which cannot be read: {error}") from error
    return settings.model_dump(exclude_unset=True)


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
