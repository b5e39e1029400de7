"""What somebody does in a browser who has just started `dagster dev`: from the first press of the
button to a schedule that retrains, and a model that is refused."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from cf_pipeline.recommender.sources import URL_VARIABLE
from cf_pipeline_tests.browser import (
    A_TICK,
    ended,
    expect_graph,
    expect_picture,
    expect_table,
    follow,
    row,
    visit,
)
from cf_pipeline_tests.project import WORSE, Project
from cf_pipeline_tests.recommender.mirror import serve
from cf_pipeline_tests.test_caching import ASSETS, edited, outcome
from cf_pipeline_tests.test_champion import failed_checks
from cf_pipeline_tests.webserver import webserver

JOB = "/locations/cf_pipeline.definitions/jobs/retraining"
SCHEDULE = "/locations/cf_pipeline.definitions/schedules/retraining_schedule"


@contextmanager
def default_sources(archive: Path) -> Iterator[dict[str, str]]:
    """Variables by which the default sources have this machine's copy, and no network."""
    (copy,) = archive.iterdir()
    with serve(copy.read_bytes()) as mirror:
        if copy.suffix == ".whl":  # as of the package index: pip takes it from the folder
            mirror.answers = ["404"]
        yield {
            URL_VARIABLE: mirror.url,
            "NO_PROXY": "127.0.0.1",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_FIND_LINKS": str(archive),
            "PIP_NO_INDEX": "1",
        }


@pytest.mark.timeout(1500)
def test_the_first_hour_of_a_newcomer(browser, tmp_path, archive):
    with default_sources(archive) as variables:
        every_minute = {"CF_PIPELINE_RETRAINING_CRON": "* * * * *"}
        project = Project(tmp_path / "project", archive, environment=variables | every_minute)
        # The leaderboard fits ten times by it, and nothing here is of how well it does.
        edited(
            project, "recommender/settings.py", "sweeps: int = Field(150", "sweeps: int = Field(50"
        )
        with (
            webserver(project, development=True) as server,
            visit(browser, server.address) as page,
        ):
            expect_graph(page, ASSETS)
            first = materialize_all(page)
            assert project.cache_of(first) == outcome(ASSETS)
            expect_to_read_how_good_the_model_is(page, project)

            page.goto(SCHEDULE)
            switch_the_schedule(page, on=True)  # its minute passes meanwhile
            second = materialize_all(page)
            assert project.cache_of(second) == outcome(set())
            page.goto("/assets/factor_model")
            expect(row(page, "cache")).to_contain_text("hit")
            expect_charts(page, "validation_rmse", "seconds")

            launched = launched_by_the_schedule(page)
            made = ASSETS - {"cross_validation"}
            assert project.cache_of(launched) == outcome(set(), made)


@pytest.mark.timeout(900)
def test_a_model_that_is_refused_and_why(browser, worse):
    with webserver(worse) as server, visit(browser, server.address) as page:
        sources = {"movielens_archive": {"sources": [str(worse.archive)]}}
        launch(page, {"ops": {of: {"config": to} for of, to in {**sources, **WORSE}.items()}})
        assert ended(page) == "Failure"

        page.goto("/assets/challenger?view=checks")
        page.get_by_text("challenger_beats_champion", exact=True).first.click()
        expect(page.get_by_text("Failed", exact=True).last).to_be_visible()
        expect(page.get_by_text("This is a blocking asset check.")).to_be_visible()
        expect(page.get_by_text(failed_checks(worse)["challenger_beats_champion"])).to_be_visible()


def materialize_all(page: Page) -> str:
    """Press the button beside the asset graph, watch the run succeed, and return its id."""
    page.goto("/asset-groups")
    page.get_by_role("button", name="Materialize all").click()
    run_id = follow(page)
    assert ended(page) == "Success"
    return run_id


def expect_to_read_how_good_the_model_is(page: Page, project: Project) -> None:
    """Expect the metric, the picture and the table on the evaluation's page, and the champion."""
    metadata = project.metadata("evaluation_metrics")
    page.goto("/assets/evaluation_metrics")
    expect(row(page, "rmse")).to_contain_text(str(metadata["rmse"]))
    expect_table(page, "baselines", metadata["baselines"])
    expect_picture(page, "rmse_beside_baselines")
    page.goto("/assets/champion_model")
    expect(row(page, "decision")).to_contain_text("1: promoted. It passed the gate.")


def expect_charts(page: Page, *names: str) -> None:
    """Expect a chart over time of each number that the asset's page shows."""
    page.get_by_role("button", name="Plots").click()
    for name in names:
        expect(page.get_by_text(name, exact=True)).to_be_visible()
    expect(page.locator("canvas").first).to_be_visible()


def switch_the_schedule(page: Page, on: bool) -> None:
    """Click the switch on the schedule's page."""
    switch = page.get_by_role("checkbox")
    expect(switch).to_be_checked(checked=not on)
    page.get_by_role("row", name="Running").locator("label").click()
    expect(switch).to_be_checked(checked=on)


def launched_by_the_schedule(page: Page) -> str:
    """Wait for a run that a tick launched, watch it succeed, and return its id."""
    page.goto(SCHEDULE)
    run = page.locator("a[href^='/runs/']").last
    run.wait_for(timeout=A_TICK)
    address = run.get_attribute("href")
    assert address
    switch_the_schedule(page, on=False)
    page.goto(address)
    assert ended(page) == "Success"
    return address.rpartition("/")[2]


def launch(page: Page, run_config: dict[str, object]) -> None:
    """Type run config into the launchpad of the job, and launch."""
    page.goto(f"{JOB}/playground")
    editor = page.locator(".CodeMirror")
    expect(editor).to_contain_text("n_factors")  # the defaults that somebody can edit
    editor.click()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(json.dumps(run_config))
    expect(page.get_by_text("No errors", exact=True)).to_be_visible()
    page.get_by_role("button", name="Launch Run").click()
    page.wait_for_url(re.compile("/runs/"))
