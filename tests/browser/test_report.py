"""The replay report in a real browser: no network, no complaint, by keyboard, in light and dark, on paper."""

import re
from pathlib import Path

import numpy as np
import pytest
from reports import MINUTE_US, START_US, Made, minutes
from rigs.chromium import Browser
from tocsin.detector.report import facts, page

pytestmark = pytest.mark.chromium
EVIL = """<script>window.taken = 1</script><img src=x onerror="window.taken=1">"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = ["host-a", "host-b", EVIL]
    made = Made(names)
    rng = np.random.default_rng(2)
    for entity in range(len(names)):
        score = rng.normal(0, 0.4, 3000)
        start = 400 * (entity + 1)
        score[start : start + 20] += 3.0 + entity
        inside = (np.arange(3000) >= start + 2) & (np.arange(3000) < start + 22)
        label = np.zeros(3000, np.int8)
        label[start : start + 18] = 1
        made.feed(
            entity,
            minutes(3000),
            score,
            1.2,
            inside=inside,
            label=label,
            openings=[start + 2],
            blocks=[(row, float(rng.normal())) for row in range(255, 3000, 256)] if entity == 0 else (),
            flags=[(2047, "score")] if entity == 0 else (),
        )
        at = START_US + start * MINUTE_US
        made.incident(entity, at, at + 22 * MINUTE_US, [("cpu", 9.5, 1.25, 0.8), ("memory", 3.0, 2.0, 0.2)])
    path = tmp_path_factory.mktemp("report") / "report.html"
    page.write(path, facts.report(made.gathered, "web"))
    return path


def test_it_opens_without_network_or_complaint(browser: Browser, report: Path) -> None:
    browser.open(report)
    assert browser.evaluate("document.title") == "web: replay report"
    assert browser.evaluate("document.documentElement.className") == "js"
    assert browser.evaluate("window.taken === undefined")
    assert browser.complaints == []
    assert browser.asked == [report.as_uri()]


@pytest.mark.parametrize(
    ("place", "put", "said"),
    [
        ('"use strict";\n', "nowhere.to.be.found();\n", "nowhere is not defined"),
        ("<main", "<p style='color: red'></p>", "Content Security Policy"),
        ("<main", "<img src='https://example.org/pixel.png'>", "Content Security Policy"),
        ("<main", "<script>1</script>", "Content Security Policy"),
    ],
    ids=["a script that fails", "a style in the text", "an image from elsewhere", "another script"],
)
def test_the_check_sees_what_is_wrong(
    browser: Browser, report: Path, tmp_path: Path, place: str, put: str, said: str
) -> None:
    content = report.read_text()
    assert content.count(place) == 1
    if place != "<main":  # the policy would not let the altered script run at all
        content = re.sub("<meta http-equiv[^>]*>", "", content)
        put = place + put
    else:
        put += place
    broken = tmp_path / "broken.html"
    broken.write_text(content.replace(place, put))
    browser.open(broken)
    assert any(said in complaint for complaint in browser.complaints), browser.complaints


def test_one_entity_is_shown_at_a_time_and_links_pick_it(browser: Browser, report: Path) -> None:
    shown = "[...document.querySelectorAll('.entity')].filter(e => e.offsetHeight > 0).map(e => e.id).join()"
    browser.open(report)
    assert browser.evaluate(shown) == "e1"
    browser.evaluate("document.querySelector('#ranking a[href=\"#e3\"]').click()")
    browser.evaluate("new Promise(done => setTimeout(done, 50))")
    assert browser.evaluate(shown) == "e3"
    assert browser.evaluate("document.getElementById('pick').value") == "e3"
    browser.open(report, "#e2")
    assert browser.evaluate(shown) == "e2"
    assert browser.complaints == []


def test_everything_can_be_done_with_the_keyboard(browser: Browser, report: Path) -> None:
    here = "document.activeElement"
    browser.open(report)
    browser.key("Tab")
    assert browser.evaluate(f"{here}.className") == "skip"
    assert browser.evaluate(f"{here}.getBoundingClientRect().left >= 0"), (
        "the skip link is seen when it has focus"
    )
    browser.key("Enter")
    assert browser.evaluate(f"{here}.id") == "main"

    seen = []
    for _ in range(60):
        browser.key("Tab")
        tag, role, outline = browser.evaluate(
            f"[{here}.tagName, {here}.getAttribute('role'), getComputedStyle({here}).outlineStyle]"
        )
        if tag == "BODY":
            break
        assert outline != "none", f"{tag} shows no focus"
        seen.append(role or tag)
    assert {"SUMMARY", "BUTTON", "A", "SELECT", "slider", "region"} <= set(seen)

    browser.evaluate("document.querySelector('.entity.current .plot').focus()")
    browser.key("End")
    browser.key("ArrowLeft")
    read = "document.querySelector('.entity.current .readout').textContent"
    assert browser.evaluate(read).startswith("2026-01-03 0")
    assert ", threshold 1.2" in browser.evaluate(read)
    assert browser.evaluate(f"{here}.getAttribute('aria-valuetext')") == browser.evaluate(read)

    browser.evaluate("document.getElementById('next').focus()")
    browser.key("Enter")
    assert browser.evaluate("document.querySelector('.entity.current').id") == "e2"

    names = "[...document.querySelectorAll('#ranking tbody tr')].map(r => r.cells[0].textContent).join('')"
    browser.evaluate("document.querySelector('#ranking thead th:nth-child(3) button').focus()")
    browser.key("Enter")
    assert browser.evaluate(names) == "123"
    browser.key("Enter")
    assert browser.evaluate(names) == "321"
    assert browser.evaluate(f"{here}.closest('th').getAttribute('aria-sort')") == "ascending"
    assert browser.complaints == []


def test_everything_that_can_be_used_has_a_name(browser: Browser, report: Path) -> None:
    browser.open(report)
    assert browser.nameless() == ""
    assert browser.evaluate("document.documentElement.lang") == "en"
    assert browser.evaluate("document.querySelectorAll('h1').length") == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_is_legible_and_fits(browser: Browser, report: Path, scheme: str, width: int) -> None:
    browser.media(prefers_color_scheme=scheme)
    browser.size(width, 900)
    browser.open(report)
    ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(15, 20, 26)") == (scheme == "dark")
    assert browser.contrast() >= 4.5
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    plot = "document.querySelector('.entity.current .plot path.score').getBoundingClientRect()"
    assert browser.evaluate(f"{plot}.width") > width / 2
    assert len(browser.picture()) > 20_000


def test_on_paper_the_worst_entities_are_all_there(browser: Browser, report: Path) -> None:
    browser.media(prefers_color_scheme="dark")
    browser.open(report)
    assert browser.printed().startswith(b"%PDF")
    browser.media("print", prefers_color_scheme="dark")
    shown = "[...document.querySelectorAll('.entity')].filter(e => e.offsetHeight > 0).length"
    assert browser.evaluate(shown) == 3
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.evaluate("document.querySelector('.picker').offsetHeight") == 0
