"""Every way to launch a run works on one history, takes config, and refuses wrong config
clearly."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cf_pipeline_tests.project import REPOSITORY, Config, Project
from cf_pipeline_tests.test_caching import (
    AFTER_MODEL,
    ASSETS,
    FAST,
    TO_METRICS,
    TO_THE_GATE,
    outcome,
)
from cf_pipeline_tests.webserver import webserver

OVERRIDE = {
    "factor_model": {"method": "gradient_descent", "n_factors": 5, "epochs": 1},
    "train_test_split": {"strategy": "random", "seed": 11, "test_fraction": 0.25},
}
CHANGED = {"train_test_split", "vocabularies", *AFTER_MODEL}
WRONG: list[tuple[Config, str]] = [
    ({"factor_model": {"n_facters": 5}}, 'unexpected config entry "n_facters"'),
    ({"factor_model": {"n_factors": "many"}}, "Invalid scalar"),
    ({"train_test_split": {"strategy": "alphabetical"}}, "not in enum type"),
]


def dg(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `dg` in the project, which holds the package as a clone would."""
    package = project.directory / "cf_pipeline"
    if not package.exists():
        package.symlink_to(REPOSITORY / "cf_pipeline")
    return subprocess.run(
        [str(Path(sys.executable).parent / "dg"), *arguments],
        cwd=project.directory,
        env=project.variables(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def latest_run(project: Project) -> str:
    with project.instance() as instance:
        return str(instance.get_runs(limit=1)[0].run_id)


def seen(project: Project) -> tuple[object, ...]:
    model, split = project.metadata("factor_model"), project.metadata("train_test_split")
    return model["n_factors"], split["strategy"], split["test_rows"]


def test_the_command_line_takes_config(project):
    assert project.cache(TO_THE_GATE, OVERRIDE) == outcome(CHANGED, TO_METRICS)
    assert seen(project) == (5, "random", 25_000)


def test_dg_launches_on_the_same_history_and_takes_config(project):
    done = dg(project, "launch", "--assets", "*", "--config-json", json.dumps(project.run_config()))
    assert done.returncode == 0, done.stdout
    assert project.cache_of(latest_run(project)) == outcome(set())
    config = json.dumps(project.run_config(OVERRIDE))
    done = dg(project, "launch", "--assets", TO_THE_GATE, "--config-json", config)
    assert done.returncode == 0, done.stdout
    assert project.cache_of(latest_run(project)) == outcome(CHANGED, TO_METRICS)
    assert seen(project) == (5, "random", 25_000)


def test_dg_checks_the_definitions(project):
    done = dg(project, "check", "defs")
    assert done.returncode == 0, done.stdout


def test_the_ui_launches_on_the_same_history_takes_config_and_shows_it_fresh(project):
    with webserver(project) as server:
        assert server.stale_statuses() == dict.fromkeys(ASSETS, "FRESH")
        launched = server.launch(project.run_config(), sorted(ASSETS))
        assert server.finish(launched["run"]["runId"]) == "SUCCESS"
        assert project.cache_of(launched["run"]["runId"]) == outcome(set())
        launched = server.launch(project.run_config(OVERRIDE), sorted(TO_METRICS))
        assert server.finish(launched["run"]["runId"]) == "SUCCESS"
        assert project.cache_of(launched["run"]["runId"]) == outcome(CHANGED, TO_METRICS)
        assert seen(project) == (5, "random", 25_000)
        statuses = server.stale_statuses()
        assert {statuses[asset] for asset in TO_METRICS} == {"FRESH"}
        assert statuses["challenger"] == "STALE"
        # Another model alone: what is made from it is stale until it follows.
        launched = server.launch(
            project.run_config({"factor_model": {"n_factors": 4, **FAST}}), ["factor_model"]
        )
        assert server.finish(launched["run"]["runId"]) == "SUCCESS"
        assert server.stale_statuses()["evaluation_metrics"] == "STALE"
        for config, _ in WRONG:
            answer = server.launch(project.run_config(config), sorted(ASSETS))
            assert answer["__typename"] == "RunConfigValidationInvalid"
            assert next(iter(config)) in answer["errors"][0]["message"]


@pytest.mark.parametrize(("config", "message"), WRONG)
def test_wrong_config_is_refused_before_anything_runs(project, config, message):
    before = latest_run(project)
    run = project.materialize(config=config)
    assert run.returncode == 1
    assert message in run.output
    assert latest_run(project) == before
