"""The whole pipeline on events in several files: they are no stars, but all alike."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from cf_pipeline.caching import Artifacts
from cf_pipeline.compute import Compute
from cf_pipeline.definitions import defs
from cf_pipeline.gate import Gate
from cf_pipeline.recommender.factor_model import FactorModel
from cf_pipeline.recommender.serving import Recommender
from cf_pipeline.recommender.settings import GATE_RULES
from cf_pipeline.recommender.table_files import table_files

N_USERS, N_MOVIES, N_OF_USER = 90, 90, 20
N_FILES = 3
FAST = {
    "train_test_split": {"strategy": "random", "test_fraction": 0.35},
    "factor_model": {"sweeps": 12, "burn_in": 4, "sampled_factors": 4, "n_factors": 4},
    "ranking_model": {"n_factors": 4},
    "cross_validation": {"folds": "random", "n_folds": 2, "ranking_model": False, "gibbs": False},
}


def watched(seed: int = 0) -> pd.DataFrame:
    """Return what people of three tastes watched, each a third of the movies and little else."""
    random = np.random.default_rng(seed)
    rows = []
    for user in range(1, N_USERS + 1):
        chance = np.where(np.arange(N_MOVIES) % 3 == user % 3, 20.0, 1.0)
        chosen = random.choice(N_MOVIES, N_OF_USER, replace=False, p=chance / chance.sum())
        rows += [(user, movie + 1, 1, 880_000_000 + user) for movie in chosen]
    return pd.DataFrame(rows, columns=["user", "movie", "rating", "timestamp"])


class Pipeline:
    """All assets and their checks, in this process, with a history of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.archive = root / "archive"
        self.archive.mkdir(parents=True)
        self.result: dg.ExecuteInProcessResult

    def run(self, ratings: pd.DataFrame) -> "Pipeline":
        for number in range(N_FILES):
            rows = slice(number * len(ratings) // N_FILES, (number + 1) * len(ratings) // N_FILES)
            ratings[rows].to_csv(self.archive / f"{number}.csv", index=False)
        custom = {"path": str(self.archive), "item": "movie", "rating": None}
        received = {"dataset": "custom", "custom": {**custom, "timestamp": "timestamp"}}
        config = {"movielens_archive": received, **FAST}
        with dg.DagsterInstance.local_temp(str(self.root)) as instance:
            self.result = dg.materialize(
                [*(defs.assets or []), *(defs.asset_checks or [])],  # type: ignore[list-item]  # Dagster types its own lists wider
                instance=instance,
                resources={
                    "artifacts": Artifacts(root=str(self.root / "store")),
                    "compute": Compute(),
                    "gate": Gate(),
                },
                run_config={"ops": {name: {"config": of} for name, of in config.items()}},
                raise_on_error=False,
            )
        return self

    def folder(self, asset: str) -> Path:
        return self.root / "store" / asset / "latest"

    def metadata(self, asset: str) -> dict[str, Any]:
        (event,) = self.result.asset_materializations_for_node(asset)
        return {name: of.value for name, of in event.metadata.items()}

    def checks(self) -> dict[str, dg.AssetCheckEvaluation]:
        return {of.check_name: of for of in self.result.get_asset_check_evaluations()}


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return Pipeline(tmp_path_factory.mktemp("events") / "pipeline").run(watched())


def test_events_go_all_the_way(events: Pipeline) -> None:
    assert events.result.success
    checks = events.checks()
    assert all(check.passed for check in checks.values())
    for rule in ("challenger_beats_baselines", "intervals_hold", "lists_beat_popularity"):
        why = str(checks[rule].metadata["why"].value)
        assert ("none to predict" in why) == (rule == "challenger_beats_baselines")
        assert ("NDCG@10" in why) == (rule == "lists_beat_popularity")


def test_tables_of_several_files_are_kept_with_the_champion(events: Pipeline) -> None:
    for asset, table in (
        ("ratings", "ratings"),
        ("train_test_split", "train_test_split"),
        ("champion_model", "train_test_split"),
    ):
        names = [path.name for path in table_files(events.folder(asset), table)]
        assert names == [f"{table}-0000{number}.parquet" for number in range(N_FILES)]
    shown = events.metadata("train_test_split")
    assert shown["dagster/row_count"] == shown["train_rows"] + shown["test_rows"] == len(watched())


def test_all_that_is_predicted_of_events_is_that_they_are_events(events: Pipeline) -> None:
    model = FactorModel.load(events.folder("factor_model"))
    assert model.rating_scale == (1, 1)
    assert model.predict([1, 2, 999], [1, 999, 3]).tolist() == [1, 1, 1]
    shown = events.metadata("evaluation_metrics")
    assert (shown["rmse"], shown["mae"]) == (0.0, 0.0)
    assert shown["ndcg_at_10"] > 0.3
    assert "none to predict" in shown["remark"]
    assert events.metadata("ranking_model")["weight_of_predicted_rating"] == 0


def test_what_makes_no_sense_of_events_is_left_out(events: Pipeline) -> None:
    for asset, without in (
        ("factor_model", {"learning_curve", "sampler_trace", "liked_at_equal_popularity"}),
        ("ranking_model", {"ndcg_by_weight", "validation_ndcg_at_10_liked"}),
        ("evaluation_metrics", {"baselines", "error_histogram", "ndcg_at_10_liked", "calibration"}),
    ):
        assert not without & set(events.metadata(asset))
    path = events.folder("evaluation_metrics") / "evaluation_metrics.json"
    judged = json.loads(path.read_text())
    assert set(judged["ranking"]) == {"ranking_model", "implicit_factors", "popularity"}
    assert judged["ranking"]["ranking_model"]["liked"] is None
    assert "posterior" not in judged
    card = (events.folder("model_card") / "model_card.html").read_text()
    assert "All ratings of the training part are alike" in card
    assert "RMSE" not in card
    assert "NDCG@10 of lists" in card


def test_lists_of_events_find_what_people_of_the_same_taste_watch(events: Pipeline) -> None:
    lists = pd.read_parquet(events.folder("recommendations") / "recommendations.parquet")
    first = lists[lists["rank"] <= 2]
    assert (first["movie"] % 3 == (first["user"] + 1) % 3).mean() > 0.9
    assert (lists["predicted_rating"] == 1).all()
    assert lists[["rating_low", "rating_high"]].isna().all(axis=None)
    recommender = Recommender.load(events.folder("served_model"))
    assert not lists["reason"].str.contains("star|rated").any()
    somebody = recommender.recommend({"1": 1.0, "4": 1.0, "7": 1.0}, 5)
    assert (somebody["movie"] % 3 == 1).all()
    assert (somebody["predicted_rating"] == 1).all()


def test_movies_of_events_are_alike_that_the_same_people_watch(events: Pipeline) -> None:
    """They cannot be told by what is predicted of them: that is the same of each."""
    alike = pd.read_parquet(events.folder("similar_movies") / "similar_movies.parquet")
    first = alike[alike["rank"] <= 2]
    assert (first["movie"] % 3 == first["similar_movie"] % 3).mean() > 0.9
    assert first["cosine"].between(0.1, 1).all()


def test_more_events_are_compared_by_their_lists(events: Pipeline) -> None:
    more = watched().assign(user=lambda rows: rows["user"] + N_USERS)
    events.run(pd.concat([watched(), more]))
    drift = events.metadata("rating_drift")
    assert (drift["new_rows"], drift["champion_rmse_on_new"]) == (len(more), 0)
    checks = events.checks()
    found = {name: checks[name] for name in GATE_RULES}
    compared = found.pop("challenger_beats_champion")
    assert all(check.passed for check in found.values())
    assert compared.passed == events.result.success
    assert "none to predict. NDCG@10" in str(compared.metadata["why"].value)
    assert "none to predict" in str(found["new_ratings_are_plausible"].metadata["why"].value)
