"""What people are shown is the model that the gate lets through, whatever somebody tries; and
somebody can decide otherwise, which is recorded."""

import random
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from cf_pipeline.artifact_store import ArtifactStore
from cf_pipeline.champion import Champions
from cf_pipeline.decisions import Decision
from cf_pipeline.recommender.movielens_files import u_data
from cf_pipeline.recommender.serving import Recommender
from cf_pipeline_tests.project import WORSE, Project, Run
from cf_pipeline_tests.test_caching import ASSETS, FAST, SHOWN, outcome
from cf_pipeline_tests.test_launching import latest_run
from cf_pipeline_tests.webserver import webserver


def decisions(project: Project) -> list[Decision]:
    return Champions(ArtifactStore(project.artifacts), print).decisions()


def shown(project: Project) -> dict[str, str]:
    """The data version of everything that people are shown."""
    return {asset: of for asset, of in project.data_versions().items() if asset in SHOWN}


def failed_checks(project: Project) -> dict[str, str]:
    """The checks of the gate that failed in the latest run, and why."""
    with project.instance() as instance:
        records = instance.get_records_for_run(
            latest_run(project), of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
        ).records
    evaluations = [record.event_log_entry.asset_check_evaluation for record in records]
    return {
        of.check_name: str(of.metadata["why"].value)
        for of in evaluations
        if of and not of.passed and of.asset_key == dg.AssetKey("challenger")
    }


def decide(project: Project, job: str, **config: Any) -> Run:
    """Launch a job by which somebody decides, with this config in place of its own."""
    return project.execute(job, {"champion_model": config})


def test_the_first_model_is_promoted_and_served_after_a_fit_to_every_rating(finished):
    (decision,) = decisions(finished)
    assert (decision.number, decision.action) == (1, "promoted")
    assert all(finding["passed"] for finding in decision.findings)
    assert finished.metadata("champion_model")["latest_model_is_champion"] is True
    assert finished.metadata("served_model")["ratings"] == 100_000
    served = Recommender.load(finished.artifacts / "served_model" / "latest")
    judged = Recommender.load(finished.artifacts / "champion_model" / "latest")
    assert (len(served.users), len(served.movies)) == (944, 1683)
    assert (len(judged.users), len(judged.movies)) == (944, 1651)
    assert served.model.settings == judged.model.settings
    assert served.model.weight == judged.model.weight


def test_a_worse_model_fails_the_checks_and_nothing_downstream_is_made(finished, refused):
    assert shown(refused) == shown(finished)
    assert {"challenger_beats_champion", "challenger_beats_baselines"} <= set(
        failed_checks(refused)
    )
    assert "difference" in failed_checks(refused)["challenger_beats_champion"]
    with refused.instance() as instance:
        said = [entry.message for entry in instance.all_logs(latest_run(refused))]
    for name, why in failed_checks(refused).items():
        assert f"{name}: {why}" in "\n".join(said)
    assert any("launch the job promote_by_hand with a reason" in line for line in said)
    assert not SHOWN & set(refused.cache_of(latest_run(refused)))


@pytest.mark.parametrize("select", ["champion_model", "champion_model*", "served_model*"])
def test_materializing_the_champion_alone_does_not_pass_the_gate(worse, select):
    before = shown(worse)
    made = worse.cache(select)
    assert set(made.values()) == {"hit"}
    assert shown(worse) == before
    if "champion_model" in made:
        metadata = worse.metadata("champion_model")
        assert metadata["latest_model_is_champion"] is False
        assert "refused" in metadata["decision"]
        rules = {row.data["rule"]: row.data["passed"] for row in metadata["findings"].records}
        assert rules["challenger beats champion"] is False
        assert rules["intervals hold"] is True
        (promoted, refusal) = decisions(worse)
        assert (promoted.action, refusal.action) == ("promoted", "refused")
        assert refusal.champion == promoted.champion
        worse.cache(select)
        assert len(decisions(worse)) == 2  # what was said before is not said again


def test_the_ui_does_not_pass_the_gate(worse):
    before = shown(worse)
    config = {"ops": {"champion_model": {"config": {"decide": "promote", "reason": "Let me in."}}}}
    with webserver(worse) as server:
        launched = server.launch({}, ["champion_model"])
        assert server.finish(launched["run"]["runId"]) == "SUCCESS"
        launched = server.launch(config, ["champion_model"])
        assert server.finish(launched["run"]["runId"]) == "FAILURE"
        whole = server.launch(worse.run_config(WORSE), sorted(ASSETS))
        assert server.finish(whole["run"]["runId"]) == "FAILURE"
        assert shown(worse) == before
        unchecked = server.launch(worse.run_config(WORSE), sorted(ASSETS), checks=False)
        assert server.finish(unchecked["run"]["runId"]) == "SUCCESS"
    assert shown(worse) == before
    assert {decision.action for decision in decisions(worse)} == {"promoted", "refused"}


