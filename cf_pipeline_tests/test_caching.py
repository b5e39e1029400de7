"""The cache's promises, each kept by real runs of Dagster's command line in processes of their
own."""

import os
import shutil
import time
from pathlib import Path

from cf_pipeline_tests.faults import QUICK
from cf_pipeline_tests.project import REPOSITORY, Project

ASSETS = {
    "movielens_archive",
    "ratings",
    "movies",
    "users",
    "rating_drift",
    "train_test_split",
    "vocabularies",
    "factor_model",
    "ranking_model",
    "evaluation_metrics",
    "cross_validation",
    "challenger",
    "champion_model",
    "served_model",
    "recommendations",
    "similar_movies",
    "model_card",
}
SHOWN = {"champion_model", "served_model", "recommendations", "similar_movies", "model_card"}
# Up to the gate, which any config may reach: what is behind it is for models that pass.
TO_METRICS = ASSETS - {"rating_drift", "challenger", *SHOWN}
TO_THE_GATE = "*evaluation_metrics,cross_validation"
AFTER_RANKING = {"ranking_model", "evaluation_metrics"}
AFTER_MODEL = {"factor_model", *AFTER_RANKING}
FAST = {"method": "gradient_descent", "epochs": 1}


def outcome(misses: set[str], of: set[str] = ASSETS) -> dict[str, str]:
    return {asset: "miss" if asset in misses else "hit" for asset in of}


def forbid(project: Project, *modules: str) -> None:
    """Make importing any of `modules` fail in the project's runs."""
    traps = project.directory / "traps"
    for module in modules:
        (traps / module).mkdir(parents=True)
        (traps / module / "__init__.py").write_text(f"raise RuntimeError('{module} was imported')")
    project.environment["PYTHONPATH"] = f"{traps}{os.pathsep}{project.package}"


def edited(project: Project, module: str, old: str, new: str) -> None:
    """Let the project run an edited copy of the package."""
    package = project.directory / "package"
    shutil.copytree(
        *(REPOSITORY / "cf_pipeline", package / "cf_pipeline"),
        ignore=shutil.ignore_patterns("__pycache__"),  # which other tests' runs are writing
        dirs_exist_ok=True,
    )
    path = package / "cf_pipeline" / module
    source = path.read_text()
    assert old in source
    path.write_text(source.replace(old, new, 1))
    project.package = package


def test_nothing_changed_is_all_hits_without_torch_or_a_table_read_or_a_file_rewritten(project):
    before = project.files()
    forbid(project, "torch", "pandas", "pyarrow")
    assert project.cache() == outcome(set())
    assert project.files() == before


def test_a_trap_that_is_stepped_on_fails_the_run(project):
    """The test above could not fail otherwise."""
    forbid(project, "torch")
    run = project.materialize(config={"factor_model": {"n_factors": 3}})
    assert run.returncode == 1
    assert "torch was imported" in run.output


def test_deleted_truncated_and_altered_artifacts_are_rebuilt_and_the_rest_hit(warm):
    versions = warm.data_versions()
    latest = {asset: (warm.artifacts / asset / "latest").resolve() for asset in ASSETS}
    shutil.rmtree(latest["ratings"])
    os.truncate(latest["train_test_split"] / "train_test_split.parquet", 1000)
    weights = latest["factor_model"] / "model.safetensors"
    altered = bytearray(weights.read_bytes())
    altered[-1] ^= 1
    weights.write_bytes(altered)
    assert warm.cache(config=QUICK) == outcome({"ratings", "train_test_split", "factor_model"})
    assert warm.data_versions() == versions
    assert warm.cache(config=QUICK) == outcome(set())


