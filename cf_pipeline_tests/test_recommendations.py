"""What real runs make of lists: the ranking model, everybody's lists, similar movies, the card."""

import json
import os
import re
from pathlib import Path

import dagster as dg
import pandas as pd
import pyarrow.parquet as pq
import pytest

from cf_pipeline.artifacts import Artifact
from cf_pipeline.assets.recommendations import SEQUEL_RANK
from cf_pipeline.caching import Artifacts
from cf_pipeline.checks import a_sequel_is_similar
from cf_pipeline.notebook import load_recommender
from cf_pipeline.recommender.ranking_fit import WEIGHTS
from cf_pipeline.recommender.recommendations import RECOMMENDATION_COLUMNS
from cf_pipeline.recommender.serving import Recommender
from cf_pipeline.store_layout import ArtifactError
from cf_pipeline_tests.project import Project
from cf_pipeline_tests.test_caching import AFTER_RANKING, TO_METRICS, TO_THE_GATE, outcome


def latest(project: Project, asset: str) -> Path:
    return project.artifacts / asset / "latest"


def test_lists_find_more_than_popularity_and_more_than_either_part_alone(finished):
    metadata = finished.metadata("evaluation_metrics")
    rows = pd.DataFrame([record.data for record in metadata["ranking"].records])
    of_all = rows[rows["counted"] == "all"].set_index("ordered_by")
    assert set(of_all.index) == {
        *("ranking_model", "implicit_factors", "popularity", "predicted_rating")
    }
    for figure in ("ndcg_at_10", "recall_at_10", "precision_at_10", "map_at_100", "mrr_at_100"):
        assert isinstance(metadata[figure], float)
        assert metadata[figure] == pytest.approx(of_all[figure]["ranking_model"], abs=1e-4)
        assert metadata[figure] > 1.4 * of_all[figure]["popularity"]
    assert metadata["ranked_users"] == 459  # of u1's test part
    liked = rows[rows["counted"] == "liked"].set_index("ordered_by")["ndcg_at_10"]
    assert metadata["ndcg_at_10_liked"] == pytest.approx(liked["ranking_model"], abs=1e-4)
    assert liked.idxmax() == "ranking_model"
    # By the sum of both its weight is chosen, on other rows.
    assert (of_all["ndcg_at_10"] + liked).idxmax() == "ranking_model"


def test_what_is_written_of_lists_is_what_is_shown(finished):
    path = latest(finished, "evaluation_metrics") / "evaluation_metrics.json"
    written = json.loads(path.read_text())["ranking"]["ranking_model"]
    metadata = finished.metadata("evaluation_metrics")
    assert written["all"]["ndcg_at_10"] == metadata["ndcg_at_10"]
    assert written["all"]["coverage"] == metadata["catalogue_coverage"]
    assert written["liked"]["ndcg_at_10"] == metadata["ndcg_at_10_liked"]


def test_the_weight_is_the_best_of_those_tried(finished):
    metadata = finished.metadata("ranking_model")
    rows = pd.read_json(latest(finished, "ranking_model") / "weights.json")
    assert rows["weight"].tolist() == list(WEIGHTS)
    best = rows.iloc[(rows["ndcg_all"] + rows["ndcg_liked"]).argmax()]
    assert metadata["weight_of_predicted_rating"] == best["weight"] > 0
    assert metadata["validation_ndcg_at_10"] == pytest.approx(best["ndcg_all"])
    assert rows["chosen"].sum() == 1


def test_everybody_has_a_list_of_20_and_the_table_is_described(finished):
    metadata = finished.metadata("recommendations")
    assert metadata["users"] == 943
    assert metadata["users_without_ratings"] == 0
    assert metadata["dagster/row_count"] == 943 * 20
    table = pq.read_table(latest(finished, "recommendations") / "recommendations.parquet")
    assert len(table) == 943 * 20
    assert metadata["movies_listed"] == len(table["movie"].unique())
    columns = metadata["dagster/column_schema"].columns
    assert {column.name: column.description for column in columns} == RECOMMENDATION_COLUMNS
    assert [column.name for column in columns] == table.column_names
    preview = [record.data for record in metadata["preview"].records]
    assert [row["rank"] for row in preview] == [1, 2, 3, 4, 5]


def test_the_kept_recommender_makes_the_lists_that_are_kept(finished):
    recommender = Recommender.load(latest(finished, "served_model"))
    table = pd.read_parquet(latest(finished, "recommendations") / "recommendations.parquet")
    for user in (1, 405):
        listed = table[table["user"] == user]
        alone = recommender.recommend(user)
        assert alone["movie"].tolist() == listed["movie"].tolist()
        assert alone["reason"].tolist() == listed["reason"].tolist()
    similar = pd.read_parquet(latest(finished, "similar_movies") / "similar_movies.parquet")
    of_star_wars = similar[similar["title"] == "Star Wars (1977)"]["similar_title"].tolist()
    assert of_star_wars == recommender.similar("Star Wars")["title"].tolist()
    place = of_star_wars.index("Empire Strikes Back, The (1980)") + 1
    assert finished.metadata("similar_movies")[SEQUEL_RANK] == place


