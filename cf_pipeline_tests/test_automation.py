"""What the automation conditions of the real assets request, tick by tick, on a real history."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import dagster as dg
import pytest

from cf_pipeline.automation import FRESHNESS, STARTED_OTHERWISE
from cf_pipeline.definitions import defs
from cf_pipeline.recommender.movielens_files import u_data
from cf_pipeline.runs import fail_dead_runs
from cf_pipeline_tests.project import Project
from cf_pipeline_tests.test_caching import AFTER_MODEL, ASSETS, FAST, SHOWN
from cf_pipeline_tests.test_devices import Trainer, trainer
from cf_pipeline_tests.test_faults import wait_for
from cf_pipeline_tests.test_launching import latest_run

__all__ = ["trainer"]  # a fixture

AUTOMATED = ASSETS - STARTED_OTHERWISE
AFTER_FIT = AFTER_MODEL | {"challenger"} | SHOWN
AFTER_VOCABULARIES = {"vocabularies", *AFTER_FIT}
AFTER_SPLIT = {"train_test_split", *AFTER_VOCABULARIES}


class Ticks:
    """Evaluates the conditions as the daemon does, without launching what they request."""

    def __init__(self, project: Project, instance: dg.DagsterInstance) -> None:
        self.project = project
        self.instance = instance
        self.cursor: Any = None  # Dagster's own
        assert self() == set()  # the first tick only learns what is there

    def __call__(self, definitions: dg.Definitions = defs) -> set[str]:
        """Return the assets that the next tick requests."""
        result = dg.evaluate_automation_conditions(definitions, self.instance, cursor=self.cursor)
        self.cursor = result.cursor
        return {
            key.to_user_string()
            for key in definitions.resolve_all_asset_keys()
            if result.get_num_requested(key)
        }


@pytest.fixture
def ticks(project: Project) -> Iterator[Ticks]:
    with project.instance() as instance:
        yield Ticks(project, instance)


@pytest.fixture
def folder(tmp_path: Path, archive: Path) -> Path:
    """A folder whose u.data lacks the last of the real ratings."""
    folder = tmp_path / "ml-100k"
    folder.mkdir()
    (folder / "u.data").write_bytes(b"".join(u_data(archive)))
    spoil(folder, slice(-1))
    return folder


def spoil(folder: Path, kept: slice, again: slice = slice(0)) -> None:
    lines = (folder / "u.data").read_text().splitlines(keepends=True)
    (folder / "u.data").write_text("".join(lines[kept] + lines[again]))


def of(folder: Path) -> dict[str, dict[str, object]]:
    return {"movielens_archive": {"sources": [str(folder)]}}


def with_code_of(asset: str, version: str) -> dg.Definitions:
    """The definitions, as if the asset's code had been edited."""

    def edited(spec: dg.AssetSpec) -> dg.AssetSpec:
        same = spec.key.to_user_string() != asset
        return spec if same else spec.replace_attributes(code_version=version)

    return dg.Definitions(
        assets=dg.map_asset_specs(edited, cast("list[dg.AssetsDefinition]", defs.assets)),
        asset_checks=defs.asset_checks,
        resources=defs.resources,
    )


def test_every_asset_follows_changes_but_those_that_are_started_otherwise():
    graph = defs.resolve_asset_graph()
    follows = {
        key.to_user_string()
        for key in graph.get_all_asset_keys()
        if graph.get(key).automation_condition
    }
    assert follows == AUTOMATED
    fresh = {
        key.to_user_string()
        for key in graph.get_all_asset_keys()
        if graph.get(key).freshness_policy
    }
    assert fresh == set(FRESHNESS) & ASSETS


def test_other_ratings_are_followed_by_all_that_is_made_of_them_once(ticks, folder):
    assert ticks.project.cache("movielens_archive", of(folder)) == {"movielens_archive": "miss"}
    assert ticks() == AUTOMATED
    assert ticks() == set()


def test_ratings_that_come_out_equal_start_nothing(ticks):
    assert ticks.project.cache("movielens_archive") == {"movielens_archive": "hit"}
    assert ticks.project.cache("*ratings") == {"movielens_archive": "hit", "ratings": "hit"}
    assert ticks() == set()