def test_config_changes_what_depends_on_it_and_changed_back_hits(project):
    versions = project.data_versions()
    after_split = AFTER_MODEL | {"train_test_split", "vocabularies"}
    model = {"factor_model": {"n_factors": 7, **FAST}}
    assert project.cache(TO_THE_GATE, model) == outcome(AFTER_MODEL, TO_METRICS)
    other_fold = {"train_test_split": {"fold": "u2"}}
    assert project.cache(TO_THE_GATE, other_fold) == outcome(after_split, TO_METRICS)
    assert project.cache() == outcome(set())
    assert project.data_versions() == versions
    assert project.cache(TO_THE_GATE, model) == outcome(set(), TO_METRICS)


def test_a_setting_that_decides_nothing_costs_nothing(project):
    """A fold ignores the seed, one method the other's settings, and any fit its memory."""
    memory = {"memory_gib": 0.5}
    config = {"train_test_split": {"seed": 5}, "factor_model": {"epochs": 3, **memory}}
    config |= {"ranking_model": memory, "served_model": memory}
    methods = dict.fromkeys(("gibbs", "gradient_descent", "ranking_model"), False)
    config |= {"cross_validation": methods | memory}
    assert project.cache(config=config) == outcome(set())


def test_gradient_descent_has_no_blocks_to_decide_anything(warm):
    config = {"factor_model": {**QUICK["factor_model"], "block_ratings": 1000}}
    assert warm.cache(config=config) == outcome(set())


def test_an_upstream_that_comes_out_the_same_costs_nothing_downstream(project):
    """The same split by another way: the ratings' code is edited, its result is not."""
    edited(project, "recommender/splits.py", "HELD_OUT =", "_UNUSED = 1\nHELD_OUT =")
    readers = {"train_test_split", "cross_validation"}
    assert project.cache() == outcome(readers)
    versions = project.data_versions()
    assert project.cache(config={"train_test_split": {"strategy": "fold"}}) == outcome(set())
    assert project.data_versions() == versions


def test_an_edited_comment_invalidates_nothing_and_edited_code_what_it_makes(warm):
    edited(warm, "recommender/gradient_descent.py", "import torch", "# A remark.\nimport torch")
    assert warm.cache(config=QUICK) == outcome(set())
    edited(warm, "recommender/metrics.py", "def rmse", "_UNUSED = 1\n\n\ndef rmse")
    judged = {"evaluation_metrics", "cross_validation", "challenger", "champion_model"}
    assert warm.cache(config=QUICK) == outcome(judged)
    edited(warm, "recommender/gibbs.py", "class Sampler", "_UNUSED = 1\n\n\nclass Sampler")
    # The model comes out the same, so what reads it hits.
    fits = {"factor_model", "ranking_model", "served_model", "model_card", "cross_validation"}
    assert warm.cache(config=QUICK) == outcome(fits)


def test_history_lost_and_artifacts_kept_hits(project):
    for path in (project.directory / ".dagster").iterdir():
        if path.name != "artifacts":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert project.cache() == outcome(set())


def test_artifacts_lost_and_history_kept_rebuilds(warm):
    versions = warm.data_versions()
    shutil.rmtree(warm.artifacts)
    assert warm.cache(config=QUICK) == outcome(ASSETS)
    assert warm.data_versions() == versions


def test_a_single_asset_uses_the_latest_upstream_results(project):
    assert project.cache("evaluation_metrics") == {"evaluation_metrics": "hit"}
    config = {"factor_model": {"n_factors": 3, **FAST}}
    models = {"factor_model": "miss", "ranking_model": "miss"}
    assert project.cache("factor_model,ranking_model", config) == models
    assert project.cache("evaluation_metrics") == {"evaluation_metrics": "miss"}
    assert project.metadata("factor_model")["n_factors"] == 3


