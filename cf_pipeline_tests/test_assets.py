"""What each asset promises: its metadata, its config, and that it imports only what it needs."""

import json
import subprocess
import sys

import dagster as dg
import pandas as pd
import pytest

from cf_pipeline.assets.cross_validation import resolve_folds
from cf_pipeline.assets.train_test_split import resolve_strategy
from cf_pipeline.recommender.factor_model import FactorModel
from cf_pipeline_tests.test_caching import AFTER_MODEL

PROMISED = {
    "movielens_archive": {"source", "bytes", "sha256", "licence", "citation"},
    "ratings": {
        *("dagster/row_count", "dagster/column_schema", "dagster/uri", "preview"),
        *("lowest_rating", "highest_rating", "first_rating", "last_rating"),
    },
    "movies": {"dagster/row_count", "dagster/column_schema", "fields_the_source_lacks"},
    "users": {"dagster/row_count", "dagster/column_schema", "fields_the_source_lacks"},
    "rating_drift": {"remark", "new_rows"},
    "train_test_split": {
        *("strategy", "train_rows", "test_rows", "cold_users_in_test", "cold_movies_in_test"),
    },
    "vocabularies": {"users", "movies", "megabytes"},
    "factor_model": {
        *("method", "device", "n_factors", "train_seconds", "learning_curve", "sampler_trace"),
        *("factor_map", "liked_at_equal_popularity"),
    },
    "challenger": {
        *("passed", "findings", "rmse", "rmse_beside_best_baseline", "ndcg_beside_popularity"),
    },
    "champion_model": {
        *("rmse", "mae", "ndcg_at_10", "coverage_of_90_percent", "decision", "history"),
        *("findings", "latest_model_is_champion"),
    },
    "served_model": {"device", "ratings", "users", "movies", "train_seconds", "list_of_user_1"},
    "ranking_model": {
        *("device", "n_factors", "train_seconds", "weight_of_predicted_rating", "ndcg_by_weight"),
        *("validation_ndcg_at_10", "validation_ndcg_at_10_liked", "list_of_user_1"),
    },
    "recommendations": {
        *("dagster/row_count", "dagster/column_schema", "preview", "users", "coverage"),
        *("users_without_ratings", "movies_listed", "share_of_movies_listed"),
    },
    "similar_movies": {"dagster/row_count", "dagster/column_schema", "preview", "movies"},
    "evaluation_metrics": {
        *("rmse", "mae", "baselines", "predicted_against_actual", "error_histogram"),
        *("residual_by_user_activity", "learning_curve", "rmse_by_training_ratings"),
        *("coverage_of_80_percent", "coverage_of_90_percent", "coverage_of_95_percent"),
        *("negative_log_likelihood", "calibration", "calibration_error", "rmse_by_uncertainty"),
        *("posterior_rmse", "cold_pairs", "cold_pairs_by_side_features"),
        *("ndcg_at_10", "ndcg_at_10_liked", "recall_at_10", "precision_at_10", "map_at_100"),
        *("mrr_at_100", "catalogue_coverage", "novelty", "popularity_bias", "ranked_users"),
        *("ranking", "ranking_beside_baselines"),
    },
    "model_card": {"bytes", "pictures", "dagster/uri"},
    "cross_validation": {
        *("leaderboard", "rmse_of_folds", "leaderboard_plot", "best_rmse"),
        *("ranking_leaderboard", "best_ndcg_at_10"),
    },
}


@pytest.mark.parametrize("asset", PROMISED)
def test_an_asset_shows_what_it_promises(finished, asset):
    metadata = finished.metadata(asset)
    assert PROMISED[asset] | {"cache", "cache_key"} <= set(metadata)


def test_the_default_run_is_fold_u1_as_published_and_beats_the_issue_s_bar(finished):
    assert finished.metadata("ratings")["dagster/row_count"] == 100_000
    split = finished.metadata("train_test_split")
    assert (split["train_rows"], split["test_rows"]) == (80_000, 20_000)
    vocabularies = finished.metadata("vocabularies")
    assert (vocabularies["users"], vocabularies["movies"]) == (944, 1651)
    metrics = finished.metadata("evaluation_metrics")
    assert isinstance(metrics["rmse"], float)
    assert isinstance(metrics["mae"], float)
    assert metrics["rmse"] <= 0.8815
    assert 0.89 <= metrics["coverage_of_90_percent"] <= 0.91
    assert metrics["calibration_error"] <= 0.015
    cold = metrics["cold_pairs"].records[1].data
    by_features = metrics["cold_pairs_by_side_features"].records[1].data
    assert cold["count"] == by_features["count"] == 32


