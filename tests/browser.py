"""A headless Chromium that opens pages from the disk and tells what it asked for and complained of.

The binaries are the system's own (Debian's packages chromium and chromium-driver); where they are
not, tests that need them are skipped and say so.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

Theme = Literal["light", "dark"]
DESKTOP, PHONE = (1280, 900), (390, 844)


@dataclass(frozen=True, kw_only=True, slots=True)
class Browser:
    """One window."""

    driver: Chrome

    def open(
        self,
        page: Path,
        *,
        theme: Theme = "light",
        size: tuple[int, int] = DESKTOP,
        fragment: str = "",
    ) -> None:
        """Open a page and wait until its script has done its work."""
        self.show(theme=theme, size=size)
        # From nowhere first: another fragment of the same page is no new page.
        self.driver.get("about:blank")
        self.driver.get(f"{page.resolve().as_uri()}{fragment}")
        self.wait("return document.documentElement.dataset.ready === 'true'")

    def show(self, *, theme: Theme, size: tuple[int, int] = DESKTOP, media: str = "") -> None:
        """Choose what the page is seen on."""
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1}
        self._command("Emulation.setDeviceMetricsOverride", {**metrics, "mobile": size == PHONE})
        feature = {"name": "prefers-color-scheme", "value": theme}
        self._command("Emulation.setEmulatedMedia", {"media": media, "features": [feature]})

    def run(self, script: str, *arguments: object) -> Any:
        """Run a script in the page and give what it returns."""
        return self.driver.execute_script(script, *arguments)  # type: ignore[no-untyped-call]

    def wait(self, script: str, *arguments: object, seconds: float = 60) -> Any:
        """Wait until a script gives something true, and give it."""
        from selenium.webdriver.support.ui import WebDriverWait

        waiting = WebDriverWait(self.driver, seconds, poll_frequency=0.05)
        return waiting.until(lambda _: self.run(script, *arguments))

    def press(self, *keys: str) -> None:
        """Press keys where the focus is."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def point_at(self, element: object) -> None:
        """Move the pointer over an element."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).move_to_element(element).perform()  # type: ignore[arg-type]

    def click(self, element: object) -> None:
        """Point at an element and press the button, once figures above it have found their size."""
        from selenium.webdriver import ActionChains

        self.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
        places: list[object] = [None]
        while len(places) < 6 or len({str(each) for each in places[-5:]}) > 1:
            assert len(places) < 600, "the element never comes to rest"
            places.append(self.run("return arguments[0].getBoundingClientRect().toJSON()", element))
            time.sleep(0.05)
        ActionChains(self.driver).move_to_element(element).click().perform()  # type: ignore[arg-type]

    def complaints(self) -> list[str]:
        """Give what the console has said since the last time: errors, warnings, refusals."""
        return [entry["message"] for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]

    def requests(self) -> list[str]:
        """Give the addresses that were asked for since the last time, data in the page aside."""
        entries = self.driver.get_log("performance")  # type: ignore[no-untyped-call]
        messages = [json.loads(entry["message"])["message"] for entry in entries]
        asked = [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]
        return [address for address in asked if not address.startswith("data:")]

    def picture(self, path: Path) -> None:
        """Save what the window shows as PNG."""
        shot = self._command("Page.captureScreenshot", {"format": "png"})
        path.write_bytes(base64.b64decode(shot["data"]))

    def _command(self, name: str, arguments: dict[str, Any]) -> Any:
        return self.driver.execute_cdp_cmd(name, arguments)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Give a browser, or skip the test where there is none."""
    pytest.importorskip("selenium", reason="the browser is driven with selenium (the dev extra)")
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    binary, driver = _binary(("chromium", "chromium-browser")), _binary(("chromedriver",))
    if binary is None or driver is None:
        pytest.skip("needs Chromium and its driver (apt install chromium chromium-driver)")
    options = Options()
    options.binary_location = binary
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{argument}")
    # Its own services must not be taken for the page's requests.
    for argument in ("disable-background-networking", "disable-component-update", "no-first-run"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # Selenium looks for drivers on the network unless it is told where one is.
    service = Service(driver, env={**os.environ, "SE_OFFLINE": "true", "SE_AVOID_STATS": "true"})
    window = webdriver.Chrome(options=options, service=service)
    try:
        yield Browser(driver=window)
    finally:
        window.quit()


def _binary(names: Sequence[str]) -> str | None:
    return next((found for name in names if (found := shutil.which(name)) is not None), None)