def test_a_notebook_loads_the_latest_recommender_of_a_history(project, monkeypatch):
    monkeypatch.chdir(project.directory)
    path = Recommender.load(latest(project, "served_model"))
    with project.instance() as instance:
        found = load_recommender(instance)
    for loaded in (found, load_recommender()):
        pd.testing.assert_frame_equal(loaded.recommend(1), path.recommend(1))
    file = latest(project, "served_model") / "titles.json"
    os.truncate(file, 100)
    with pytest.raises(ArtifactError, match="was altered"):
        load_recommender()


def test_a_notebook_is_told_that_nothing_was_made(tmp_path, archive, monkeypatch):
    project = Project(tmp_path / "project", archive)
    monkeypatch.chdir(project.directory)
    with pytest.raises(ArtifactError, match=re.escape("--select '*served_model'")):
        load_recommender()


@pytest.mark.parametrize(
    ("metadata", "passed", "rank"),
    [
        ({SEQUEL_RANK: 3}, True, 3),
        ({SEQUEL_RANK: 0}, False, 0),
        ({}, True, "these movies are not among the ratings"),
    ],
)
def test_the_check_warns_if_the_sequel_is_not_among_the_similar(tmp_path, metadata, passed, rank):
    made = Artifact("similar_movies", "key", "code", tmp_path, {}, "version", {}, metadata)
    result = a_sequel_is_similar(made)
    assert isinstance(result, dg.AssetCheckResult)
    assert result.passed is passed
    assert result.severity == dg.AssetCheckSeverity.WARN
    assert result.metadata["rank"].value == rank


def test_the_check_of_a_real_run_passes(finished):
    with finished.instance() as instance:
        checks = [
            evaluation
            for record in instance.get_records_for_run(
                instance.get_runs(limit=1)[0].run_id,
                of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION,
            ).records
            if (evaluation := record.event_log_entry.asset_check_evaluation)
        ]
        made = Artifacts(root=str(finished.artifacts)).latest(
            instance, dg.AssetKey("similar_movies")
        )
    [check] = [check for check in checks if check.check_name == "a_sequel_is_similar"]
    assert check.passed
    assert check.metadata["rank"].value == made.metadata[SEQUEL_RANK] >= 1


def test_config_of_the_ranking_model_makes_it_and_what_reads_it_anew(project):
    model = project.data_versions()["factor_model"]
    config = {"ranking_model": {"n_factors": 8, "iterations": 2}}
    assert project.cache(TO_THE_GATE, config) == outcome(AFTER_RANKING, TO_METRICS)
    assert project.metadata("ranking_model")["n_factors"] == 8
    assert project.data_versions()["factor_model"] == model
    assert project.cache() == outcome(set())


def few_ratings(folder: Path, stars: int) -> Path:
    """Write ratings of up to so many stars; user 1 has rated all of the 12 movies."""
    folder.mkdir()
    pairs = [(user, movie) for user in range(1, 9) for movie in range(1, 13)]
    rows = [
        f"{user}\t{movie}\t{1 + (user * movie) % stars}\t{880_000_000 + 100 * user + movie}\n"
        for user, movie in pairs
        if user == 1 or (user + movie) % 3
    ]
    (folder / "u.data").write_text("".join(rows))
    return folder


@pytest.mark.parametrize("stars", [5, 3])
def test_few_people_few_movies_and_nobody_who_liked_any_go_all_the_way(tmp_path, stars):
    project = Project(tmp_path / "project", few_ratings(tmp_path / "ratings", stars))
    config: dict[str, dict[str, object]] = {
        "train_test_split": {"strategy": "random"},
        "cross_validation": {
            "folds": "random",
            "n_folds": 2,
            "gibbs": False,
            "gradient_descent": False,
        },
    }
    run = project.materialize(config=config)
    assert run.returncode == 1
    assert "challenger_beats_baselines" in run.output  # of so few ratings nothing is sure
    run = project.materialize("champion_model", config)
    assert run.returncode == 1
    assert "there is no champion to keep" in run.output
    decision = {"champion_model": {"decide": "promote", "reason": "Better than none."}}
    run = project.execute("promote_by_hand", decision)
    assert run.returncode == 0, run.output
    assert "list_of_user_1" not in project.metadata("ranking_model")
    metrics = project.metadata("evaluation_metrics")
    assert "ndcg_at_10" in metrics
    assert ("ndcg_at_10_liked" in metrics) == (stars == 5)
    board = project.metadata("cross_validation")["ranking_leaderboard"].records
    assert {row.data["method"] for row in board} == {"ranking_model", "popularity"}
    lists = pd.read_parquet(latest(project, "recommendations") / "recommendations.parquet")
    assert 1 not in set(lists["user"])
    assert "random" in (latest(project, "model_card") / "model_card.html").read_text()
