"""A real browser for pages on disk: headless Chromium without a network, driven by selenium."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MUST_BE_THERE = "FLEETSIM_BROWSER"
"""Where this is set in the environment, as in CI, a browser that is missing is a failure."""
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
)
SHOWN_WITHIN_S = 60
_IS_SHOWN = """
return !window.isOfBefore && document.readyState === "complete" && location.href === arguments[0];
"""


def missing() -> str | None:
    """Why there is no browser here; None where there is one."""
    lacking = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"no {' and no '.join(lacking)} on the path: apt-get install chromium chromium-driver" if lacking else None


@contextmanager
def chromium(width: int = 1400, height: int = 900) -> Iterator[Any]:
    """A driver of a Chromium of its own, its network off, that keeps a log of all it asks for and says."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory(prefix="fleetsim-chromium-", ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = str(shutil.which("chromium"))
        for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = Service(str(shutil.which("chromedriver")), env={**os.environ, "HOME": profile})
        driver = webdriver.Chrome(options=options, service=service)
        try:
            driver.execute_cdp_cmd("Network.enable", {})
            driver.execute_cdp_cmd(
                "Network.emulateNetworkConditions",
                {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0},
            )
            yield driver
        finally:
            driver.quit()


def show(driver: Any, page: Path, *, width: int, height: int = 900, is_dark: bool = False) -> None:
    """Open *page* from disk in a window of *width* x *height* px, on a screen that asks for light or dark."""
    from selenium.webdriver.support.wait import WebDriverWait

    scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    # On a busy machine one `get` in ten was seen to return while the page was still loading.
    driver.execute_script("window.isOfBefore = true")
    address = page.absolute().as_uri()
    driver.get(address)
    WebDriverWait(driver, SHOWN_WITHIN_S).until(lambda at: at.execute_script(_IS_SHOWN, address))
