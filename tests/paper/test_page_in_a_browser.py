"""The page in a real browser: clicks, keys, small screens, ten thousand episodes, and nothing on the console.

They need Chromium and playwright (`make browser`), and skip where these are absent.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from stepcredit.paper.page import write as writing
from stepcredit.paper.page.write import write_page
from tests.paper.support import write_study

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make browser")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path")
RESULTS = Path(__file__).parents[2] / "results"
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")


@pytest.fixture(scope="module")
def browser() -> "Iterator[playwright.Browser]":
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def ablations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(RESULTS / "ablations", tmp_path_factory.mktemp("page") / "report.html")[0]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    write_study(folder / "study", seeds=4, panel_size=2520, updates=2, every=2)
    return write_page(folder / "study", folder / "report.html")[0]


@pytest.fixture
def page(browser: "playwright.Browser") -> "Iterator[playwright.Page]":
    """A tab whose console must stay silent."""
    tab, said = browser.new_page(viewport={"width": 1200, "height": 900}), list[str]()
    tab.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda problem: said.append(str(problem)))
    yield tab
    tab.close()
    assert said == []


def opened(page: "playwright.Page", path: Path, part: str = "") -> None:
    page.goto(f"file://{path}{part}")
    page.wait_for_selector("#episodes tbody tr")


def test_tables_sort_by_value_and_say_so(page: "playwright.Page", many: Path) -> None:
    opened(page, many)
    table = page.locator("#table-success table")
    head = table.locator("th", has_text="All")
    column = table.locator("tbody tr td:last-child")
    for order, expected in (("descending", True), ("ascending", False)):
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == order
        values = [float(value) for value in column.evaluate_all("cells => cells.map(cell => cell.dataset.value)")]
        assert values == sorted(values, reverse=expected)


def test_a_cell_opens_its_episodes(page: "playwright.Page", many: Path) -> None:
    opened(page, many)
    page.locator("#table-success tr", has_text="StepOPSD").get_by_role("link").nth(1).click()
    assert "StepOPSD/Look" in page.url
    page.locator("#episodes .said", has_text="1680 episodes").wait_for()
    assert all("/Look/" in name for name in page.locator("#episodes tbody th").all_text_contents())


def test_ten_thousand_episodes_open_at_once(page: "playwright.Page", many: Path) -> None:
    opened(page, many)
    assert page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime") < 1000
    assert page.locator("#episodes .said").text_content().startswith("10080 episodes")
    rows = page.locator("#episodes tbody tr")
    assert rows.count() == 200
    page.locator("#episodes").get_by_role("button", name="200 more").click()
    assert rows.count() == 400


def test_a_cell_of_the_grid_opens_its_task(page: "playwright.Page", ablations: Path) -> None:
    opened(page, ablations)
    cell = page.locator("#grid td a").nth(3)
    name = cell.get_attribute("aria-label")
    cell.click()
    task = name.split(", ")[1].split(":")[0]
    page.locator("#episodes .said", has_text=f"of {task}, ").wait_for()


def test_credit_is_coloured_on_one_scale_and_told_by_keys(page: "playwright.Page", ablations: Path) -> None:
    opened(page, ablations)
    page.locator("#credit").scroll_into_view_if_needed()
    page.wait_for_selector("#credit .token")
    page.get_by_label("Left").select_option(label="OPD peer_traj, seed 0")
    page.locator("#credit h3", has_text="OPD peer_traj, seed 0").first.wait_for()
    assert page.locator("#credit .side").count() == 2
    colours = page.locator("#credit .token").evaluate_all(
        "all => all.map(own => getComputedStyle(own).backgroundColor)"
    )
    assert len(set(colours)) > 3
    side = page.locator("#credit .side").first
    side.focus()
    told = []
    for _ in range(3):
        page.keyboard.press("ArrowRight")
        told.append(page.locator("#credit > .said").text_content())
    assert all("credit" in text for text in told)
    assert any("teacher's log-probability" in text for text in told)
    side.get_by_text("What the teacher was shown").click()
    assert side.locator("pre").first.is_visible()
    page.get_by_label("Colour").select_option("gap")
    assert "gap" in page.locator("#credit .token").first.get_attribute("title")


def test_plots_are_drawn_when_they_come_into_sight(page: "playwright.Page", many: Path) -> None:
    opened(page, many)
    assert page.locator(".js-plotly-plot").count() == 0
    page.locator("#plots").scroll_into_view_if_needed()
    page.wait_for_selector(".js-plotly-plot .scatterlayer .trace")


def test_it_fits_a_small_screen(page: "playwright.Page", ablations: Path) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    opened(page, ablations)
    for part in ("#plots", "#grid", "#episodes", "#credit", "#runs"):
        page.locator(part).scroll_into_view_if_needed()
    page.wait_for_selector("#credit .token")
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_everything_that_can_be_used_has_a_name(page: "playwright.Page", ablations: Path) -> None:
    opened(page, ablations)
    for kind in ("button", "link", "combobox", "region", "group"):
        for element in page.get_by_role(kind).all():
            named = element.evaluate(
                "own => own.getAttribute('aria-label') || own.textContent.trim() || own.labels?.[0]?.textContent.trim()"
            )
            assert named, element.evaluate("own => own.outerHTML.slice(0, 200)")


def test_tokens_beside_the_page_are_loaded(
    page: "playwright.Page", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "LARGEST", 1)
    path, *beside = write_page(RESULTS / "ablations", tmp_path / "report.html")
    assert beside
    opened(page, path)
    page.locator("#credit").scroll_into_view_if_needed()
    page.wait_for_selector("#credit .token")


def test_the_first_key_leads_past_the_head(page: "playwright.Page", ablations: Path) -> None:
    opened(page, ablations)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the tables"
    page.keyboard.press("Enter")
    assert page.url.endswith("#main")
