"""The pictures of the concepts, drawn from runs: `python docs/pictures.py FOLDER` writes them all.

They are kept in docs/assets; a test draws them anew and compares.
"""

import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import polars as pl

import fleetsim

INK, DIM, GRID, PAPER = "#263238", "#607d8b", "#cfd8dc", "#ffffff"
WORK, GAP, CUSTOMER, NOTICE = "#00897b", "#b2dfdb", "#fb8c00", "#ffe0b2"
SHADES = ("#00897b", "#3949ab", "#fb8c00", "#8e24aa")
LABEL_WIDTH, WIDTH, ROW = 150, 720, 30
MARGIN = 16
START = datetime.fromisoformat("2026-12-01T00:00:00Z")


@dataclass
class Drawing:
    """An SVG of shapes and text, `width` x `height` pixels, on paper of its own: it is read on dark pages too."""

    width: int
    height: int
    parts: list[str] = field(default_factory=list)

    def bar(self, x: float, y: float, width: float, height: float, fill: str) -> None:
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1.5):.1f}" height="{height:.1f}" rx="2" fill="{fill}"/>'
        )

    def line(self, x: float, y: float, x_end: float, y_end: float, stroke: str = GRID, arrow: bool = False) -> None:
        end = ' marker-end="url(#arrow)"' if arrow else ""
        self.parts.append(f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{x_end:.1f}" y2="{y_end:.1f}" stroke="{stroke}"{end}/>')

    def text(self, x: float, y: float, words: str, anchor: str = "start", fill: str = INK) -> None:
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}">{words}</text>')

    def svg(self, title: str) -> str:
        arrow = (
            '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8"'
            ' orient="auto">'
            f'<path d="M0 0L8 4L0 8z" fill="{DIM}"/></marker></defs>'
        )
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}"'
            ' font-family="sans-serif" font-size="13" role="img">'
        )
        paper = f'<rect width="{self.width}" height="{self.height}" rx="6" fill="{PAPER}"/>'
        return "\n".join([head, f"<title>{title}</title>", arrow, paper, *self.parts, "</svg>", ""])


def timeline(
    rows: Sequence[tuple[str, Iterable[tuple[float, float, str]]]],
    end: float,
    ticks: Sequence[tuple[float, str]],
    legend: Sequence[tuple[str, str]],
) -> Drawing:
    """Rows of (label, bars), a bar being (start, end, fill) on a scale that is *end* long, above an axis of *ticks*."""
    base = MARGIN + len(rows) * ROW
    drawing = Drawing(WIDTH, base + 30 + (26 if legend else 0))
    scale = (WIDTH - LABEL_WIDTH - 2 * MARGIN) / end
    for at, words in ticks:
        x = LABEL_WIDTH + at * scale
        drawing.line(x, MARGIN, x, base)
        drawing.text(x, base + 18, words, "middle", DIM)
    for place, (label, bars) in enumerate(rows):
        y = MARGIN + place * ROW
        drawing.text(LABEL_WIDTH - 12, y + 19, label, "end")
        for start, stop, fill in bars:
            drawing.bar(LABEL_WIDTH + start * scale, y + 6, (stop - start) * scale, ROW - 12, fill)
    x = float(LABEL_WIDTH)
    for fill, words in legend:
        drawing.bar(x, base + 32, 12, 12, fill)
        drawing.text(x + 18, base + 43, words, fill=DIM)
        x += 40 + 7.2 * len(words)
    return drawing


def scenario(**campaign: object) -> dict[str, object]:
    return {"name": "drawn", "start": START, "campaign": [{"name": "update", **campaign}]}


def started(run: Path, columns: Sequence[str], unit_ms: int) -> pl.DataFrame:
    """The impacts of *run* with *columns* of the fleet; `start` and `end` in units of *unit_ms* after START."""
    events = fleetsim.read_events(run, columns=columns).sort("start_at").collect()
    start_ms = events["start_at"].dt.epoch("ms") - int(START.timestamp() * 1000)
    return events.select(*columns, start=start_ms / unit_ms, end=(start_ms + events["duration_ms"]) / unit_ms)


