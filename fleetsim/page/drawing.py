"""Charts as pictures: Altair's specifications drawn by vl-convert, here, without a browser and without a network."""

import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import polars as pl

from fleetsim.errors import InputError
from fleetsim.page.palette import INK, MUTED, PAPER, RULE

WIDE, NARROW = 1040, 350
"""Widths of a chart in px: on a screen or on paper, and on a phone."""
PADDING = 4
"""Px around a chart, within its width."""
FONT = "Arial, Helvetica, 'Liberation Sans', sans-serif"
"""Three names of one set of widths: what is measured here fits there."""
TITLE_SIZE = 14
"""Px, of the title of a chart that is a file; on the page it is a heading."""
ROWS_DRAWN_MAX = 5_000
"""Rows a chart is drawn from, at most: what has more is aggregated before."""


@dataclass(frozen=True)
class Chart:
    """One chart of a page: what it is drawn from, how, and what it says to whoever does not see it.

    `name` is unique in the page and is that of its files; `draw(width, is_narrow)` gives an Altair chart.
    """

    name: str
    section: str
    title: str
    text: str
    frame: pl.DataFrame
    draw: Callable[[int, bool], Any]

    def spec(self, width: int, *, is_titled: bool = False) -> dict[str, Any]:
        """Its Vega-Lite specification at *width* px; *is_titled*: with its title above it."""
        assert len(self.frame) <= ROWS_DRAWN_MAX, f"{self.name} is drawn from {len(self.frame)} rows"
        axis: dict[str, Any] = {
            "labelColor": INK,
            "titleColor": MUTED,
            "gridColor": RULE,
            "domainColor": MUTED,
            "tickColor": MUTED,
        }
        axis |= {
            "labelFontSize": 11,
            "titleFontSize": 11,
            "titleFontWeight": "normal",
            "labelFont": FONT,
            "titleFont": FONT,
        }
        legend: dict[str, Any] = {
            "labelColor": INK,
            "titleColor": MUTED,
            "labelFontSize": 11,
            "titleFontSize": 11,
            "orient": "top",
        }
        legend |= {"titleFontWeight": "normal", "labelFont": FONT, "titleFont": FONT, "labelLimit": 260}
        chart = (
            self.draw(width, width < WIDE)
            .properties(width=width, autosize={"type": "fit", "contains": "padding"}, background=PAPER, padding=PADDING)
            .configure_axis(**axis)
            .configure_legend(**legend)
            .configure_view(stroke=None)
            .configure_text(font=FONT, color=INK, fontSize=11)
        )
        spec: dict[str, Any] = chart.to_dict()
        if is_titled:
            lines = textwrap.wrap(self.title, int(width / (TITLE_SIZE * 0.6)))
            spec["title"] = {"text": lines, "anchor": "start", "frame": "bounds", "font": FONT, "fontSize": TITLE_SIZE}
            spec["title"] |= {"color": INK, "fontWeight": "bold", "offset": 8}
            if isinstance(spec.get("height"), int | float):  # that of all, titles too
                spec["height"] += len(lines) * (TITLE_SIZE + 2) + 8
        return spec

    def svg(self, width: int = WIDE) -> str:
        """The chart as an SVG file, its title above it."""
        return _tidy(_converter().vegalite_to_svg(self.spec(width, is_titled=True)), self.name)

    def png(self, width: int = WIDE) -> bytes:
        """The chart as a PNG file, its title above it, two dots a px."""
        picture: bytes = _converter().vegalite_to_png(self.spec(width, is_titled=True), scale=2)
        return picture

    def inline(self, width: int) -> str:
        """The chart as an element of the page: marks say what they are in `data-tells`."""
        svg = _tidy(_converter().vegalite_to_svg(self.spec(width)), f"{self.name}-{width}")
        # A picture to whoever does not see it, described as a whole: marks one by one are for the pointer.
        svg = re.sub(r' aria-label="([^"]*)" role="graphics-symbol" aria-roledescription="(?:bar|circle|rect mark)"',
                     r' data-tells="\1"', svg)  # fmt: skip
        return re.sub(r' (?:role|aria-roledescription|aria-label|aria-hidden|pointer-events)="[^"]*"', "", svg)


def warm_up() -> None:
    """Import what draws and start it: a second or two, which others can use."""
    import altair as alt

    chart = alt.Chart({"values": [{"x": 1}]}).mark_bar().encode(x="x:Q")
    _converter().vegalite_to_svg(chart.to_dict())


def check_installed() -> None:
    """Raise `InputError`, with how to get it, unless what draws is installed."""
    lacking = [name for name in ("altair", "vl_convert") if find_spec(name) is None]
    if lacking:
        raise InputError(f"the page needs {' and '.join(lacking)}, got none installed: pip install 'fleetsim[page]'")


def _converter() -> Any:
    import vl_convert

    return vl_convert


def _tidy(svg: str, name: str) -> str:
    """*svg* with names of its own, equal whatever was drawn before, and coordinates to a hundredth of a px."""
    clips = dict.fromkeys(re.findall(r'id="(\w+)"', svg))
    for number, clip in enumerate(clips):
        svg = svg.replace(f'id="{clip}"', f'id="{name}-{number}"').replace(f"url(#{clip})", f"url(#{name}-{number})")
    return re.sub(
        r' (?:d|transform|x|y|x1|y1|x2|y2|width|height)="[^"]*"',
        lambda attribute: re.sub(r"(\.\d\d)\d+", r"\1", attribute[0]),
        svg,
    )
