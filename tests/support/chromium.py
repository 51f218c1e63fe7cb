"""Debian's Chromium, driven by playwright, for tests that look at a page.

Where CI promises it and it is missing they fail; elsewhere they skip.
"""

import importlib.util
import os
import shutil
from contextlib import contextmanager

import pytest

PATH = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


def missing(*packages: str) -> list[str]:
    """What is not here of Chromium, playwright and these packages."""
    absent = [name for name in (*packages, "playwright") if importlib.util.find_spec(name) is None]
    return absent + ([] if PATH else ["Chromium"])


def skip_without(*packages: str) -> None:
    """Skips the calling module outside CI when something is missing."""
    if (absent := missing(*packages)) and os.environ.get("CI") != "true":
        extras = ",".join(["chat"] * ("gradio" in packages) + ["browser"])
        pytest.skip(
            f"{', '.join(absent)} not found: make setup EXTRAS={extras}, and Debian's chromium",
            allow_module_level=True,
        )


@contextmanager
def opened(*packages: str):
    """The browser, without a window. Fails the test when something is missing."""
    if absent := missing(*packages):
        pytest.fail(f"{', '.join(absent)} not found, and CI promises them")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=PATH, args=["--no-sandbox"])
        yield browser
        browser.close()