def set_walk(folder: Path) -> Drawing:
    vms = pl.DataFrame({"vm": range(10)}).with_columns(region=pl.lit("eastus"), set=pl.lit("web"))
    run = fleetsim.run(vms, scenario(length="10min", update_domain_gap="30min"), folder / "walk").path
    events = started(run, ["vm", "update_domain"], 60_000)
    rows = []
    for domain in range(5):
        own = events.filter(pl.col("update_domain") == domain)
        vms_of = ", ".join(str(vm) for vm in sorted(own["vm"]))
        start, end = own["start"].min(), own["end"].max()
        bars = [(start, end, WORK)] + ([(end, end + 30, GAP)] if end < events["end"].max() else [])
        rows.append((f"domain {domain}: VMs {vms_of}", bars))
    ticks = [(minute, f"{minute} min") for minute in range(0, 171, 40)]
    return timeline(rows, 172, ticks, [(WORK, "its VMs are hit"), (GAP, "gap: the set rests")])


def pairs(folder: Path) -> Drawing:
    regions = {"northcentralus": 2, "southcentralus": 3, "eastus": 3, "westus": 4, "northeurope": 3}
    vms = pl.DataFrame(
        [(f"{region}-{vm}", region, region, vm) for region, count in regions.items() for vm in range(count)],
        schema=["vm", "region", "set", "update_domain"],
        orient="row",
    )
    run = fleetsim.run(vms, scenario(length="10min", update_domain_gap="10min"), folder / "pairs").path
    events = started(run, ["region"], 60_000)
    rows = [
        (region, [(start, end, WORK) for start, end in events.filter(region=region).select("start", "end").iter_rows()])
        for region in regions
    ]
    end = events["end"].max()
    return timeline(rows, end, [(minute, f"{minute} min") for minute in range(0, int(end) + 1, 20)], [])


def windows(folder: Path) -> Drawing:
    vms = pl.DataFrame({"vm": range(200)}).with_columns(region=pl.lit("eastus"))
    asked = {"length": "10d", "uptake_ratio": 0.3, "by": "vm", "spare_ratio": 1.0}
    campaign = scenario(kind="reboot", notice="14d", self_service=asked, scheduled={"gap": "2d", "length": "7d"})
    run = fleetsim.run(vms, campaign, folder / "windows").path
    stage = pl.read_parquet(run / "stages.parquet").row(0, named=True)
    names = ("self_service_start_at", "self_service_end_at", "scheduled_start_at", "scheduled_end_at")
    day = {name: (stage[name] - stage["notice_at"]).total_seconds() / 86_400 for name in names}
    events = started(run, ["vm"], 86_400_000)
    moved = [(start, start, CUSTOMER) for start in events["start"] if start < day["scheduled_start_at"]]
    hit = [(start, start, WORK) for start in events["start"] if start >= day["scheduled_start_at"]]
    rows = [
        ("announced", [(0, day["self_service_start_at"], NOTICE)]),
        ("customers may start", [(day["self_service_start_at"], day["self_service_end_at"], NOTICE)]),
        ("customers' reboots", moved),
        ("the platform works", [(day["scheduled_start_at"], day["scheduled_end_at"], GAP)]),
        ("its reboots", hit),
    ]
    ticks = [(each, f"day {each:g}") for each in (0, *day.values())]
    return timeline(rows, day["scheduled_end_at"], ticks, [])


