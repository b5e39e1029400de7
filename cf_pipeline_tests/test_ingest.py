"""Another release is a matter of config: its tables are made, described and checked."""

import json
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest

from cf_pipeline.assets.movielens_archive import movielens_archive
from cf_pipeline.assets.ratings import movies, ratings, users
from cf_pipeline.caching import Artifacts
from cf_pipeline.checks import ratings_checks
from cf_pipeline.compute import Compute
from cf_pipeline.recommender.datasets import describe, described
from cf_pipeline_tests.recommender.releases import some_tables, write_release


class Ingest:
    """Materializes the archive and its tables, in this process."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __call__(self, dataset: str, source: Path) -> dg.ExecuteInProcessResult:
        return dg.materialize(
            [movielens_archive, ratings, movies, users, ratings_checks],
            instance=dg.DagsterInstance.ephemeral(),
            resources={"artifacts": Artifacts(root=str(self._root)), "compute": Compute()},
            run_config={
                "ops": {
                    "movielens_archive": {
                        "config": {"dataset": dataset, "sources": [str(source)], "retries": 0}
                    }
                }
            },
            raise_on_error=False,
        )


@pytest.fixture
def ingest(tmp_path: Path) -> Ingest:
    return Ingest(tmp_path / "artifacts")


def metadata(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, object]:
    (event,) = result.asset_materializations_for_node(asset)
    return {name: value.value for name, value in event.metadata.items()}


def latest(tmp_path: Path, asset: str) -> Path:
    return tmp_path / "artifacts" / asset / "latest"


@pytest.mark.parametrize("dataset", ["ml-1m", "ml-20m"])
def test_another_release_is_a_matter_of_config(
    dataset: str, ingest: Ingest, tmp_path: Path
) -> None:
    tables = some_tables(dataset)
    folder = write_release(dataset, tables, tmp_path / "given", zipped=True)
    path = folder / f"{dataset}.zip"
    result = ingest(dataset, path)
    assert result.success
    assert described(latest(tmp_path, "movielens_archive")) == {"dataset": dataset}
    archive = metadata(result, "movielens_archive")
    assert (archive["dataset"], archive["matches_release"]) == (dataset, False)
    assert str(archive["ratings"]).startswith("not known to be MovieLens ")
    assert f"{dataset}-README" in str(archive["licence"])
    shown = metadata(result, "ratings")
    assert (shown["dataset"], shown["dagster/row_count"]) == (dataset, 4)
    assert (shown["users"], shown["movies"], shown["highest_rating"]) == (3, 4, 5.0)
    written = pq.read_table(latest(tmp_path, "ratings") / "ratings.parquet")
    assert written.cast(tables.ratings.schema) == tables.ratings
    step = {"ml-1m": 1.0, "ml-20m": 0.5}[dataset]
    assert json.loads(written.schema.metadata[b"dataset"]) == {
        "dataset": dataset,
        "scale": [step, 5.0, step],
    }
    lacks = {"ml-1m": "none", "ml-20m": "age, gender, occupation, zip"}[dataset]
    assert metadata(result, "users")["fields_the_source_lacks"] == lacks
    assert all(evaluation.passed for evaluation in result.get_asset_check_evaluations())


def test_the_same_ratings_of_another_release_are_held_to_another_scale(
    ingest: Ingest, tmp_path: Path
) -> None:
    tables = some_tables("ml-10m")  # halves
    folder = write_release("ml-10m", tables, tmp_path / "ml-10m", zipped=False)
    describe(folder, "ml-1m")
    result = ingest("ml-1m", folder)
    assert not result.success  # the checks block what is downstream
    failed = {e.check_name: e for e in result.get_asset_check_evaluations() if not e.passed}
    assert set(failed) == {"ratings_are_on_the_scale"}
    assert failed["ratings_are_on_the_scale"].metadata["faults"].value == 2
