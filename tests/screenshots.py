"""Pictures of each section of a page, as `docs/page.md` shows them: `python -m tests.screenshots PAGE -o DIR`.

The first screen, on a wide and on a narrow and dark one, and the top of each section at 1400 px; with --all every
section whole, at 1400 and 400 px, light and dark. Chromium must be there.
"""

import argparse
import base64
from pathlib import Path
from typing import Any

from tests.browser import chromium, missing, show

WIDTHS = (1400, 400)
HEIGHT_MAX = 700


def main() -> None:
    """Make the pictures that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--all", action="store_true", help="also 400 px, and dark")
    asked = parser.parse_args()
    if (why := missing()) is not None:
        raise SystemExit(why)
    asked.out.mkdir(parents=True, exist_ok=True)
    with chromium() as driver:
        if not asked.all:
            take(driver, asked.page, asked.out, 1400, height_max=HEIGHT_MAX)
            show(driver, asked.page, width=400, height=850, is_dark=True)
            (asked.out / "phone.png").write_bytes(driver.get_screenshot_as_png())
            return
        for width in WIDTHS:
            for is_dark in (False, True):
                suffix = f"-{width}-{'dark' if is_dark else 'light'}"
                take(driver, asked.page, asked.out, width, is_dark=is_dark, suffix=suffix)


def take(
    driver: Any,
    page: Path,
    out: Path,
    width: int,
    *,
    is_dark: bool = False,
    suffix: str = "",
    height_max: float = float("inf"),
) -> None:
    """One picture of the first screen of *page*, and one of each section, *height_max* px of it."""
    show(driver, page, width=width, is_dark=is_dark)
    (out / f"first-screen{suffix}.png").write_bytes(driver.get_screenshot_as_png())
    boxes = driver.execute_script(
        "return [...document.querySelectorAll('section')].map(each => {"
        " const box = each.getBoundingClientRect();"
        " return [each.id, box.x + scrollX, box.y + scrollY, box.width, box.height]; })"
    )
    for name, x, y, box_width, height in boxes:
        clip = {"x": x, "y": y, "width": box_width, "height": min(height, height_max), "scale": 1}
        picture = driver.execute_cdp_cmd(
            "Page.captureScreenshot", {"format": "png", "clip": clip, "captureBeyondViewport": True}
        )
        (out / f"{name}{suffix}.png").write_bytes(base64.b64decode(picture["data"]))


if __name__ == "__main__":
    main()
