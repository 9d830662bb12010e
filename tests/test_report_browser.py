"""The report in a real browser: it answers, leads back to records, asks for nothing, is readable.

RSBENCH_REPORT_PICTURES names a folder for pictures of the page, to be looked at.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import DESKTOP, PHONE, Browser, Theme, chromium
from PIL import Image
from report_world import BREAKOUT, SCRIPT_NAME, make_world

from rsbench.records import store
from rsbench.records.schema import RunRecord
from rsbench.report import write_report
from rsbench.report.anchors import anchor_of
from rsbench.tables.layout import clean

pytestmark = pytest.mark.slow

PICTURES = os.environ.get("RSBENCH_REPORT_PICTURES", "")

FIRST_TABLE = """
const table = [...document.querySelectorAll('.result table.data')].find(
  (each) => each.closest('#tables') && each.tBodies[0].rows.length === 3);
"""
CONTRAST = """
// WCAG 2.2: the contrast of every visible text with what lies behind it, grounds blended.
const parse = (colour) => {
  const found = colour.match(/rgba?\\(([^)]+)\\)/);
  const [red, green, blue, alpha = 1] = found[1].split(/[ ,/]+/).filter(Boolean).map(Number);
  return [red, green, blue, alpha];
};
const over = (top, below) => top.slice(0, 3).map(
  (value, place) => value * top[3] + below[place] * (1 - top[3]));
const luminance = (colour) => {
  const linear = colour.map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
};
const ground = (element) => {
  const layers = [];
  for (let each = element; each; each = each.parentElement) {
    const colour = parse(getComputedStyle(each).backgroundColor);
    layers.push(colour);
    if (colour[3] === 1) break;
  }
  return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const found = [];
let counted = 0;
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.textContent.trim() || element.closest('script, style')) continue;
  const style = getComputedStyle(element);
  if (!element.checkVisibility({ visibilityProperty: true }) || element.closest('svg')) continue;
  const behind = ground(element);
  const colour = over(parse(style.color), behind);
  const [light, dark] = [luminance(colour), luminance(behind)].sort((a, b) => b - a);
  const ratio = (light + 0.05) / (dark + 0.05);
  counted += 1;
  if (ratio < 4.5) {
    found.push(`${ratio.toFixed(2)} ${element.tagName} ${element.textContent.slice(0, 40)}`);
  }
}
return [counted, found];
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def page(world: Path) -> Path:
    # A folder's name may hold what an address has to escape.
    return write_report(world, world / "a b#ü" / "page.html")


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def browser(window: Browser, page: Path) -> Iterator[Browser]:
    """The page, freshly opened; whatever a test does there, nothing complains or asks outside."""
    window.complaints()
    window.requests()
    window.open(page)
    yield window
    assert window.complaints() == []
    assert set(window.requests()) <= {page.resolve().as_uri(), "about:blank"}


@pytest.fixture(scope="module")
def records(world: Path) -> dict[str, RunRecord]:
    """Records by the anchor of their provenance."""
    return {anchor_of(each.name): each.record for each in store.read_all(world).records}


def _column(browser: Browser, place: int) -> list[str]:
    script = f"{FIRST_TABLE} return [...table.tBodies[0].rows].map(r => r.cells[{place}].innerText)"
    return [str(said) for said in browser.run(script)]


def _draw_all(browser: Browser) -> None:
    """Bring every figure near the screen, and wait until all are drawn."""
    script = """
    const places = [...document.querySelectorAll('.drawing')];
    const waiting = places.find((place) => !place.querySelector('svg'));
    waiting?.scrollIntoView();
    return !waiting;
    """
    browser.wait(script)


# ---------------------------------------------------------------------------- tables