def hosts(folder: Path) -> Drawing:
    """Three sets on the same eight hosts, placed in two ways, each beside when its hosts are worked on."""
    aligned = [0, 0, 1, 1, 2, 2, 3, 3]
    placements = {
        "aligned: a host carries one domain number": {"a": aligned, "b": aligned, "c": aligned},
        "mixed": {"a": aligned, "b": [2, 0, 3, 1, 1, 3, 0, 2], "c": [3, 1, 0, 2, 3, 0, 2, 1]},
    }
    top, row, slot, left, end = 44, 20, 34, 260, 160
    drawing = Drawing(WIDTH, 2 * (top + 8 * row) + 44)
    scale = (WIDTH - left - 2 * MARGIN) / end
    for number, (name, domains) in enumerate(placements.items()):
        vms = pl.DataFrame(
            [
                (f"{set_}{host}", set_, domain, f"host {host}")
                for set_, of_host in domains.items()
                for host, domain in enumerate(of_host)
            ],
            schema=["vm", "set", "update_domain", "host"],
            orient="row",
        ).with_columns(region=pl.lit("eastus"))
        campaign = scenario(length="10min", update_domain_gap="10min")
        run = fleetsim.run(vms, campaign, folder / f"hosts-{number}").path
        spans = {host: span for host, *span in started(run, ["host"], 60_000).unique().iter_rows()}
        above = number * (top + 8 * row) + top
        for minute in range(0, end + 1, 40):
            drawing.line(left + minute * scale, above, left + minute * scale, above + 8 * row)
            if number:
                drawing.text(left + minute * scale, above + 8 * row + 18, f"{minute} min", "middle", DIM)
        drawing.text(MARGIN, above - 12, name)
        drawing.text(WIDTH - 2 * MARGIN, above - 12, f"{max(stop for _, stop in spans.values()):g} min", "end", DIM)
        for place, host in enumerate(sorted(spans)):
            y = above + place * row
            drawing.text(MARGIN + 50, y + 14, host, "end", DIM)
            for column, (set_, of_host) in enumerate(domains.items()):
                x = MARGIN + 62 + column * (slot + 4)
                drawing.bar(x, y + 2, slot, row - 4, SHADES[of_host[place]])
                drawing.text(x + slot / 2, y + 14, f"{set_}{of_host[place]}", "middle", PAPER)
            start, stop = spans[host]
            drawing.bar(left + start * scale, y + 4, (stop - start) * scale, row - 8, WORK)
    return drawing


def flow(_: Path) -> Drawing:
    drawing = Drawing(WIDTH, 150)
    boxes = {
        "fleet": (16, 24, 120, "fleet", "a row a VM"),
        "scenario": (16, 92, 120, "scenario", "what is done"),
        "run": (206, 58, 120, "fleetsim run", "the engine"),
        "files": (396, 58, 130, "run folder", "Parquet files"),
        "verify": (584, 16, 120, "verify", "is every rule kept?"),
        "report": (584, 58, 120, "report", "how long, whom, why"),
        "query": (584, 100, 120, "your queries", "DuckDB, Polars ..."),
    }
    for x, y, width, name, note in boxes.values():
        drawing.bar(x, y, width, 36, GAP)
        drawing.text(x + width / 2, y + 15, name, "middle")
        drawing.parts.append(
            f'<text x="{x + width / 2:.1f}" y="{y + 30}" text-anchor="middle" fill="{DIM}" font-size="11">{note}</text>'
        )
    for start, end in (
        ("fleet", "run"),
        ("scenario", "run"),
        ("run", "files"),
        *(("files", each) for each in ("verify", "report", "query")),
    ):
        x, y, width, *_rest = boxes[start]
        drawing.line(x + width + 2, y + 18, boxes[end][0] - 3, boxes[end][1] + 18, DIM, arrow=True)
    return drawing


PICTURES: dict[str, tuple[Callable[[Path], Drawing], str]] = {
    "flow": (flow, "A run reads a fleet and a scenario, and writes files; all else reads these files."),
    "set-walk": (set_walk, "A set of five update domains, each hit for 10 min, with a gap of 30 min between two."),
    "pairs": (pairs, "Of a pair of regions one is at work at a time; regions of other pairs do not wait."),
    "windows": (windows, "A reboot: notice, the window for customers, a gap, the window of the platform."),
    "hosts": (hosts, "Hosts that carry one domain number each are done number by number; others wait in chains."),
}


def draw(folder: Path) -> None:
    """Write every picture into *folder*."""
    with tempfile.TemporaryDirectory() as runs:
        for name, (drawn, title) in PICTURES.items():
            (folder / f"{name}.svg").write_text(drawn(Path(runs)).svg(title), "utf-8")


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