def test_a_run_that_is_retried_from_its_failure_goes_on_with_its_own_results(worse):
    """The latest ones are of another run by then, whose model is the champion."""
    with webserver(worse) as server:
        failed = server.launch(worse.run_config(WORSE), sorted(ASSETS))["run"]["runId"]
        assert server.finish(failed) == "FAILURE"
        assert worse.materialize("*challenger").returncode == 0
        retried = server.retry(failed)["run"]["runId"]
        assert server.finish(retried) == "FAILURE"
    assert latest_run(worse) == retried
    assert "challenger_beats_champion" in failed_checks(worse)


def test_config_that_decides_by_hand_is_for_the_jobs_alone(worse):
    before = shown(worse)
    config = {"champion_model": {"decide": "promote", "reason": "Let me in."}}
    run = worse.materialize("champion_model", config)
    assert run.returncode == 1
    assert "Only the job promote_by_hand can promote" in run.output
    assert shown(worse) == before


def test_somebody_promotes_by_hand_goes_back_and_is_on_record(worse):
    before = shown(worse)
    run = decide(worse, "promote_by_hand")
    assert run.returncode == 1
    assert "needs a reason, which is recorded: give it in the run config, as `ops: " in run.output
    run = decide(worse, "promote_by_hand", reason="An experiment.")
    assert run.returncode == 0, run.output
    assert all(shown(worse)[asset] != before[asset] for asset in SHOWN)
    last = decisions(worse)[-1]
    assert (last.action, last.reason) == ("promoted by hand", "An experiment.")
    # It is the champion now, and passes by being it.
    assert worse.cache(config=WORSE) == outcome(set())

    run = decide(worse, "roll_back", reason="People complain.")
    assert run.returncode == 0, run.output
    assert shown(worse) == before
    last = decisions(worse)[-1]
    assert (last.action, last.reason) == ("rolled back", "People complain.")
    assert last.champion == decisions(worse)[0].champion
    for asset in SHOWN:  # what notebooks load
        link = worse.artifacts / asset / "latest"
        assert link.resolve().name == worse.metadata(asset)["cache_key"]
    run = worse.materialize(config=WORSE)
    assert run.returncode == 1
    assert "was_not_rolled_back" in failed_checks(worse)
    assert shown(worse) == before


def test_a_better_model_replaces_the_champion(worse):
    assert decide(worse, "promote_by_hand", reason="To be beaten.").returncode == 0
    made = worse.cache()
    assert made["challenger"] == "miss"
    assert made["champion_model"] == "hit"  # it was kept before
    last = decisions(worse)[-1]
    assert last.action == "promoted"
    figures = {name: of for one in last.findings for name, of in one["figures"].items()}
    assert figures["rmse_difference"] < figures["rmse_difference_high"] < 0
    assert figures["compared_ratings"] == 20_000
    assert {one["rule"] for one in last.findings} >= {
        *("new_ratings_are_plausible", "lists_are_no_worse")
    }


def test_a_model_of_another_split_is_not_judged_on_what_the_champion_has_seen(project):
    before = shown(project)
    run = project.materialize(config={"train_test_split": {"fold": "u2"}, "factor_model": FAST})
    assert run.returncode == 1
    assert (
        "Only 0 of 20,000 held-out ratings" in failed_checks(project)["challenger_beats_champion"]
    )
    assert shown(project) == before


@pytest.fixture
def arriving(tmp_path: Path, archive: Path) -> Path:
    """A folder where the older nine tenths of the real ratings have arrived."""
    folder = tmp_path / "arriving"
    folder.mkdir()
    rows = sorted(
        b"".join(u_data(archive)).decode().splitlines(), key=lambda row: int(row.split("\t")[3])
    )
    (folder / "u.data").write_text("\n".join(rows[:90_000]) + "\n")
    (folder / "later").write_text("\n".join(rows[90_000:]) + "\n")
    return folder


def test_shuffled_ratings_do_not_pass_the_gate_by_the_job_that_the_sensor_launches(
    tmp_path, archive, arriving
):
    fast = {"factor_model": {"method": "gradient_descent", "epochs": 3}}
    project = Project(tmp_path / "project", archive).with_variables(
        {"CF_PIPELINE_RATINGS": str(arriving)}
    )
    first = project.execute("retraining", fast)
    assert first.returncode == 0, first.output
    before = shown(project)
    later = [row.split("\t") for row in (arriving / "later").read_text().splitlines()]
    stars = random.Random(0).sample([row[2] for row in later], len(later))
    spoilt = ["\t".join([*row[:2], star, row[3]]) for row, star in zip(later, stars, strict=True)]
    with (arriving / "u.data").open("a") as file:
        file.write("\n".join(spoilt) + "\n")
    run = project.execute("retraining", fast)
    assert run.returncode == 1
    assert "new_ratings_are_plausible" in failed_checks(project)
    assert shown(project) == before
    assert project.cache("champion_model*")["champion_model"] == "hit"
    assert shown(project) == before
