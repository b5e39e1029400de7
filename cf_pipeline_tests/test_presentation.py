"""What the UI says beside results: nothing that Dagster shows is without a word on it."""

from collections.abc import Iterator

import pytest

from cf_pipeline.definitions import defs
from cf_pipeline_tests.project import Project
from cf_pipeline_tests.test_caching import ASSETS

REPOSITORY = defs.get_repository_def()
JOBS = [job.name for job in REPOSITORY.get_all_jobs() if not job.name.startswith("__")]
NODES = [
    REPOSITORY.asset_graph.get(key) for key in sorted(REPOSITORY.asset_graph.get_all_asset_keys())
]


def undescribed(name: str, kind: object) -> Iterator[str]:
    """Yield the path of every setting below one of this type that has no description."""
    for field, of in getattr(kind, "fields", {}).items():
        if not of.description:
            yield f"{name}.{field}"
        yield from undescribed(f"{name}.{field}", of.config_type)


def test_every_setting_is_described():
    ops = {op.name: op for job in JOBS for op in REPOSITORY.get_job(job).all_node_defs}
    resources = REPOSITORY.get_top_level_resources()
    schemas = {name: of.config_schema for name, of in {**ops, **resources}.items()}
    settings = {name: of.config_type for name, of in schemas.items() if of}
    assert {"factor_model", "champion_model", "tidy_store", "gate", "artifacts"} <= set(settings)
    assert [at for name, kind in settings.items() for at in undescribed(name, kind)] == []


def test_every_job_schedule_sensor_and_check_is_described():
    described = {job: REPOSITORY.get_job(job).description for job in JOBS}
    described |= {one.name: one.description for one in REPOSITORY.schedule_defs}
    described |= {one.name: one.description for one in REPOSITORY.sensor_defs}
    assert {"retraining", "retraining_schedule", "new_ratings"} <= set(described)
    assert [name for name, description in described.items() if not description] == []
    graph = REPOSITORY.asset_graph
    checks = {key: graph.get_check_spec(key) for key in graph.asset_check_keys}
    assert len(checks) > 10
    assert [key for key, spec in checks.items() if not spec.description] == []


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.key.to_user_string())
def test_every_asset_has_a_group_an_owner_a_kind_and_a_description(node):
    assert node.group_name != "default"
    assert node.owners
    assert node.kinds
    assert node.description


def test_every_parquet_table_shows_its_columns_and_what_they_hold(finished):
    tables = {node.key.to_user_string() for node in NODES if "parquet" in node.kinds}
    assert len(tables) >= 7
    for table in tables:
        columns = finished.metadata(table)["dagster/column_schema"].columns
        assert columns
        assert all(column.type and column.description for column in columns), table


def test_what_a_run_took_is_shown_of_every_asset_and_is_next_to_nothing_for_a_hit(project):
    built = seconds(project)
    assert min(built.values()) > 0
    assert set(project.cache().values()) == {"hit"}
    found = seconds(project)
    assert sum(found.values()) < sum(built.values()) / 3
    assert found["factor_model"] < built["factor_model"] / 3


def seconds(project: Project) -> dict[str, float]:
    return {asset: project.metadata(asset)["seconds"] for asset in ASSETS}