def test_a_column_is_sorted_by_its_numbers_and_says_so(browser: Browser) -> None:
    header = f"{FIRST_TABLE} return table.tHead.rows[0].cells[2]"
    button = f"{FIRST_TABLE} return table.tHead.rows[0].cells[2].querySelector('button')"
    before = _column(browser, 2)
    browser.click(browser.run(button))
    falling = _column(browser, 2), browser.run(header).get_attribute("aria-sort")
    browser.press("\ue007")  # Enter: the button has the focus, as by the keyboard.
    rising = _column(browser, 2), browser.run(header).get_attribute("aria-sort")

    assert before == falling[0]  # The table comes with the best first.
    assert falling[0] == rising[0][::-1]
    numbers = [float(said.split()[0]) for said in falling[0]]
    assert numbers == sorted(numbers, reverse=True)
    assert len(set(numbers)) == 3
    assert (falling[1], rising[1]) == ("descending", "ascending")


def test_names_are_sorted_as_words(browser: Browser) -> None:
    button = f"{FIRST_TABLE} return table.tHead.rows[0].cells[0].querySelector('button')"
    browser.click(browser.run(button))
    names = [said.split("\n")[0] for said in _column(browser, 0)]

    assert names == [SCRIPT_NAME, "resnet_rs_3d_50", "tiny_net"]


def test_a_filter_hides_the_rows_without_its_words_and_escape_ends_it(browser: Browser) -> None:
    count = (
        "return [...document.querySelectorAll('table.filterable tbody tr')].filter("
        "row => row.checkVisibility()).length"
    )
    every = browser.run(count)
    browser.press("/")  # Brings one there from anywhere.
    browser.press("TINY_net", " digits")
    said = browser.wait("return document.getElementById('filtered').textContent")
    kept = browser.run(
        "return [...document.querySelectorAll('#tables table.filterable tbody tr')]"
        ".filter(row => !row.hidden).map(row => row.cells[0].innerText)"
    )
    sections = browser.run(
        "return [...document.querySelectorAll('#tables .result')].filter(e => !e.hidden).length"
    )
    browser.press("\ue00c")  # Escape
    browser.wait("return document.getElementById('filtered').textContent === ''")

    assert [name.split("\n")[0] for name in kept] == ["tiny_net"]
    assert sections == 1
    assert said.endswith(" rows")
    assert browser.run(count) == every


def test_what_is_hidden_by_the_filter_is_shown_when_a_link_leads_there(browser: Browser) -> None:
    anchor = browser.run(f"{FIRST_TABLE} return table.closest('section').id")
    browser.press("/", "nothing has these words")
    browser.wait("return document.getElementById('filtered').textContent.startsWith('0 of')")
    browser.run("location.hash = arguments[0]", anchor)

    browser.wait("return document.getElementById(arguments[0]).checkVisibility()", anchor)
    assert browser.run("return document.getElementById('filter').value") == ""


# ---------------------------------------------------------------------------- from a number back


def test_a_number_opens_the_record_that_it_comes_from(
    browser: Browser, records: dict[str, RunRecord]
) -> None:
    link = browser.run(f"{FIRST_TABLE} return table.querySelector('a.value')")
    anchor = link.get_attribute("href").partition("#")[2]
    number = float(link.text)
    browser.click(link)
    browser.wait("return document.getElementById(arguments[0]).open", anchor)
    shown = browser.run("return document.getElementById(arguments[0]).innerText", anchor)
    top = browser.run(
        "return document.getElementById(arguments[0]).getBoundingClientRect().top", anchor
    )

    record = records[anchor]
    assert number == round(100 * record.metrics[0].value, 1)
    assert record.key in shown
    assert record.environment["torch"] == BREAKOUT
    assert 0 <= top < DESKTOP[1]


def test_a_number_of_several_runs_opens_the_list_of_them(
    browser: Browser, records: dict[str, RunRecord]
) -> None:
    link = browser.run(
        f"{FIRST_TABLE} return [...table.querySelectorAll('a.value')].find("
        "each => each.textContent.includes('±'))"
    )
    anchor = link.get_attribute("href").partition("#")[2]
    browser.click(link)
    browser.wait("return document.getElementById(arguments[0]).open", anchor)
    inside = browser.run(
        "return [...document.getElementById(arguments[0]).querySelectorAll('.record')]"
        ".map(each => each.id)",
        anchor,
    )

    assert sorted(records[each].seed for each in inside) == [0, 1, 2]
    assert {records[each].backbone.name for each in inside} == {"resnet_rs_3d_50"}