def test_a_run_of_everything_leaves_nothing_to_follow(worse):
    """Of a model that the history does not know yet, and that passes the gate."""
    decision = {"champion_model": {"decide": "promote", "reason": "To be beaten."}}
    assert worse.execute("promote_by_hand", decision).returncode == 0
    with worse.instance() as instance:
        ticks = Ticks(worse, instance)
        made = worse.cache(config={"factor_model": {**FAST, "epochs": 3}})
        assert made["champion_model"] == made["recommendations"] == "miss"
        assert ticks() == set()
        assert ticks() == set()


def test_nothing_goes_past_the_gate(ticks):
    run = ticks.project.materialize(config={"factor_model": FAST})
    assert run.returncode == 1
    assert "challenger_beats_champion" in run.output
    assert ticks() == set()
    assert ticks(with_code_of("champion_model", "other")) == set()


def test_edited_code_is_followed_from_where_it_was_edited(ticks):
    edited = with_code_of("vocabularies", "other")
    assert ticks(edited) == AFTER_VOCABULARIES
    assert ticks(edited) == set()


def test_a_model_that_somebody_made_is_followed_by_what_is_made_of_it(ticks):
    ticks.project.cache("factor_model", {"factor_model": FAST})
    assert ticks() == AFTER_FIT - {"factor_model"}


def test_a_missing_asset_is_made(ticks):
    ticks.instance.wipe_assets([dg.AssetKey("similar_movies")])
    assert ticks() == {"similar_movies"}


def test_nothing_goes_past_a_blocking_check_that_failed(ticks, folder):
    spoil(folder, slice(None), slice(1))  # a rating that is there twice
    run = ticks.project.materialize("*ratings,movies,users", of(folder))
    assert run.returncode == 1
    assert "ratings_have_no_duplicates" in run.output
    assert ticks() == set()
    # Nor does an edit.
    assert ticks(with_code_of("train_test_split", "other")) == set()
    spoil(folder, slice(-1))
    ticks.project.cache("*ratings", of(folder))
    assert ticks(with_code_of("train_test_split", "other")) == {
        *("movies", "users", "rating_drift"),
        *AFTER_SPLIT,
    }


def test_what_is_on_its_way_is_waited_for(ticks, trainer, tmp_path):
    """A model is made already, and waits for its device, when code of its inputs is edited."""
    ticks.project.environment["CF_PIPELINE_DEVICE_LOCKS"] = str(tmp_path / "locks")
    holder: Trainer = trainer(600)
    assert holder.says() == "training"
    run = ticks.project.start("factor_model", {"factor_model": FAST})
    assert any("Waiting for cpu" in line for line in run.stdout)
    edited = with_code_of("factor_model", "other")
    assert ticks(edited) == set()
    holder.process.kill()
    output, _ = run.communicate(timeout=240)
    assert run.returncode == 0, output
    assert ticks(edited) == AFTER_FIT - {"factor_model"}


# After a run that did not come to the gate, what is behind it waits until a challenger has passed.
TO_THE_CHALLENGER = AFTER_VOCABULARIES - SHOWN


@pytest.fixture
def retrained(ticks: Ticks, folder: Path) -> Callable[..., None]:
    """A function that retrains on other ratings, and has the fit fail."""

    def retrain(wrong: Mapping[str, object]) -> None:
        run = ticks.project.execute("retraining", {**of(folder), "factor_model": wrong})
        assert run.returncode == 1
        assert "factor_model" not in ticks.project.cache_of(latest_run(ticks.project))

    return retrain


def test_what_failed_is_not_tried_again_until_something_changes(ticks, folder, retrained):
    for _ in range(2):
        spoil(folder, slice(-1))
        retrained({"device": "no such device"})
        assert ticks() == set()
        assert ticks() == set()
        edited = with_code_of("vocabularies", uuid4().hex)
        assert ticks(edited) == TO_THE_CHALLENGER


@pytest.mark.parametrize("end", ["killed", "canceled"])
def test_what_was_killed_or_canceled_is_left_to_the_daemon_or_to_people(ticks, folder, end):
    run = ticks.project.start("*", of(folder))
    wait_for(lambda: list(ticks.project.artifacts.glob("factor_model/*.partial")), 120)
    assert ticks() == set()
    run.kill()
    run.communicate()
    if end == "killed":
        assert fail_dead_runs(ticks.instance, ticks.project.artifacts, print)
    else:
        ticks.instance.report_run_canceled(ticks.instance.get_runs(limit=1)[0])
    assert ticks() == set()
    assert ticks() == set()
    assert ticks(with_code_of("vocabularies", "other")) == TO_THE_CHALLENGER
