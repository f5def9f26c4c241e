"""A headless Chromium to look at pages with: what they show, say on the console, and fetch."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

_CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # tests may run as root in a container
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-default-browser-check",
    "--hide-scrollbars",
    # No name is ever looked up: a page that wants something from elsewhere fails, and its request is seen.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
# Several syllables, drawn: a font without Hangul draws one and the same box for all of them.
_DRAWN = """
const canvas = document.createElement("canvas");
canvas.width = canvas.height = 48;
const pen = canvas.getContext("2d", { willReadFrequently: true });
pen.font = "40px " + getComputedStyle(document.body).fontFamily;
return Array.from("가나힣뷁\\u{10FFFF}").map((letter) => {
  pen.clearRect(0, 0, 48, 48);
  pen.fillText(letter, 2, 40);
  return Array.from(pen.getImageData(0, 0, 48, 48).data).join(",");
});
"""


def find_browser() -> tuple[Path, Path] | str:
    """Chromium and its driver, or what is wanting."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "no browser tests without selenium: pip install -e '.[dev]'"
    browser = next((path for name in _CHROMIUM if (path := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        return "no browser tests without Chromium and its driver: apt-get install chromium chromium-driver fonts-nanum"
    return Path(browser), Path(driver)


class Browser:
    """One window. `open` a page; everything said and fetched since then is remembered."""

    def __init__(self, browser: Path, driver: Path) -> None:
        from selenium.webdriver import Chrome, ChromeOptions
        from selenium.webdriver.chrome.service import Service

        options = ChromeOptions()
        options.binary_location = str(browser)
        for flag in _FLAGS:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = Chrome(options=options, service=Service(executable_path=str(driver)))
        self.driver.set_script_timeout(120)
        self.driver.set_page_load_timeout(120)

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(Exception):
            self.driver.quit()

    def open(self, page: str | Path, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Open an address or a file, in a window of that many CSS pixels (a phone has 390 by 844)."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        self.driver.get("about:blank")
        for log in ("browser", "performance"):
            self.driver.get_log(log)
        self.driver.get(page.resolve().as_uri() if isinstance(page, Path) else page)

    def js(self, script: str, *values: Any) -> Any:
        """Run a script in the page; it returns with `return`."""
        return self.driver.execute_script(script, *values)

    def texts(self, selector: str) -> list[str]:
        """The text of every element that a CSS selector finds."""
        found: list[str] = self.js(
            "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector
        )
        return found

    def wait(self, condition: str, *values: Any, seconds: float = 60) -> Any:
        """Until a script's value is true; returns it."""
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, seconds, 0.05).until(
            lambda _: self.js(f"return {condition}", *values), f"waited for: {condition}"
        )

    def complaints(self) -> list[str]:
        """Errors and warnings of the console since the page was opened or since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]

    def requests(self) -> list[str]:
        """Every address that was asked for since the page was opened or since the last call."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]

    def overflow(self) -> int:
        """By how many pixels the page is wider than the window."""
        width: int = self.js("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
        return width

    def draws_hangul(self) -> bool:
        """Whether the page's font has Hangul: syllables look different from each other, and from what no font has."""
        drawn = self.js(_DRAWN)
        return len(set(drawn)) == len(drawn)

    def fonts(self, selector: str) -> dict[str, int]:
        """The fonts that an element's text is really drawn with, and how many glyphs of each."""
        self.driver.execute_cdp_cmd("DOM.enable", {})
        self.driver.execute_cdp_cmd("CSS.enable", {})
        root = self.driver.execute_cdp_cmd("DOM.getDocument", {"depth": 0})["root"]["nodeId"]
        node = self.driver.execute_cdp_cmd("DOM.querySelector", {"nodeId": root, "selector": selector})["nodeId"]
        fonts = self.driver.execute_cdp_cmd("CSS.getPlatformFontsForNode", {"nodeId": node})["fonts"]
        return {font["familyName"]: int(font["glyphCount"]) for font in fonts}

    def save(self, path: Path) -> None:
        """The whole page as a picture."""
        height = self.js("return document.documentElement.scrollHeight")
        size = {"width": self.js("return innerWidth"), "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.save_screenshot(str(path))