def test_an_address_opens_what_it_names(
    window: Browser, page: Path, records: dict[str, RunRecord]
) -> None:
    anchor = next(name for name, record in records.items() if record.seed == 2)
    window.open(page, fragment=f"#{anchor}")

    # It lies within a row that is folded as well.
    window.wait("return document.getElementById(arguments[0]).checkVisibility()", anchor)
    assert window.run("return document.getElementById(arguments[0]).open", anchor)

    # Chromium unfolds by itself what it goes to, other browsers do not: here it goes nowhere.
    window.run(
        "document.querySelectorAll('details').forEach(each => { each.open = false });"
        "dispatchEvent(new HashChangeEvent('hashchange'))"
    )
    assert window.run("return document.getElementById(arguments[0]).checkVisibility()", anchor)


@pytest.mark.parametrize("fragment", ["#%", "#nothing-of-this-name", "#<img src=x>"])
def test_an_address_that_names_nothing_is_no_trouble(
    window: Browser, page: Path, fragment: str
) -> None:
    window.complaints()
    window.open(page, fragment=fragment)

    assert window.complaints() == []


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_list_of_ways_says_what_is_being_read(
    window: Browser, page: Path, size: tuple[int, int]
) -> None:
    here = "return document.querySelector('.ways a[aria-current]').hash"
    window.open(page, size=size)
    first = window.run(here)
    window.run("document.getElementById('tables').scrollIntoView()")
    window.wait(f"{here} === '#tables'")
    window.run("scrollTo(0, 0)")

    assert first == window.run("return document.querySelector('.ways a').hash")
    assert window.wait(f"{here} === arguments[0]", first)


def test_every_figure_is_drawn_and_has_its_words(browser: Browser) -> None:
    _draw_all(browser)
    places = browser.run(
        "return [...document.querySelectorAll('.drawing')].map(place => [place.dataset.figure, "
        "place.getAttribute('role'), place.getAttribute('aria-label'),"
        "place.querySelectorAll('svg path').length])"
    )

    assert {name.partition("-")[0] for name, *_ in places} >= {"macs", "differences", "selection"}
    for name, role, words, num_marks in places:
        assert role == "img"
        assert len(words.split()) > 5, name
        assert num_marks > 3, name


def _points(browser: Browser) -> list[Any]:
    """The points of the first figure of accuracy against cost, as elements."""
    _draw_all(browser)
    found: list[Any] = browser.run(
        "return [...document.querySelectorAll("
        "'[data-figure^=macs] .mark-symbol.role-mark path')].filter("
        "path => path.__data__?.datum?.record)"
    )
    assert found
    return found


def test_a_point_says_its_numbers_and_leads_to_its_record(
    browser: Browser, records: dict[str, RunRecord]
) -> None:
    point = next(
        each
        for each in _points(browser)
        if browser.run("return arguments[0].__data__.datum.record", each) in records
    )
    anchor = browser.run("return arguments[0].__data__.datum.record", point)
    record = records[anchor]
    browser.run("arguments[0].scrollIntoView({block: 'center'})", point)
    browser.point_at(point)
    said = browser.wait(
        "const tip = document.querySelector('#vg-tooltip-element.visible');"
        "return tip && getComputedStyle(tip).visibility === 'visible' && tip.innerText"
    )
    browser.click(point)
    browser.wait("return location.hash === '#' + arguments[0]", anchor)

    assert clean(record.backbone.name) in said
    assert f"{100 * record.metrics[0].value:.1f}"[:4] in said
    assert browser.wait("return document.getElementById(arguments[0]).open", anchor)


# ---------------------------------------------------------------------------- safety


def test_names_that_are_scripts_are_text(browser: Browser) -> None:
    _draw_all(browser)
    browser.run("document.querySelectorAll('details').forEach(each => { each.open = true })")
    words = browser.run("return document.body.innerText")

    assert SCRIPT_NAME in words
    assert browser.run("return window.__broken") is None
    assert browser.run("return document.scripts.length") == 3
    assert browser.run("return document.querySelectorAll('main i, main script').length") == 0


