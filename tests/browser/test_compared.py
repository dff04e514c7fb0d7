"""The page of two windows in a real browser: no network, no complaint, by keyboard, in light and dark, on paper."""

from pathlib import Path

import numpy as np
import pytest
from comparisons import facts, pair
from rigs.chromium import Browser
from tocsin.detector.report import compared, frame

pytestmark = pytest.mark.chromium
EVIL = """<script>window.taken = 1</script><img src=x onerror="window.taken=1">"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(4000, 26))
    x[:, 3] = np.abs(x[:, 3]) * (rng.random(4000) < 0.2)
    x[:, 4] = 1.5
    x[2000:, 1] += 1.4
    x[2000:, 2] = 1.8 * x[2000:, 2]
    x[2000:, 5] = np.where(rng.random(2000) < 0.5, np.nan, x[2000:, 5])
    x[2000:, 6] = np.nan
    z = rng.normal(size=(4000, 8)) * np.linspace(0.2, 1.2, 8)
    z[2000:, 5:] += 0.8
    names = [EVIL, "memory", "latency_ms", "errors", "version", "disk_busy", "net_in"]
    names += [f"a.rather.long.name.of.a.feature.{i:02d}" for i in range(19)]
    one = pair(x[:2000], x[2000:], latent=(z[:2000], z[2000:]))
    path = tmp_path_factory.mktemp("drift") / "drift.html"
    note = "The windows lie in other hours of the day, or one is shorter than a day: compare whole days."
    frame.write(path, compared.page(facts(one, names, notes=(note,))))
    return path


def test_it_opens_without_network_or_complaint(browser: Browser, report: Path) -> None:
    browser.open(report)
    assert browser.evaluate("document.title") == "web: drift report"
    assert browser.evaluate("document.documentElement.className") == "js"
    assert browser.evaluate("window.taken === undefined")
    assert browser.complaints == []
    assert browser.asked == [report.as_uri()]


def test_everything_can_be_done_with_the_keyboard(browser: Browser, report: Path) -> None:
    here = "document.activeElement"
    browser.open(report)
    browser.key("Tab")
    assert browser.evaluate(f"{here}.className") == "skip"
    browser.key("Enter")
    assert browser.evaluate(f"{here}.id") == "main"
    seen = []
    for _ in range(80):
        browser.key("Tab")
        tag, role, outline = browser.evaluate(
            f"[{here}.tagName, {here}.getAttribute('role'), getComputedStyle({here}).outlineStyle]"
        )
        if tag == "BODY":
            break
        assert outline != "none", f"{tag} shows no focus"
        seen.append(role or tag)
    assert {"BUTTON", "A", "region"} <= set(seen)

    ranks = "[...document.querySelectorAll('#ranking tbody tr')].map(r => r.cells[0].textContent).join()"
    browser.evaluate("document.querySelector('#ranking thead th:first-child button').focus()")
    browser.key("Enter")
    assert browser.evaluate(ranks).startswith("1,2,3")
    browser.key("Enter")
    assert browser.evaluate(ranks).startswith("26,25,24")
    browser.evaluate("document.querySelector('#ranking tbody a[href=\"#f1\"]').focus()")
    browser.key("Enter")
    assert browser.evaluate("location.hash") == "#f1"
    assert browser.complaints == []


def test_everything_that_can_be_used_has_a_name(browser: Browser, report: Path) -> None:
    browser.open(report)
    assert browser.nameless() == ""
    assert browser.evaluate("document.querySelectorAll('h1').length") == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_it_is_legible_and_fits(browser: Browser, report: Path, scheme: str, width: int) -> None:
    browser.media(prefers_color_scheme=scheme)
    browser.size(width, 900)
    browser.open(report)
    ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(15, 20, 26)") == (scheme == "dark")
    assert browser.contrast() >= 4.5
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    for path in (".before", ".now", ".above", ".mean", ".spread"):
        box = f"document.querySelector('.plot path{path}').getBoundingClientRect()"
        assert browser.evaluate(f"{box}.width") > 50, path
    over = "getComputedStyle(document.querySelector('#ranking .bar.over rect')).fill"
    usual = "getComputedStyle(document.querySelector('#ranking .bar:not(.over) rect')).fill"
    assert browser.evaluate(over) != browser.evaluate(usual)


def test_on_paper_all_is_there(browser: Browser, report: Path) -> None:
    browser.media(prefers_color_scheme="dark")
    browser.open(report)
    assert browser.printed().startswith(b"%PDF")
    browser.media("print", prefers_color_scheme="dark")
    shown = (
        "[...document.querySelectorAll('.picture, #ranking tbody tr')].filter(e => e.offsetHeight > 0).length"
    )
    assert browser.evaluate(shown) == 20 + 26
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    framed = "document.querySelector('.framed')"
    assert browser.evaluate(f"{framed}.scrollHeight - {framed}.clientHeight") <= 1
