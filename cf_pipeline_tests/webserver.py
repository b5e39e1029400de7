"""Dagster's webserver on a project, on a free loopback port, spoken to in GraphQL."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from cf_pipeline_tests.project import Project

LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on RunConfigValidationInvalid { errors { message reason } }
    ... on PythonError { message }
  }
}
"""
RETRY = """
mutation Retry($params: ReexecutionParams!) {
  launchRunReexecution(reexecutionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}
"""
STATUS = "query Status($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
STALE = "{ assetNodes { assetKey { path } staleStatus } }"


class Webserver:
    """What a browser would ask of the server, and the process that was started for it."""

    def __init__(self, address: str, pid: int) -> None:
        self.address = address
        self.pid = pid

    def ask(self, query: str, **variables: Any) -> Any:
        """Send a GraphQL query and return its data."""
        request = urllib.request.Request(
            f"{self.address}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    def launch(
        self,
        run_config: dict[str, Any],
        assets: list[str],
        checks: bool = True,
        tags: Mapping[str, str] | None = None,
    ) -> Any:
        """Press the launchpad's button: launch a run of `assets` and return the server's answer.

        Their checks run too, unless somebody has taken them out of the selection.
        """
        selector = {
            "repositoryLocationName": "cf_pipeline.definitions",
            "repositoryName": "__repository__",
            "pipelineName": "__ASSET_JOB",
            "assetSelection": [{"path": [asset]} for asset in assets],
            "assetCheckSelection": None if checks else [],
        }
        metadata = {"tags": [{"key": key, "value": value} for key, value in (tags or {}).items()]}
        params = {
            "selector": selector,
            "runConfigData": run_config,
            "mode": "default",
            "executionMetadata": metadata,
        }
        return self.ask(LAUNCH, params=params)["launchRun"]

    def retry(self, run_id: str) -> Any:
        """Press the button "From failure" of a run, and return the server's answer."""
        params = {"parentRunId": run_id, "strategy": "FROM_FAILURE"}
        return self.ask(RETRY, params=params)["launchRunReexecution"]

    def finish(self, run_id: str) -> str:
        """Wait until the run has ended, and return its status."""
        for _ in range(600):
            status = self.ask(STATUS, id=run_id)["runOrError"]["status"]
            if status in {"SUCCESS", "FAILURE", "CANCELED"}:
                return str(status)
            time.sleep(0.2)
        raise TimeoutError(f"Run {run_id} is still {status}.")

    def stale_statuses(self) -> dict[str, str]:
        """What the UI shows beside each asset: FRESH, STALE or MISSING."""
        nodes = self.ask(STALE)["assetNodes"]
        return {node["assetKey"]["path"][0]: node["staleStatus"] for node in nodes}


def free_port() -> int:
    """Return a port of the loopback on which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def webserver(project: Project, development: bool = False) -> Iterator[Webserver]:
    """Run the server while the block lasts: alone, or with the daemon, by `dagster dev`."""
    port = free_port()
    command = ["dagster_webserver", "-h", "127.0.0.1"]
    if development:
        command = ["dagster", "dev"]  # listens where it does by default
    with service(project, *command, "-p", str(port)) as process:
        server = Webserver(f"http://127.0.0.1:{port}", process.pid)
        _wait_until_up(server, process)
        yield server


@contextmanager
def service(project: Project, module: str, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a module of Dagster's in the project while the block lasts."""
    with (project.directory / f"{module}.log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=project.directory,
            env=project.variables(),
            stdout=log,
            stderr=subprocess.STDOUT,
            # A group of its own: the code server and the runs it starts end with it.
            start_new_session=True,
        )
        try:
            yield process
        finally:
            _signal(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)
            _signal(process.pid, signal.SIGKILL)  # a run, say, that outlives its server
            process.wait()


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # all have ended
        os.killpg(group, number)


def _wait_until_up(server: Webserver, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(300):
        try:
            server.ask("{ version }")
        except (urllib.error.URLError, ConnectionError):
            assert process.poll() is None, "the webserver ended before it answered"
            time.sleep(0.2)
        else:
            return
    raise TimeoutError("The webserver does not answer.")
