"""What a browser shows of a finished project, and what its buttons do: Dagster's UI in a real
Chromium."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from cf_pipeline_tests.project import Project
from cf_pipeline_tests.test_caching import ASSETS
from cf_pipeline_tests.test_launching import latest_run
from cf_pipeline_tests.webserver import webserver

SLOW = 60_000  # milliseconds
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    *("--no-sandbox", "--no-first-run", "--disable-gpu", "--disable-quic", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
PICTURES = (
    ("evaluation_metrics", "rmse_beside_baselines"),
    ("evaluation_metrics", "learning_curve"),
    ("evaluation_metrics", "predicted_against_actual"),
    ("evaluation_metrics", "error_histogram"),
    ("evaluation_metrics", "residual_by_user_activity"),
    ("evaluation_metrics", "ranking_beside_baselines"),
    ("factor_model", "factor_map"),
    ("recommendations", "coverage"),
)
DECODED = "shown => shown.decode().then(() => shown.naturalWidth)"  # raises for no picture
expect.set_options(timeout=SLOW)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if executable is None:
        reason = f"none of {', '.join(CHROMIUMS)} is on the PATH"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def shown(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project the server shows; a test may add runs to it, and changes nothing else."""
    return finished.copy(tmp_path_factory.mktemp("shown") / "project")


@pytest.fixture(scope="module")
def address(browser: Browser, shown: Project) -> Iterator[str]:
    with webserver(shown) as server:
        yield server.address


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A page of a browser that was never here before; its addresses are the server's."""
    with browser.new_context(base_url=address, viewport={"width": 1400, "height": 900}) as context:
        context.set_default_timeout(SLOW)
        yield context.new_page()


def row(within: Page | Locator, first_cell: str) -> Locator:
    """The row of a table whose first cell says just this."""
    first = within.page if isinstance(within, Locator) else within
    cell = first.locator("td:first-child").get_by_text(first_cell, exact=True)
    return within.get_by_role("row").filter(has=cell).last


def test_the_asset_graph_shows_every_asset(page):
    page.goto("/asset-groups")
    # Groups are drawn closed. The menu that opens them is not the navigation's settings.
    settings = page.get_by_role("img", name="settings")
    expect(settings).to_have_count(2)
    settings.last.click()
    page.get_by_role("menuitem", name="Expand all groups").click()
    for asset in ASSETS:
        # A group may have an asset's name: its label comes first.
        expect(page.locator("svg").get_by_text(asset, exact=True).last).to_be_visible()


def test_the_page_of_the_evaluation_shows_its_numbers_inline(page, shown):
    metadata = shown.metadata("evaluation_metrics")
    page.goto("/assets/evaluation_metrics")
    for key in ("rmse", "mae", "test_rows"):
        expect(row(page, key)).to_contain_text(str(metadata[key]))
    table, baselines = row(page, "baselines").get_by_role("table"), metadata["baselines"]
    assert baselines.records
    for record in baselines.records:
        cells = row(table, record.data["method"]).get_by_role("cell")
        values = [record.data[column.name] for column in baselines.schema.columns]
        expect(cells).to_have_text([str(value) for value in values])


@pytest.mark.parametrize(("asset", "name"), PICTURES)
def test_a_click_shows_the_picture(page, asset, name):
    page.goto(f"/assets/{asset}")
    row(page, name).get_by_text("[Show Markdown]").click()
    picture = page.get_by_role("dialog").get_by_role("img", name=name.replace("_", " "))
    expect(picture).to_be_visible()
    expect(picture).to_have_attribute("src", re.compile("^data:image/png;base64,"))
    assert picture.evaluate(DECODED) > 300


def test_the_page_of_the_recommendations_shows_the_first_of_them(page, shown):
    records = shown.metadata("recommendations")["preview"].records
    page.goto("/assets/recommendations")
    table = row(page, "preview").get_by_role("table")
    for record in records:
        expect(table.get_by_text(record.data["title"], exact=True)).to_be_visible()
        expect(table.get_by_text(record.data["reason"], exact=True)).to_be_visible()


@pytest.fixture(scope="module")
def card(shown: Project) -> Path:
    return (shown.artifacts / "model_card" / "latest" / "model_card.html").resolve()


@pytest.mark.parametrize("width", [390, 1400])
def test_the_model_card_is_one_page_that_asks_nobody_for_anything(browser, card, width):
    asked, said = [], []
    with browser.new_context(viewport={"width": width, "height": 844}) as context:
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(card.as_uri())
        page.wait_for_load_state("networkidle")
        pictures = page.get_by_role("img").all()
        assert len(pictures) >= 8
        for picture in pictures:
            assert picture.evaluate(DECODED) > 300
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert [url for url in asked if not url.startswith("data:")] == [card.as_uri()]
    assert said == []


def test_the_model_card_s_figures_are_those_of_the_evaluation(browser, card, shown):
    path = shown.artifacts / "evaluation_metrics" / "latest" / "evaluation_metrics.json"
    figures = json.loads(path.read_text())
    ranking = figures["ranking"]
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(card.as_uri())
        for name, value in (
            ("RMSE, stars", figures["rmse"]),
            ("MAE, stars", figures["mae"]),
            ("NDCG@10 of lists", ranking["ranking_model"]["all"]["ndcg_at_10"]),
            ("test ratings", figures["n_test"]),
        ):
            said = page.locator("dl > div").filter(has=page.get_by_text(name, exact=True))
            expect(said.locator("dd")).to_have_text(_told(value))
        for caption, counted in (("all that was rated", "all"), ("what was liked", "liked")):
            table = page.get_by_role("table", name=f"Counting {caption}")
            for order, of in ranking.items():
                cells = row(table, order.replace("_", " ")).get_by_role("cell")
                expect(cells.nth(1)).to_have_text(_told(of[counted]["ndcg_at_10"]))
        table = page.get_by_role("table", name="Beside simple predictors")
        for method, of in figures["baselines"].items():
            cells = row(table, method.replace("_", " ")).get_by_role("cell")
            expect(cells.nth(1)).to_have_text(_told(of["rmse"]))


def _told(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def test_the_button_materializes_on_the_same_history(page, shown):
    before = latest_run(shown)
    page.goto("/assets/evaluation_metrics")
    page.get_by_role("button", name="Materialize").click()
    page.get_by_role("link", name="View", exact=True).click()  # of the notice "Launched run"
    expect(page.get_by_text("Success", exact=True).first).to_be_visible()
    assert page.url.endswith(f"/runs/{latest_run(shown)}")
    assert latest_run(shown) != before
    assert shown.cache_of(latest_run(shown)) == {"evaluation_metrics": "hit"}


def test_the_ui_asks_no_host_but_its_server(page, address):
    asked = set()
    page.on("request", lambda request: asked.add(request.url))
    page.on("websocket", lambda socket: asked.add(socket.url))
    for path in ("/", "/asset-groups", "/assets/evaluation_metrics", "/runs", "/locations"):
        page.goto(path)
        page.wait_for_load_state("networkidle")
    remote = {url for url in asked if urlsplit(url).scheme not in {"data", "blob"}}
    assert {urlsplit(url).netloc for url in remote} == {urlsplit(address).netloc}
