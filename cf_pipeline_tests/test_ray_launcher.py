"""The ready dagster.yaml for a Ray cluster: on two nodes, of which one is lost, and PostgreSQL."""

import json
import logging
import os
import secrets
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import dagster as dg
import pytest
import yaml

from cf_pipeline import runs
from cf_pipeline_tests.postgres import PASSWORD, postgres, required_programs
from cf_pipeline_tests.project import Config, Project
from cf_pipeline_tests.ray_cluster import ADDRESSES, JOB_SERVER, TwoNodes, in_namespace, two_nodes
from cf_pipeline_tests.test_faults import wait_for
from cf_pipeline_tests.test_production import (
    HANGING,
    PRODUCTION,
    last_message,
    status,
    with_seconds,
)
from cf_pipeline_tests.webserver import Webserver, service, webserver

ON_RAY = PRODUCTION.parent / "ray" / "dagster.yaml"
ASSETS = ["movielens_archive", "ratings", "movies", "users", "train_test_split", "vocabularies"]
ON_SECOND = json.dumps({"resources": {f"node:{ADDRESSES['second']}": 0.01}})
TOKEN = secrets.token_hex(32)


@dataclass(frozen=True)
class Seen:
    """What became of the runs, by the statuses in which they were seen, one after the other."""

    undisturbed: str
    its_job: str
    its_cache: dict[str, str]
    node_lost: str
    why: str
    behind: str
    again: tuple[str, str]  # beside its status, that of its job
    judged_dead: list[str]
    again_canceled: str
    told_secrets: list[str]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, archive: Path) -> Seen:
    directory = tmp_path_factory.mktemp("on_ray") / "project"
    outcome = in_namespace(launched, directory, archive, required_programs(), timeout=280)
    assert isinstance(outcome, Seen)
    return outcome


def test_all_else_is_as_on_one_machine():
    on_ray, alone = (yaml.safe_load(path.read_text()) for path in (ON_RAY, PRODUCTION))
    assert on_ray.pop("run_launcher")["class"] == "RayRunLauncher"
    assert on_ray.pop("run_monitoring").keys() == alone.pop("run_monitoring").keys()
    # Two runs may hold all the cores that their tasks wait for.
    assert on_ray["concurrency"]["runs"]["max_concurrent_runs"] == 1
    assert on_ray == alone


def test_a_run_is_a_job_on_the_cluster_and_its_results_are_in_the_store(seen):
    assert (seen.undisturbed, seen.its_job) == ("SUCCESS", "SUCCEEDED")
    assert seen.its_cache == dict.fromkeys(ASSETS, "miss")


def test_a_run_whose_node_is_lost_fails_and_does_not_hold_up_what_follows(seen):
    assert seen.node_lost == "FAILURE"
    assert "Ray job" in seen.why or "The process of this run is gone" in seen.why
    assert seen.behind == "SUCCESS"


def test_it_is_launched_again_and_not_taken_for_dead_while_it_waits_for_a_node(seen):
    assert seen.again == ("STARTING", "PENDING")
    assert seen.judged_dead == []
    assert seen.again_canceled == "CANCELED"


def test_nothing_of_all_this_tells_the_password_or_the_token(seen):
    assert seen.told_secrets == []


def launched(directory: Path, archive: Path, postgres_programs: Path) -> Seen:
    """Launch runs on a cluster, one of which loses its node."""
    with (
        postgres(postgres_programs) as superuser,
        socket.create_server((ADDRESSES["ray"], 0)) as nobody_answers,
    ):
        variables = {
            **superuser.create("dagster").variables,
            "DAGSTER_HOME": str(directory),
            "RAY_API_SERVER_ADDRESS": JOB_SERVER,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": TOKEN,
            "CF_PIPELINE_MOVIELENS_URL": f"http://127.0.0.1:{nobody_answers.getsockname()[1]}",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        project = Project(directory, archive, environment=variables, dagster_yaml=ON_RAY)
        project = with_seconds(project, poll_interval_seconds=2, cancel_timeout_seconds=2)
        os.environ.update(project.variables())  # which the nodes take over
        with (
            project.instance() as instance,
            service(project, "dagster._daemon", "run"),
            two_nodes(job_server=True) as cluster,
            webserver(project) as server,
        ):
            return watched(project, instance, cluster, server)


def watched(
    project: Project, instance: dg.DagsterInstance, cluster: TwoNodes, server: Webserver
) -> Seen:
    from ray.job_submission import JobSubmissionClient

    def launch(
        assets: list[str], config: Config | None = None, tags: Mapping[str, str] | None = None
    ) -> str:
        answer = server.launch(project.run_config(config), assets, tags=tags)
        return str(answer["run"]["runId"])

    def job(run_id: str) -> str:
        jobs = JobSubmissionClient(JOB_SERVER).list_jobs()
        of_run = [job.status.value for job in jobs if run_id in (job.submission_id or "")]
        return str(of_run[0]) if of_run else "NONE"

    def again() -> str | None:
        of_hanging = dg.RunsFilter(tags={"dagster/parent_run_id": hanging})
        launched = [run.run_id for run in instance.get_runs(of_hanging)]
        return next((run_id for run_id in launched if job(run_id) != "NONE"), None)

    undisturbed = launch(ASSETS)
    its_status = server.finish(undisturbed)

    tags = {"dagster-ray/config": ON_SECOND, "dagster/max_retries": "1"}
    hanging = launch(ASSETS[:1], HANGING, tags)
    wait_for(lambda: any(runs.LOCK_TAG in run.tags for run in instance.get_runs(limit=1)))
    behind = launch(ASSETS[:1])
    cluster.kill_node(cluster.nodes[1])
    node_lost, behind_it = server.finish(hanging), server.finish(behind)

    wait_for(again)
    retry = str(again())
    found = status(instance, retry), job(retry)
    judged_dead = runs.fail_dead_runs(instance, project.artifacts, logging.warning, 0.0)
    instance.run_launcher.terminate(retry)
    return Seen(
        undisturbed=its_status,
        its_job=job(undisturbed),
        its_cache=project.cache_of(undisturbed),
        node_lost=node_lost,
        why=last_message(instance, hanging),
        behind=behind_it,
        again=found,
        judged_dead=judged_dead,
        again_canceled=server.finish(retry),
        told_secrets=told_secrets(project, instance),
    )


def told_secrets(project: Project, instance: dg.DagsterInstance) -> list[str]:
    """Return the secrets that are in a file of the project or of Ray, or in what Dagster keeps."""
    folders = (project.directory, Path(os.environ["RAY_TMPDIR"]))
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    texts = []
    for path in files:
        with suppress(FileNotFoundError):  # Ray writes some anew all the time
            texts.append(path.read_bytes().decode(errors="replace"))
    texts += [str(event) for run in instance.get_runs() for event in instance.all_logs(run.run_id)]
    assert any("dagster-run-" in text for text in texts)
    return [it for it in (PASSWORD, quote(PASSWORD), TOKEN) if any(it in text for text in texts)]
