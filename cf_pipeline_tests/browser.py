"""A real Chromium, and how to find things on the pages of Dagster's UI."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

SLOW = 60_000  # milliseconds
A_RUN = 600_000  # milliseconds, of a whole run on a busy machine
A_TICK = 180_000  # milliseconds, until a schedule of every minute has launched a run
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    *("--no-sandbox", "--no-first-run", "--disable-gpu", "--disable-quic", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
DECODED = "shown => shown.decode().then(() => shown.naturalWidth)"  # raises for no picture
expect.set_options(timeout=SLOW)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run the system's Chromium; where there is none the test is skipped, and fails in CI."""
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


@contextmanager
def visit(browser: Browser, address: str) -> Iterator[Page]:
    """Open a page of a browser that was never here before; its addresses are the server's."""
    with browser.new_context(base_url=address, viewport={"width": 1400, "height": 900}) as context:
        context.set_default_timeout(SLOW)
        yield context.new_page()


def row(within: Page | Locator, first_cell: str) -> Locator:
    """The row of a table whose first cell says just this."""
    first = within.page if isinstance(within, Locator) else within
    cell = first.locator("td:first-child").get_by_text(first_cell, exact=True)
    return within.get_by_role("row").filter(has=cell).last


def expect_table(within: Page, name: str, rows: list[dict[str, object]]) -> None:
    """Expect the table `name` of an asset's metadata to have these rows, and their first cells to
    tell them apart."""
    table = row(within, name).get_by_role("table")
    assert rows
    for shown in rows:
        first, *_ = shown.values()
        cells = row(table, str(first)).get_by_role("cell")
        expect(cells).to_have_text([str(value) for value in shown.values()])


def expect_picture(page: Page, name: str) -> None:
    """Open the picture `name` of an asset's metadata, as a click does, and expect it to be one."""
    row(page, name).get_by_text("[Show Markdown]").click()
    picture = page.get_by_role("dialog").get_by_role("img", name=name.replace("_", " "))
    expect(picture).to_be_visible()
    expect(picture).to_have_attribute("src", re.compile("^data:image/png;base64,"))
    assert picture.evaluate(DECODED) > 300


def expect_graph(page: Page, assets: set[str]) -> None:
    """Open the asset graph and its groups, and expect every asset to be drawn."""
    page.goto("/asset-groups")
    # Groups are drawn closed. The menu that opens them is not the navigation's settings.
    settings = page.get_by_role("img", name="settings")
    expect(settings).to_have_count(2)
    settings.last.click()
    page.get_by_role("menuitem", name="Expand all groups").click()
    for asset in assets:
        # A group may have an asset's name: its label comes first.
        expect(page.locator("svg").get_by_text(asset, exact=True).last).to_be_visible()


def follow(page: Page) -> str:
    """Go to the run that the notice "Launched run" tells of, and return its id."""
    page.get_by_role("link", name="View", exact=True).click()
    page.wait_for_url("**/runs/*")
    return page.url.rpartition("/")[2]


def ended(page: Page) -> str:
    """Watch the run whose page this is, and return its status in the end: Success or Failure."""
    status = page.get_by_text(re.compile("^(Success|Failure)$")).first
    status.wait_for(timeout=A_RUN)
    return status.inner_text()
