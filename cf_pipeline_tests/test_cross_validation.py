"""The leaderboard: what it says, and how little of it is judged again."""

import json
import os
import signal
import time
from typing import Any

import pandas as pd
import pytest

from cf_pipeline_tests.project import Project
from cf_pipeline_tests.test_caching import edited

METHODS = {"cross_validation": {"gibbs": False, "gradient_descent": True, "ranking_model": False}}
BASELINES = {"global_mean", "user_mean", "movie_mean", "regularised_bias"}


def written(project: Project) -> Any:
    path = project.artifacts / "cross_validation" / "latest" / "cross_validation.json"
    return json.loads(path.read_text())


def kept_scores(project: Project) -> dict[str, int]:
    """Each score that is kept, by its directory, and when it was written."""
    return {
        path.parent.name: path.stat().st_mtime_ns
        for path in (project.artifacts / "cross_validation_scores").glob("*/*/*/manifest.json")
        if path.parent.suffix != ".partial" and not path.parent.is_symlink()
    }


@pytest.fixture(scope="module")
def competed(tmp_path_factory: pytest.TempPathFactory, finished: Project) -> Project:
    """A project in which gradient descent has competed with the baselines; only to be copied."""
    project = finished.copy(tmp_path_factory.mktemp("competed") / "project")
    assert project.cache("cross_validation", METHODS) == {"cross_validation": "miss"}
    return project


def test_the_leaderboard_is_the_mean_of_the_folds_best_first(competed):
    result = written(competed)
    assert set(result["scores"]) == {"gradient_descent", "popularity", *BASELINES}
    board = pd.DataFrame(result["leaderboard"]).set_index("method")
    assert board["rmse"].is_monotonic_increasing
    assert set(board.index) == {"gradient_descent", *BASELINES}
    for method in board.index:
        scores = result["scores"][method]
        of_folds = pd.DataFrame(scores).T
        assert list(of_folds.index) == ["u1", "u2", "u3", "u4", "u5"]
        for figure in ("rmse", "mae"):
            assert board.loc[method, figure] == pytest.approx(of_folds[figure].mean())
            assert board.loc[method, f"{figure}_sd"] == pytest.approx(of_folds[figure].std())
    assert board.index[0] == "gradient_descent"
    assert board["rmse"]["gradient_descent"] <= 0.886
    metadata = competed.metadata("cross_validation")
    assert metadata["best_method"] == "gradient_descent"
    shown = [record.data for record in metadata["leaderboard"].records]
    assert [row["method"] for row in shown] == list(board.index)
    assert all(row["seconds"] > 0 for row in shown if row["method"] == "gradient_descent")


def test_an_edited_method_has_only_its_own_folds_judged_again(competed, tmp_path):
    project = competed.copy(tmp_path / "project")
    before = kept_scores(project)
    edited(project, "recommender/gradient_descent.py", "LOSSES =", "_UNUSED = 1\nLOSSES =")
    assert project.cache("cross_validation", METHODS) == {"cross_validation": "miss"}
    after = kept_scores(project)
    assert {key: after[key] for key in before} == before
    assert len(after) == len(before) + 5


def test_a_killed_run_goes_on_from_the_scores_it_had(competed, tmp_path):
    project = competed.copy(tmp_path / "project")
    plain = {"gradient_descent": False, "gradient_descent_plain": True}
    three = {"folds": "random", "n_folds": 3}
    slower = {"cross_validation": METHODS["cross_validation"] | plain | three}
    before = kept_scores(project)
    process = project.start("cross_validation", slower)
    while len(kept_scores(project)) < len(before) + 2:
        time.sleep(0.02)
        assert process.poll() is None, "it ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    killed = kept_scores(project)
    assert project.cache("cross_validation", slower) == {"cross_validation": "miss"}
    after = kept_scores(project)
    assert {key: after[key] for key in killed} == killed
    assert len(after) == len(before) + 3 * len({"gradient_descent_plain", "popularity", *BASELINES})
    assert "gradient_descent_plain" in written(project)["scores"]


def test_lists_by_the_ranking_model_are_above_those_by_popularity(competed, tmp_path):
    """Of random folds, which part other ratings than the official ones."""
    project = competed.copy(tmp_path / "project")
    config: dict[str, object] = {"gibbs": False, "gradient_descent": False, "ranking_model": True}
    config |= {"folds": "random", "n_folds": 2}
    assert project.cache("cross_validation", {"cross_validation": config}) == {
        "cross_validation": "miss"
    }
    result = written(project)
    scores = result["scores"]["regularised_bias"]
    assert list(scores) == ["random1", "random2"]
    assert all(0.92 < score["rmse"] < 0.97 for score in scores.values())
    board = pd.DataFrame(result["ranking_leaderboard"]).set_index("method")
    assert list(board.index) == ["ranking_model", "popularity"]
    for figure in ("ndcg_at_10", "ndcg_at_10_liked", "recall_at_10"):
        assert board[figure]["ranking_model"] > 1.2 * board[figure]["popularity"]
        of_folds = pd.DataFrame(result["scores"]["ranking_model"]).T[figure]
        assert board[figure]["ranking_model"] == pytest.approx(of_folds.mean())
    metadata = project.metadata("cross_validation")
    assert metadata["best_ranking_method"] == "ranking_model"
    assert metadata["best_ndcg_at_10"] == pytest.approx(board["ndcg_at_10"].max())
    shown = [record.data for record in metadata["ranking_leaderboard"].records]
    assert [row["method"] for row in shown] == list(board.index)
    assert shown[0]["seconds"] > shown[1]["seconds"]
