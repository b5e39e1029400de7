"""Drift in the pipeline: ratings arrive that the champion has not seen."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pytest

from cf_pipeline.artifact_store import ArtifactStore
from cf_pipeline.champion import Champions
from cf_pipeline.decisions import next_decision
from cf_pipeline.recommender.drift_limits import DRIFT_CHECKS
from cf_pipeline_tests.project import Project
from cf_pipeline_tests.recommender.layouts import archive_files, read, with_release_dates
from cf_pipeline_tests.test_launching import latest_run

SEEN, NEW = 42_000, 2_000  # of the ratings by time
BY_TIME = {"train_test_split": {"strategy": "temporal", "cut": "per_user"}}
CHAMPION = "*champion_model,*rating_drift"


def archive_of(
    directory: Path,
    archive: Path,
    change: Callable[[pd.DataFrame], pd.DataFrame],
) -> Path:
    """Write an archive whose ratings are those of the real one by time, changed."""
    tables = read(archive)
    by_time = tables.ratings.to_pandas().sort_values("timestamp", kind="stable")
    ratings = pa.Table.from_pandas(
        change(by_time.reset_index(drop=True)), tables.ratings.schema, preserve_index=False
    )
    directory.mkdir()
    written = tables._replace(ratings=ratings, movies=with_release_dates(tables.movies))
    for name, content in archive_files(written).items():
        (directory / name).write_bytes(content)
    return directory


def checks(project: Project) -> dict[str, dg.AssetCheckEvaluation]:
    """The checks of drift in the latest run."""
    with project.instance() as instance:
        records = instance.get_records_for_run(
            latest_run(project), of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
        ).records
    evaluations = [record.event_log_entry.asset_check_evaluation for record in records]
    return {of.check_name: of for of in evaluations if of and of.check_name in DRIFT_CHECKS}


def warnings(project: Project) -> set[str]:
    """The checks of drift that did not pass in the latest run, in which all of them ran."""
    ran = checks(project)
    assert set(ran) == set(DRIFT_CHECKS)
    assert {of.severity for of in ran.values()} == {dg.AssetCheckSeverity.WARN}
    return {name for name, of in ran.items() if not of.passed}


def report(project: Project) -> dict[str, Any]:
    path = project.artifacts / "rating_drift" / "latest" / "rating_drift.json"
    content: dict[str, Any] = json.loads(path.read_bytes())
    return content


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, archive: Path) -> Project:
    """A project whose champion saw the first ratings by time; to be copied."""
    root = tmp_path_factory.mktemp("drift")
    early = archive_of(root / "early", archive, lambda by_time: by_time[:SEEN])
    project = Project(root / "project", early)
    assert set(project.cache(CHAMPION, BY_TIME).values()) == {"miss"}
    return project


@pytest.fixture
def begun(first: Project, tmp_path: Path) -> Project:
    return first.copy(tmp_path / "project")


def test_without_an_earlier_champion_there_is_nothing_to_compare(begun):
    for cache in ("miss", "hit"):  # of the first run, and of one that finds its own champion
        if cache == "hit":
            assert set(begun.cache(CHAMPION, BY_TIME).values()) == {"hit"}
        assert warnings(begun) == set()
        metadata = begun.metadata("rating_drift")
        assert (metadata["cache"], metadata["new_rows"]) == (cache, 0)
        assert "no champion" in metadata["remark"]
        for evaluation in checks(begun).values():
            assert evaluation.metadata["remark"].value == metadata["remark"]


def test_new_ratings_are_compared_with_those_of_the_champion_before(begun, archive, tmp_path):
    champion = begun.metadata("champion_model")["cache_key"]
    begun.archive = archive_of(
        tmp_path / "more", archive, lambda by_time: by_time[: SEEN + NEW].sample(frac=1)
    )
    begun.cache("*rating_drift")
    assert warnings(begun) == set()
    metadata = begun.metadata("rating_drift")
    assert (metadata["champion"], metadata["new_rows"]) == (champion, NEW)
    assert 0.8 < metadata["champion_rmse_held_out"] < 1.0 < metadata["champion_rmse_on_new"] < 1.2
    assert metadata["warnings"] == 0
    for name in ("rmse_by_week", "stars_before_and_now"):
        assert metadata[name].startswith("![")
    assert len(metadata["changes"].records) == 5
    assert report(begun)["new"]["rmse"] == metadata["champion_rmse_on_new"]

    # A champion made from these very ratings changes nothing of how they came.
    champions = Champions(ArtifactStore(begun.artifacts), print)
    decisions = champions.decisions()
    before = decisions[-1].champion
    assert before is not None
    made_from = {**before.made_from, "ratings": begun.data_versions()["ratings"]}
    promoted = next_decision(
        decisions,
        action="promoted",
        reason="It passed the gate.",
        run_id=latest_run(begun),
        champion=before.model_copy(update={"key": "0" * 32, "made_from": made_from}),
        challenger=made_from,
    )
    assert champions.decide(promoted)
    assert begun.cache("rating_drift") == {"rating_drift": "hit"}
    assert begun.metadata("rating_drift")["champion"] == champion


def test_reversed_stars_are_warned_of_and_block_nothing(begun, archive, tmp_path):
    def reverse(by_time: pd.DataFrame) -> pd.DataFrame:
        stars = by_time["rating"].where(by_time.index < SEEN, 6 - by_time["rating"])
        return by_time.assign(rating=stars)[: SEEN + NEW]

    begun.archive = archive_of(tmp_path / "reversed", archive, reverse)
    run = begun.materialize("*rating_drift")
    assert run.returncode == 0, run.output
    assert warnings(begun) == {
        "stars_are_given_as_before",
        "the_champion_predicts_new_ratings_as_well",
    }
    assert "stars_are_given_as_before: stars: a change of 0." in run.output
    assert "the_champion_predicts_new_ratings_as_well: rmse_of_known: 0." in run.output
    assert begun.metadata("rating_drift")["warnings"] == 2


def test_ratings_of_few_people_are_shown_and_not_judged(begun, archive, tmp_path):
    begun.archive = archive_of(tmp_path / "one_more", archive, lambda by_time: by_time[: SEEN + 1])
    begun.cache("*rating_drift")
    assert warnings(begun) == set()
    assert begun.metadata("rating_drift")["new_rows"] == 1
    for evaluation in checks(begun).values():
        assert "cannot be told" in str(evaluation.metadata["remark"].value)


def test_ratings_that_were_only_taken_away_leave_nothing_to_compare(begun, archive, tmp_path):
    begun.archive = archive_of(tmp_path / "less", archive, lambda by_time: by_time[: SEEN - 1])
    begun.cache("*rating_drift")
    assert warnings(begun) == set()
    metadata = begun.metadata("rating_drift")
    assert metadata["champion"] == begun.metadata("champion_model")["cache_key"]
    assert "seen all" in metadata["remark"]
