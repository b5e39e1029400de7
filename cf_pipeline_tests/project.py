"""A working directory of the pipeline, run as its users run it: Dagster's command line in a process
of its own."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import chdir
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dagster as dg

REPOSITORY = Path(__file__).parents[1]
Config = Mapping[str, Mapping[str, Any]]
# Of a model that the gate refuses beside that of the default config.
WORSE: Config = {"factor_model": {"method": "gradient_descent", "epochs": 1, "n_factors": 2}}


@dataclass(frozen=True)
class Run:
    """How a run of the command line ended: its exit code and all it printed."""

    returncode: int
    output: str


@dataclass
class Project:
    """A directory with the repository's dagster.yaml, and so with a history and artifacts of its
    own.

    `package` is the directory the package is imported from: the repository, or an edited copy of
    it. `prefix` is a command that runs the command line, such as one that limits it. `dagster_yaml`
    is what to take instead of the repository's.
    """

    directory: Path
    archive: Path
    package: Path = REPOSITORY
    environment: dict[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    dagster_yaml: Path = REPOSITORY / "dagster.yaml"

    def __post_init__(self) -> None:
        self.directory.mkdir(exist_ok=True)
        for path in (REPOSITORY / "workspace.yaml", REPOSITORY / "pyproject.toml"):
            shutil.copy(path, self.directory)
        shutil.copy(self.dagster_yaml, self.directory / "dagster.yaml")

    def copy(self, directory: Path) -> "Project":
        """Return a project that goes on from here in another directory, history and artifacts
        included."""
        shutil.copytree(self.directory, directory, symlinks=True)
        return replace(self, directory=directory, environment=dict(self.environment))

    def behind(self, *prefix: str) -> "Project":
        """Return the same project, whose command line another command runs."""
        return replace(self, prefix=prefix)

    def with_variables(self, variables: Mapping[str, str]) -> "Project":
        """Return the same project, with more environment variables."""
        return replace(self, environment=self.environment | dict(variables))

    @property
    def artifacts(self) -> Path:
        return self.directory / ".dagster" / "artifacts"

    def command(self, select: str = "*", config: Config | None = None) -> list[str]:
        """The command line that materializes `select`; `config` maps asset names to their
        config."""
        return [
            *self.prefix,
            *(sys.executable, "-m", "dagster", "asset", "materialize"),
            *("--select", select, "-m", "cf_pipeline.definitions"),
            *("--config-json", json.dumps(self.run_config(config))),
        ]

    def run_config(self, config: Config | None = None) -> dict[str, Any]:
        """The run config that takes this machine's copy of the archive, and has only the baselines
        compete: they are fast."""
        full: dict[str, Mapping[str, Any]] = {
            "movielens_archive": {"sources": [str(self.archive)]},
            "cross_validation": {"gibbs": False, "gradient_descent": False, "ranking_model": False},
            **(config or {}),
        }
        return {"ops": {asset: {"config": dict(value)} for asset, value in full.items()}}

    def variables(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("DAGSTER", "CF_"))}
        own = {
            "PYTHONPATH": str(self.package),
            # As on a user's machine, whatever this one says: not to compile all anew in each run.
            "PYTHONDONTWRITEBYTECODE": "",
            # Or tests that run at once would wait for each other's trainings.
            "CF_PIPELINE_DEVICE_LOCKS": str(self.directory / "devices"),
        }
        return inherited | own | self.environment

    def start(self, select: str = "*", config: Config | None = None) -> subprocess.Popen[str]:
        """Start a run and return its process, standard error mixed into its output."""
        return subprocess.Popen(
            self.command(select, config),
            cwd=self.directory,
            env=self.variables(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def materialize(self, select: str = "*", config: Config | None = None) -> Run:
        """Run to the end, whatever the end is."""
        process = self.start(select, config)
        output, _ = process.communicate(timeout=240)
        return Run(process.returncode, output)

    def execute(self, job: str, config: Config) -> Run:
        """Run a job to the end; `config` maps the names of its ops to their config."""
        run_config = self.directory / "job.json"
        ops = {op: {"config": dict(value)} for op, value in config.items()}
        run_config.write_text(json.dumps({"ops": ops}))
        command = [sys.executable, "-m", "dagster", "job", "execute"]
        command += ["-m", "cf_pipeline.definitions", "-j", job, "--config", str(run_config)]
        return self.run_to_end(*command)

    def run_to_end(self, *command: str) -> Run:
        """Run a command in the project to the end, whatever the end is."""
        done = subprocess.run(
            command,
            cwd=self.directory,
            env=self.variables(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return Run(done.returncode, done.stdout)

    def cache(self, select: str = "*", config: Config | None = None) -> dict[str, str]:
        """Run, which must succeed, and return what each asset said of its cache: `hit` or
        `miss`."""
        run = self.materialize(select, config)
        assert run.returncode == 0, run.output
        with self.instance() as instance:
            run_id = instance.get_runs(limit=1)[0].run_id
        return self.cache_of(run_id)

    def cache_of(self, run_id: str) -> dict[str, str]:
        """Return what each asset said of its cache in a run."""
        with self.instance() as instance:
            records = instance.get_records_for_run(
                run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
            ).records
        events = [record.event_log_entry.asset_materialization for record in records]
        return {
            event.asset_key.to_user_string(): str(event.metadata["cache"].value)
            for event in events
            if event
        }

    def data_versions(self) -> dict[str, str]:
        """The data version of each asset's latest materialization: digests of all that was made."""
        with self.instance() as instance:
            events = {
                key: instance.get_latest_materialization_event(key)
                for key in instance.all_asset_keys()
            }
        return {
            key.to_user_string(): event.asset_materialization.tags["dagster/data_version"]
            for key, event in events.items()
            if event and event.asset_materialization and event.asset_materialization.tags
        }

    def metadata(self, asset: str) -> dict[str, Any]:
        """The metadata of an asset's latest materialization, as plain values."""
        with self.instance() as instance:
            event = instance.get_latest_materialization_event(dg.AssetKey(asset))
        assert event is not None
        assert event.asset_materialization is not None
        return {key: value.value for key, value in event.asset_materialization.metadata.items()}

    def instance(self) -> dg.DagsterInstance:
        """The project's Dagster instance, to be used as a context manager."""
        with chdir(self.directory), patch.dict(os.environ, self.environment):
            return dg.DagsterInstance.from_config(str(self.directory))

    def files(self) -> dict[Path, tuple[int, int]]:
        """Every file of the artifact store but locks, with its size and time of change, to see what
        was rewritten."""
        return {
            path: (path.stat().st_size, path.stat().st_mtime_ns)
            for path in self.artifacts.rglob("*")
            if path.is_file() and path.suffix != ".lock"
        }