def test_the_page_could_not_ask_for_anything_if_it_tried(window: Browser, page: Path) -> None:
    window.open(page)
    window.complaints()
    window.requests()
    window.run(
        "const image = new Image(); image.src = 'http://192.0.2.1/picture.png';"
        "document.body.append(image);"
        # A driver's own script may make functions of text; what it starts later may not.
        "setTimeout(() => { try { new Function('window.__broken = 1')() }"
        " catch (refused) { window.__refused = refused.name } });"
        "const script = document.createElement('script');"
        "script.textContent = 'window.__broken = 1'; document.body.append(script);"
    )
    refused = window.wait("return window.__refused")
    complaints = " ".join(window.complaints())

    assert "Content Security Policy" in complaints
    assert "192.0.2.1" in complaints
    assert refused == "EvalError"
    assert window.run("return window.__broken") is None
    # An attempt is seen even where it is refused: the other tests would notice one.
    assert "http://192.0.2.1/picture.png" in window.requests()


# ---------------------------------------------------------------------------- readable everywhere


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_text_stands_out_and_nothing_is_wider_than_the_screen(
    window: Browser, page: Path, theme: Theme, size: tuple[int, int]
) -> None:
    window.open(page, theme=theme, size=size)
    _draw_all(window)
    window.run("document.querySelectorAll('details').forEach(each => { each.open = true })")
    counted, poor = window.run(CONTRAST)
    width = window.run("return document.documentElement.scrollWidth")
    named = f"{theme}-{'phone' if size == PHONE else 'desktop'}"
    ground = _mean_of_picture(window, page.with_name(f"{named}.png"))
    if PICTURES:
        _picture_parts(window, Path(PICTURES), named)

    assert counted > 500
    assert poor == []
    assert width <= size[0]
    assert ground > 200 if theme == "light" else ground < 70


def _mean_of_picture(window: Browser, path: Path) -> float:
    """Give the middle brightness of what the window shows, from 0 to 255."""
    window.picture(path)
    with Image.open(path) as picture:
        return float(np.asarray(picture.convert("L")).mean())


def _picture_parts(window: Browser, folder: Path, named: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part in window.run("return [...document.querySelectorAll('.part')].map(part => part.id)"):
        window.run("document.getElementById(arguments[0]).scrollIntoView()", part)
        window.picture(folder / f"{named}-{part}.png")


def test_a_figure_follows_the_reader_s_theme(window: Browser, page: Path) -> None:
    window.open(page, theme="light")
    _draw_all(window)
    colour = (
        "const text = document.querySelector('.drawing .mark-text.role-axis-title text,"
        " .drawing .role-axis-title text'); return getComputedStyle(text).fill"
    )
    light = window.run(colour)
    window.show(theme="dark")
    dark = window.run(colour)

    assert math.dist(_channels(light), _channels(dark)) > 200
    assert sum(_channels(light)) < 150


def _channels(colour: str) -> list[float]:
    return [float(value) for value in colour.removeprefix("rgb(").removesuffix(")").split(",")]


def test_a_wide_table_scrolls_in_its_own_box_by_the_keyboard(window: Browser, page: Path) -> None:
    window.open(page, size=PHONE)
    box = window.run(f"{FIRST_TABLE} return table.closest('.scroll')")
    window.run("arguments[0].scrollIntoView(); arguments[0].focus()", box)
    for _ in range(10):
        window.press("\ue014")  # Right

    assert window.wait("return arguments[0].scrollLeft", box) > 0
    assert window.run("return document.documentElement.scrollLeft") == 0


def test_on_paper_there_is_no_list_of_ways_and_the_ground_is_white(
    window: Browser, page: Path
) -> None:
    window.open(page, theme="dark")
    window.show(theme="dark", media="print")

    assert not window.run("return document.querySelector('nav').checkVisibility()")
    assert window.run("return getComputedStyle(document.body).backgroundColor") == (
        "rgb(255, 255, 255)"
    )


def test_without_its_script_the_page_still_says_everything(window: Browser, page: Path) -> None:
    driver = window.driver
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        driver.get(page.resolve().as_uri())
        words = driver.find_element("tag name", "main").text
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})

    assert SCRIPT_NAME in words
    assert "75.0" in words  # 120 of 160
