"""The search for hyper-parameters: what it leaves behind."""

import json
from typing import Any

import optuna

from cf_pipeline_tests.project import Project, Run

JOB = "hyperparameter_search"


def search(project: Project, **config: Any) -> Run:
    """Run the job on the command line."""
    return project.execute(JOB, {"search_hyperparameters": config})


def test_a_search_leaves_its_study_and_a_run_config_that_works(project):
    run = search(
        project, method="gradient_descent", n_trials=3, epochs=2, loss="l1", memory_gib=0.5
    )
    assert run.returncode == 0, run.output
    folder = project.artifacts / JOB / "latest"
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{folder / 'study.db'}")
    assert len(study.trials) == 3
    assert study.trials[0].params["epochs"] == 2
    assert study.best_value == min(trial.value or 9 for trial in study.trials)
    metadata = project.metadata(JOB)
    assert metadata["best_rmse"] == study.best_value
    assert len(metadata["trials"].records) == 3
    best = json.loads((folder / "best_run_config.json").read_text())["ops"]["factor_model"]
    given = {"method": "gradient_descent", "loss": "l1", "memory_gib": 0.5}
    assert best["config"] == given | study.best_params
    assert project.cache("factor_model", {"factor_model": best["config"]}) == {
        "factor_model": "miss"
    }
    # The same again is found in the store.
    before = project.files()
    run = search(project, method="gradient_descent", n_trials=3, epochs=2, loss="l1")
    assert run.returncode == 0, run.output
    assert project.files() == before
    assert project.metadata(JOB)["cache"] == "hit"


def test_gibbs_is_searched_too_and_trials_that_cannot_be_are_refused_before(project):
    run = search(project, n_trials=2, sweeps=60)
    assert run.returncode == 0, run.output
    assert set(project.metadata(JOB)["trials"].records[0].data) == {
        *("trial", "validation_rmse", "sampled_factors", "feature_rank", "burn_in")
    }
    run = search(project, n_trials=0)
    assert run.returncode == 1
    assert "n_trials" in run.output


def test_a_search_without_a_training_part_says_what_to_materialize(tmp_path, archive):
    run = search(Project(tmp_path / "project", archive), n_trials=1)
    assert run.returncode == 1
    assert "vocabularies has no materialization in this Dagster history" in run.output