def test_gradient_descent_is_a_matter_of_config(project):
    """Its default recipe, the one with the feature prior, and no posterior to judge."""
    config = {"factor_model": {"method": "gradient_descent"}}
    selected = "factor_model,ranking_model,evaluation_metrics"
    assert project.cache(selected, config) == dict.fromkeys(AFTER_MODEL, "miss")
    decision = {"champion_model": {"decide": "promote", "reason": "It has no posterior."}}
    run = project.execute("promote_by_hand", decision)
    assert run.returncode == 0, run.output
    metrics = project.metadata("evaluation_metrics")
    assert metrics["rmse"] <= 0.892
    assert "posterior_rmse" not in metrics
    path = project.artifacts / "recommendations" / "latest" / "recommendations.parquet"
    lists = pd.read_parquet(path)
    assert lists["predicted_rating"].between(1, 5).all()
    assert lists[["rating_low", "rating_high"]].isna().all(axis=None)
    card = (project.artifacts / "model_card" / "latest" / "model_card.html").read_text()
    assert f"<dd>{metrics['rmse']:.4f}</dd>" in card
    assert "Whether intervals hold" not in card


def test_the_metrics_are_those_of_the_model_that_is_kept(finished):
    """Told again from the files alone: the model's own predictions of the test part."""
    rows = pd.read_parquet(
        finished.artifacts / "train_test_split" / "latest" / "train_test_split.parquet"
    )
    test = rows[rows["part"] == "test"]
    model = FactorModel.load(finished.artifacts / "factor_model" / "latest")
    predicted = model.predict(test["user"], test["movie"]).clip(1, 5)
    rmse = float(((predicted - test["rating"]) ** 2).mean() ** 0.5)
    path = finished.artifacts / "evaluation_metrics" / "latest" / "evaluation_metrics.json"
    assert json.loads(path.read_text())["rmse"] == pytest.approx(rmse, abs=1e-6)


@pytest.mark.parametrize(
    ("config", "test_rows"),
    [
        ({"strategy": "fold", "fold": "ua"}, 9_430),
        ({"strategy": "random", "test_fraction": 0.1, "seed": 3}, 10_000),
        ({"strategy": "leave_k_out", "k": 5, "seed": 3}, 5 * 943),
        ({"strategy": "temporal", "test_fraction": 0.3}, 30_000),
        ({"strategy": "temporal", "cut": "per_user", "k": 4}, 4 * 943),
    ],
)
def test_every_split_strategy_is_a_matter_of_config(project, config, test_rows):
    assert project.cache("train_test_split", {"train_test_split": config}) == {
        "train_test_split": "miss"
    }
    assert project.metadata("train_test_split")["test_rows"] == test_rows


@pytest.mark.parametrize(
    ("strategy", "dataset", "expected"),
    [
        ("auto", "ml-100k", "fold"),
        ("auto", "ml-20m", "random"),
        ("auto", "custom", "random"),
        ("fold", "ml-100k", "fold"),
        ("temporal", "custom", "temporal"),
    ],
)
def test_auto_is_the_split_that_a_data_set_has(strategy, dataset, expected):
    assert resolve_strategy(strategy, dataset, timed=True) == expected
    folds = "official" if expected == "fold" else "random"
    assert resolve_folds("auto", dataset) == ("official" if dataset == "ml-100k" else "random")
    assert resolve_folds(folds, dataset) == folds


def test_the_folds_of_another_data_set_are_refused():
    with pytest.raises(dg.Failure, match=r"ml-20m, and only ml-100k has official folds: choose"):
        resolve_strategy("fold", "ml-20m", timed=True)
    with pytest.raises(dg.Failure, match=r"ml-20m, and only .* choose the folds 'random'"):
        resolve_folds("official", "ml-20m")


def test_importing_the_definitions_imports_no_heavy_library():
    script = (
        "import sys, cf_pipeline.definitions;"
        "print(sorted({'torch', 'pandas', 'pyarrow', 'matplotlib', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_nothing_but_what_is_of_ray_imports_ray():
    script = (
        "import pkgutil, sys, cf_pipeline.definitions, cf_pipeline.recommender as package;"
        "names = [module.name for module in pkgutil.iter_modules(package.__path__)];"
        "others = [name for name in names if not name.startswith('ray_')];"
        "[__import__(f'{package.__name__}.{name}') for name in others];"
        "print(len(others) > 50, 'torch' in sys.modules, 'ray' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "True True False"
