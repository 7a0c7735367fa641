"""The page in a real browser: nothing is logged or asked for, everything can be read and used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from asrprune.report.family_page import write_family_page
from tests.report.browser import CHROMIUM, Browser, browser
from tests.report.whole_run import SECTIONS, make_report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium"),
]

WIDE = "document.documentElement.scrollWidth"
IDS = "[...document.querySelectorAll('section')].map(one => one.id)"
SHOWN = "[...document.querySelectorAll('.example')].filter(one => one.checkVisibility()).length"
FAINT = """
(() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((one) => {
      one /= 255;
      return one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = (at) => {
    for (; at; at = at.parentElement) {
      const found = parse(getComputedStyle(at).backgroundColor);
      if (found.length < 4 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const found = new Set();
  for (const at of document.querySelectorAll("main *, header *")) {
    const own = [...at.childNodes].some((one) => one.nodeType === 3 && one.data.trim());
    if (!own || !at.checkVisibility()) continue;
    const style = getComputedStyle(at);
    const inSvg = at instanceof SVGElement;
    const [one, two] = [inSvg ? parse(style.fill) : parse(style.color), ground(at)].map(light);
    const ratio = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    if (ratio < 4.5) found.add(`${at.tagName}.${at.getAttribute("class")} ${ratio.toFixed(2)}`);
  }
  return [...found];
})()
"""
"""Elements whose text has less contrast than WCAG's 4.5."""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with every section."""
    return make_report(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as found:
        assert found is not None
        yield found


def check_quiet(tab: Browser, page: Path) -> None:
    assert tab.messages == []
    assert tab.requests == [page.as_uri()]


@pytest.mark.parametrize("width", [390, 1200, 1600])
@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_is_legible_and_quiet(tab: Browser, page: Path, width: int, dark: bool) -> None:
    tab.open(page, width, dark)
    tab.value("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert tab.value(IDS) == list(SECTIONS)
    assert tab.value(WIDE) == width
    assert tab.value(FAINT) == []
    paper = tab.value("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, paper[4:-1].split(","))) < 200) == dark
    assert tab.value("window.hit") is None
    check_quiet(tab, page)


def test_a_point_tells_its_row_by_mouse_and_keyboard(tab: Browser, page: Path) -> None:
    tab.open(page, 1200)
    told = "document.getElementById('tip').hidden ? '' : document.getElementById('tip').textContent"
    assert tab.value(told) == ""
    point = "document.querySelectorAll('.point')[1]"
    tab.value(f"{point}.dispatchEvent(new MouseEvent('mousemove', {{clientX: 9, clientY: 9}}))")
    assert tab.value(told).startswith("small\n2.00 MB\nperplexity 20.0\nWER ")
    tab.value(f"{point}.dispatchEvent(new MouseEvent('mouseleave'))")
    assert tab.value(told) == ""
    tab.value(f"{point}.focus()")
    assert tab.value(told).startswith("small\n")
    tab.call("Input.dispatchKeyEvent", type="keyDown", key="Enter", text="\r")
    assert tab.value("location.hash") == "#row-3"
    assert tab.value("document.querySelector('tr:target th').textContent") == "small"
    check_quiet(tab, page)


def test_examples_are_filtered_by_kind_and_by_word(tab: Browser, page: Path) -> None:
    tab.open(page, 1200)
    assert tab.value(SHOWN) == 3
    tab.value("document.getElementById('pick1-damaged').click()")
    assert tab.value(SHOWN) == 2
    field = "document.querySelectorAll('.find')[1]"
    tab.value(f"{field}.value = 'HAT'; {field}.dispatchEvent(new Event('input'))")
    assert tab.value(SHOWN) == 1
    check_quiet(tab, page)


def test_it_is_whole_without_a_script(tab: Browser, page: Path) -> None:
    tab.open(page, 1200, script=False)
    tree = tab.call("DOM.getDocument", depth=-1)["root"]["nodeId"]
    count = {
        query: len(tab.call("DOM.querySelectorAll", nodeId=tree, selector=query)["nodeIds"])
        for query in (".point title", ".find[hidden]", "section", "#tip")
    }
    assert count == {".point title": 6, ".find[hidden]": 2, "section": len(SECTIONS), "#tip": 0}
    check_quiet(tab, page)


def test_the_page_of_a_family(tab: Browser, page: Path) -> None:
    family = page.parents[1] / "exp/family"
    write_family_page(family)
    tab.open(family / "index.html", 390, dark=True)
    assert tab.value(IDS) == ["plots", "systems", "removed", "curves", "made"]
    assert tab.value(WIDE) == 390
    assert tab.value(FAINT) == []
    check_quiet(tab, family / "index.html")
