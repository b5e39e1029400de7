"""What a browser shows of a finished project, and what its buttons do: Dagster's UI in a real
Chromium."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from cf_pipeline_tests.browser import (
    DECODED,
    ended,
    expect_picture,
    follow,
    row,
    visit,
)
from cf_pipeline_tests.project import Project
from cf_pipeline_tests.test_launching import latest_run
from cf_pipeline_tests.webserver import webserver

PICTURES = (
    ("evaluation_metrics", "ranking_beside_baselines"),
    ("factor_model", "factor_map"),
    ("recommendations", "coverage"),
)


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
    with visit(browser, address) as page:
        yield page


def test_the_page_of_an_asset_says_whom_to_ask_and_what_to_read(page):
    page.goto("/assets/factor_model")
    expect(page.get_by_text("recommender", exact=True)).to_be_visible()
    expect(page.get_by_text("PyTorch", exact=True)).to_be_visible()
    paper = "https://doi.org/10.1145/1390156.1390267"
    expect(page.get_by_role("link", name=paper)).to_have_attribute("href", paper)


@pytest.mark.parametrize(("asset", "name"), PICTURES)
def test_a_click_shows_the_picture(page, asset, name):
    page.goto(f"/assets/{asset}")
    expect_picture(page, name)


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
            ("RMSE", figures["rmse"]),
            ("MAE", figures["mae"]),
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
    run_id = follow(page)
    assert ended(page) == "Success"
    assert latest_run(shown) == run_id != before
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
