"""Runs whose blocks are worked on by a Ray cluster, and what becomes of them when they are
killed."""

import re
import shutil
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from cf_pipeline_tests.project import Config, Project, Run
from cf_pipeline_tests.ray_cluster import in_namespace, two_nodes

BLOCKS = 40_000
SWEEPS: Config = {
    "factor_model": {
        "sweeps": 35,
        "burn_in": 5,
        "samples": 10,
        "kept_samples": 4,
        "block_ratings": BLOCKS,
        "checkpoint_seconds": 0.1,
    },
    "ranking_model": {"block_ratings": BLOCKS},
}


class Killed(NamedTuple):
    """What a run on a cluster said after one that was killed, and what was left beside results."""

    output: str
    left_when_killed: list[str]
    left_at_the_end: list[str]
    tasks_of_split: int
    tasks_of_split_alone: int


def killed_and_run_again(project: Project) -> Killed:
    """Run on a cluster, kill the run with all that its process is, and run again."""
    with two_nodes() as cluster:
        on_ray = project.with_variables({"CF_PIPELINE_RAY": cluster.address})
        process = on_ray.start("*evaluation_metrics", SWEEPS)
        assert process.stdout is not None
        for line in process.stdout:
            if re.search(r"sweep \d+", line):
                break
        process.kill()
        process.communicate()
        left = scratch(project)
        again = on_ray.materialize("*evaluation_metrics", SWEEPS)
        assert again.returncode == 0, again.output
        left_at_the_end, after_checks = scratch(project), tasks(project, "train_test_split")
        shutil.rmtree((project.artifacts / "train_test_split" / "latest").resolve())
        assert on_ray.materialize("train_test_split").returncode == 0
        alone = tasks(project, "train_test_split")
        return Killed(again.output, left, left_at_the_end, after_checks, alone)


def tasks(project: Project, asset: str) -> int:
    return sum(record.data["tasks"] for record in project.metadata(asset)["nodes"].records)


def scratch(project: Project) -> list[str]:
    return [path.parent.name for path in project.artifacts.glob("*/*.scratch")]


def test_a_run_that_is_killed_goes_on_from_where_it_was_on_a_cluster(
    archive: Path, tmp_path: Path
) -> None:
    local = Project(tmp_path / "local", archive)
    assert local.materialize("*evaluation_metrics", SWEEPS).returncode == 0
    on_ray = Project(tmp_path / "on_ray", archive)
    killed = in_namespace(killed_and_run_again, on_ray, timeout=240)

    assert "factor_model" in killed.left_when_killed
    [step] = re.findall(r"Going on after step (\d+)", killed.output)
    assert int(step) >= 1
    assert killed.left_at_the_end == []
    assert killed.tasks_of_split == killed.tasks_of_split_alone
    assert on_ray.data_versions() == local.data_versions()
    rows = [record.data for record in on_ray.metadata("factor_model")["nodes"].records]
    assert len(rows) == 2
    assert all(row["tasks"] > 0 and row["ratings_a_second"] > 0 for row in rows)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense"])
def test_a_cluster_that_is_not_there_is_named_with_what_to_do(
    address: str, archive: Path, tmp_path: Path
) -> None:
    project = Project(tmp_path / "project", archive, environment={"CF_PIPELINE_RAY": address})
    run = in_namespace(project.materialize, "*factor_model", timeout=120)
    assert run.returncode != 0
    assert f"The Ray cluster '{address}' cannot be reached" in run.output


class Alone(NamedTuple):
    """A run that had a cluster of its own, and the processes of Ray that were left behind."""

    run: Run
    left: list[str]


def on_its_own_cluster(project: Project) -> Alone:
    run = project.materialize("*vocabularies")
    processes = [" ".join(process.cmdline()) for process in psutil.process_iter()]
    return Alone(run, [one for one in processes if "raylet" in one or "gcs_server" in one])


def test_a_run_can_have_a_cluster_of_its_own_that_ends_with_it(
    archive: Path, tmp_path: Path
) -> None:
    project = Project(tmp_path / "project", archive, environment={"CF_PIPELINE_RAY": "local"})
    alone = in_namespace(on_its_own_cluster, project)
    assert alone.run.returncode == 0, alone.run.output
    assert re.search(r"Working on a Ray cluster: 1 nodes, \d+ cores", alone.run.output)
    assert alone.left == []
    assert "nodes" in project.metadata("vocabularies")