def test_a_model_of_one_split_is_not_judged_on_another(project):
    """Rows it was trained on would be among the test rows."""
    split = {"train_test_split": {"fold": "u2"}}
    assert project.cache("train_test_split", split) == {"train_test_split": "miss"}
    for asset in ("evaluation_metrics", "ranking_model", "factor_model"):
        run = project.materialize(asset, {"factor_model": FAST})
        assert run.returncode == 1
        assert "was made from another train_test_split than the latest" in run.output
        assert f"--select '*{asset}'" in run.output
    config = {"factor_model": FAST}
    models = dict.fromkeys(["vocabularies", "factor_model"], "miss")
    assert project.cache("vocabularies,factor_model", config) == models
    run = project.materialize("evaluation_metrics")
    assert run.returncode == 1
    assert "the latest ranking_model was made from another train_test_split" in run.output
    after = dict.fromkeys(["ranking_model", "evaluation_metrics"], "miss")
    assert project.cache("ranking_model,evaluation_metrics") == after


def test_code_edited_while_a_run_goes_on_is_not_kept_under_the_old_version(project):
    """It may be imported as it was or as it is."""
    edited(project, "recommender/metrics.py", "RIDGE = 3.0", "RIDGE = 3.5")
    module = project.package / "cf_pipeline" / "recommender" / "metrics.py"
    source = module.read_text()
    config = {"factor_model": {**FAST, "n_factors": 9}}
    selected = "factor_model,ranking_model,evaluation_metrics"
    process = project.start(selected, config)
    while not list(project.artifacts.glob("factor_model/*.partial")):
        time.sleep(0.02)
        assert process.poll() is None, "it ended before its source could be edited"
    module.write_text(source.replace("RIDGE = 3.5", "RIDGE = 4.5"))
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 1
    assert "cf_pipeline.recommender.metrics changed while it was made" in output
    assert not list(project.artifacts.glob("factor_model/*.scratch"))  # where it carves ratings
    module.write_text(source)
    made = project.cache(selected, config)
    assert made["factor_model"] == made["evaluation_metrics"] == "miss"


def test_a_file_that_does_not_belong_to_a_result_is_not_read(project):
    latest = (project.artifacts / "movielens_archive" / "latest").resolve()
    (latest / "stray.data").write_text("1\t2\t3\t881250949\n")
    assert project.cache("*ratings") == {"movielens_archive": "miss", "ratings": "hit"}
    assert not (latest / "stray.data").exists()


def test_a_single_asset_says_what_is_missing_upstream(project):
    shutil.rmtree(project.artifacts / "vocabularies")
    run = project.materialize("factor_model", {"factor_model": {"n_factors": 3}})
    assert run.returncode == 1
    assert "Materialize vocabularies again" in run.output


def test_two_runs_at_once_with_different_configs_are_both_right(project):
    configs = [{"train_test_split": {"fold": of}, "factor_model": FAST} for of in ("u3", "u4")]
    processes = [project.start("*evaluation_metrics", config) for config in configs]
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    together = []
    for config in configs:
        assert set(project.cache("*evaluation_metrics", config).values()) == {"hit"}
        together.append(project.data_versions())
    for asset in ("train_test_split", "vocabularies", *AFTER_MODEL):
        shutil.rmtree(project.artifacts / asset)
    for config, versions in zip(configs, together, strict=True):
        assert "miss" in project.cache("*evaluation_metrics", config).values()
        assert project.data_versions() == versions


def test_artifacts_live_where_the_environment_says(project, tmp_path: Path):
    project.environment["CF_PIPELINE_ARTIFACTS"] = str(tmp_path / "elsewhere")
    assert project.cache("*ratings") == {"movielens_archive": "miss", "ratings": "miss"}
    assert (tmp_path / "elsewhere" / "ratings" / "latest" / "ratings.parquet").exists()


def test_under_dagster_home_history_and_artifacts_stand_together(project, tmp_path: Path):
    home = tmp_path / "home"
    home.mkdir()
    project.environment["DAGSTER_HOME"] = str(home)
    run = project.materialize("*ratings")
    assert run.returncode == 0, run.output
    assert (home / ".dagster" / "artifacts" / "ratings" / "latest" / "ratings.parquet").exists()
