"""A real browser for pages: headless Chromium, driven by Selenium."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

# What only makes a test slow, or asks a network.
_OPTIONS = (
    "headless=new",
    "no-sandbox",
    "disable-gpu",
    "disable-quic",
    "no-first-run",
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
)
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@contextlib.contextmanager
def started() -> Iterator[Chrome]:
    """A browser with a profile of its own. Skips where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (extra `dev`)")
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if not browser or not driver:
        pytest.skip("no Chromium with its driver is on the PATH: apt-get install chromium chromium-driver")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = browser
        for option in (*_OPTIONS, f"user-data-dir={profile}"):
            options.add_argument(f"--{option}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        try:
            yield found
        finally:
            found.quit()


def show(browser: Chrome, page: Path, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
    """Opens the file in a window of this size and color scheme."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get(page.as_uri())


def requests(browser: Chrome) -> list[str]:
    """The addresses that were asked for since the last call, but for data: ones and the browser's own."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [url for url in asked if not url.startswith(("data:", "chrome:"))]


def complaints(browser: Chrome) -> list[Any]:
    """What the console got since the last call."""
    return [entry["message"] for entry in browser.get_log("browser")]
