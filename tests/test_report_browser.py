"""The report in a real headless Chromium: no page is wider than the window, nothing is asked of any
host, all is reached by keyboard.

Needs `make setup EXTRAS=browser` and Debian's chromium; without them the tests skip with the
reason, and fail where CI is "true".
"""

import pytest
from support import chromium, reports

pytestmark = pytest.mark.unit
chromium.skip_without()
# Elements that reach beyond the window and do not stand in a box that scrolls by itself; inline
# code may report its unbroken width.
BEYOND = """() => [...document.querySelectorAll("main *, header *, footer *")]
 .filter(e => !e.closest(".scroll, svg, pre"))
 .filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
 .map(e => e.tagName + ": " + e.textContent.slice(0, 40))"""
WIDE = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return reports.finished(tmp_path_factory.mktemp("runs") / "smoke") / "report"


@pytest.fixture(scope="module")
def browser():
    with chromium.opened() as opened:
        yield opened


@pytest.mark.parametrize("width", [400, 1280])
def test_no_page_is_wider_than_the_window_and_none_asks_another_host(browser, folder, width):
    asked: list[str] = []
    page = browser.new_page(
        viewport={"width": width, "height": 900}, color_scheme="dark" if width == 400 else "light"
    )
    page.on("request", lambda request: asked.append(request.url))
    paths = sorted(folder.glob("*.html"))
    for path in paths:
        page.goto(path.as_uri())
        assert page.evaluate(WIDE) <= 0 and page.evaluate(BEYOND) == [], path.name
    page.close()
    assert (
        len(paths) == 16
        and len(asked) >= 16
        and not [url for url in asked if not url.startswith(("file:", "data:"))]
    )


def test_the_readers_own_scheme_is_followed(browser, folder):
    grounds = {}
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto((folder / "06_finetune_qlora.html").as_uri())
        grounds[scheme] = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        assert (
            page.evaluate(
                "() => getComputedStyle(document.querySelector('main img')).backgroundColor"
            )
            == "rgb(255, 255, 255)"
        )
        assert (
            page.evaluate("() => getComputedStyle(document.querySelector('svg g')).fill")
            != grounds[scheme]
        ), "a formula unseen"
        page.close()
    assert grounds == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 24, 28)"}


def test_the_keyboard_skips_scrolls_and_unfolds(browser, folder):
    page = browser.new_page(viewport={"width": 400, "height": 800})
    page.goto((folder / "04_review_translations.html").as_uri())
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.className") == "skip"
    assert page.evaluate("() => document.activeElement.getBoundingClientRect().left") >= 0, (
        "the skip link is seen when it has the focus"
    )
    page.keyboard.press("Enter")
    assert page.evaluate("() => document.activeElement.id") == "main"
    fold = page.locator("details:has(summary:text('Solution of exercise 1'))").first
    fold.locator("summary").focus()
    assert page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert fold.get_attribute("open") is not None and fold.locator(".output").is_visible()
    wide = page.locator(".scroll").filter(has=page.locator("table")).nth(2)
    wide.focus()
    assert page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.close()
