"""Pictures of each section of a page, as `docs/page.md` shows them: `python -m tests.screenshots PAGE -o DIR`.

The first screen and each section as PNG at 1400 px, light; with --all also at 400 px and dark. Chromium must be there.
"""

import argparse
import base64
from pathlib import Path
from typing import Any

from tests.browser import chromium, missing, show

WIDTHS = (1400, 400)


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
        for width in WIDTHS if asked.all else WIDTHS[:1]:
            for is_dark in (False, True) if asked.all else (False,):
                take(driver, asked.page, asked.out, width, is_dark, is_suffixed=asked.all)


def take(driver: Any, page: Path, out: Path, width: int, is_dark: bool, *, is_suffixed: bool) -> None:
    """One picture of the first screen of *page*, and one of each section."""
    suffix = f"-{width}-{'dark' if is_dark else 'light'}" if is_suffixed else ""
    show(driver, page, width=width, is_dark=is_dark)
    (out / f"first-screen{suffix}.png").write_bytes(driver.get_screenshot_as_png())
    boxes = driver.execute_script(
        "return [...document.querySelectorAll('section')].map(each => {"
        " const box = each.getBoundingClientRect();"
        " return [each.id, box.x + scrollX, box.y + scrollY, box.width, box.height]; })"
    )
    for name, x, y, box_width, height in boxes:
        clip = {"x": x, "y": y, "width": box_width, "height": height, "scale": 1}
        picture = driver.execute_cdp_cmd(
            "Page.captureScreenshot", {"format": "png", "clip": clip, "captureBeyondViewport": True}
        )
        (out / f"{name}{suffix}.png").write_bytes(base64.b64decode(picture["data"]))


if __name__ == "__main__":
    main()
