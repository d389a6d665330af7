"""Which charts a run has: each aggregated to some hundred rows first, and what it shows in a sentence.

Figures come from the report and from `figures`; here they are put in order, bins and words. Whatever a run cannot tell
is said, and why.
"""

import math
import re
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import polars as pl

from fleetsim import figures
from fleetsim.figures import Link, duration
from fleetsim.page.drawing import PADDING, ROWS_DRAWN_MAX, Chart
from fleetsim.page.palette import (
    CAMPAIGNS,
    CAP,
    CUSTOMERS,
    DOWN,
    GAP,
    IDLE,
    INK,
    LAND,
    MUTED,
    NOTICE,
    PAPER,
    PENDING,
    SCHEDULED,
    SPREAD,
    STEPS,
    STRIPE,
    UPDATED,
    WAIT,
    WORK,
)
from fleetsim.reporting import REMEDIES, Report
from fleetsim.shipped import dataset_path

CAMPAIGNS_DRAWN = 4
"""Campaigns that have charts of their own, the first of a scenario; tables have all, and a timeline the others."""
BINS = 240
HEAT_BINS = (60, 24)
LENGTH_BINS = 60
LANES_MAX = 120
"""Regions that have a lane, those with most VMs."""
UNITS_DRAWN = 250
"""Units of a chain drawn one by one in a region; of more, as many runs of them."""
SHARES, SHARE_COLOURS = (0.1, 0.25, 0.5, 1.0), (*STEPS[2:6], DOWN)
"""Of an application's VMs, out at once: bounds of the steps in which that is told, and the colour of each step."""
OTHERS = "others"
"""Stands for a campaign's name in the files of what those without charts of their own share."""
SLUG_LENGTH_MAX = 40
SETS_DRAWN = 20
APPLICATIONS_DRAWN = 20
WORKLOADS_DRAWN = 4
NAMES_DRAWN = 14
NAME_GAP = 4
"""Px from a region's dot to its name."""
DOT_AREAS = (30, 420)
"""Px², of the dots of regions with least and with most VMs; Vega's scale of roots begins at no VMs."""
_HOUR_MS = 3_600_000


@dataclass(frozen=True)
class Lacking:
    """A chart that a run does not have, and why."""

    section: str
    title: str
    why: str


def charts_of(report: Report) -> list[Chart | Lacking]:
    """The charts of *report*, and those it lacks, by section."""
    return [_drawable(each) for each in _Charts(report).all()]


def _drawable(chart: Chart | Lacking) -> Chart | Lacking:
    """*chart*, unless it would be drawn from more rows than a page can hold."""
    if isinstance(chart, Lacking) or len(chart.frame) <= ROWS_DRAWN_MAX:
        return chart
    why = f"it would be drawn from {len(chart.frame):,} rows, and at most {ROWS_DRAWN_MAX:,} are; ask for less (--only)"
    return Lacking(chart.section, chart.title, why)


def slugs_of(names: Sequence[str]) -> dict[str, str]:
    """Each of *names* as a part of a file's name, on any file system: campaigns may be called anything.

    No two are the same, big and small letters being one, and none is OTHERS.
    """
    slugs: dict[str, str] = {}
    taken = {OTHERS}
    for number, name in enumerate(names, start=1):
        plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
        slug = re.sub(r"[^A-Za-z0-9]+", "-", plain).strip("-").lower()[:SLUG_LENGTH_MAX].strip("-")
        while not slug or slug in taken:
            slug = f"{slug}-{number}".strip("-")
        taken.add(slug)
        slugs[name] = slug
    return slugs


@dataclass(frozen=True)
class Clock:
    """Spans of time in the unit that fits: `unit_ms` its length, `title` of an axis."""

    unit_ms: int
    title: str

    def titled(self, is_narrow: bool) -> str | list[str]:
        """The title of an axis; where room *is_narrow*, the start stands on a line of its own."""
        since, comma, start = self.title.partition(", ")
        return [since + comma, start] if is_narrow and start else self.title

    @classmethod
    def of(cls, first_ms: float, last_ms: float, start: str) -> "Clock":
        """The clock for an axis from *first_ms* to *last_ms*, since *start*."""
        # By its span; and where it begins late, its numbers must not get long.
        span_ms = max(last_ms - first_ms, last_ms / 12)
        units = ((1_000, "seconds", 300_000), (60_000, "minutes", 4 * _HOUR_MS), (_HOUR_MS, "hours", 96 * _HOUR_MS))
        unit_ms, word = next(
            ((unit_ms, word) for unit_ms, word, stop_ms in units if span_ms < stop_ms), (24 * _HOUR_MS, "days")
        )
        return cls(unit_ms, f"{word} since scenario start, {start}")


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


class _Charts:
    """The charts of one report."""

    def __init__(self, report: Report) -> None:
        self.report, self.files = report, report.files
        self.start = f"{report.files.resolved['start']:%Y-%m-%d %H:%M} UTC"
        self.names = [each["name"] for each in self.files.campaigns]
        self.drawn = self.names[:CAMPAIGNS_DRAWN]
        self.slugs = slugs_of(self.names)
        self.colours = {name: CAMPAIGNS[place % len(CAMPAIGNS)] for place, name in enumerate(self.names)}

    def all(self) -> Iterator[Chart | Lacking]:
        yield from (self.timeline([name], self._slug("timeline", name)) for name in self.drawn)
        if others := self.names[CAMPAIGNS_DRAWN:]:
            yield self.timeline(others, f"timeline-{OTHERS}")
        yield from (self.gantt(name) for name in self.drawn)
        yield from (self.out(name) for name in self.drawn)
        yield from (self.completion(name) for name in self.drawn)
        yield from (self.lengths(name) for name in self.drawn)
        yield from (self.heat(name) for name in self.drawn)
        yield self.sets()
        yield from (self.applications(name) for name in self.drawn)
        yield from (self.joint_outage(name) for name in self.drawn)
        yield from (self.tolerance(name) for name in self.drawn)
        yield self.map()

    def _titled(self, name: str, title: str) -> str:
        """*title* of a chart of campaign *name*, which is told where there are several."""
        return f"{name}: {title}" if len(self.names) > 1 else title[0].upper() + title[1:]

    def _slug(self, subject: str, name: str) -> str:
        """A file's name: *subject* and, of several, the campaign *name*."""
        return subject if len(self.names) == 1 else f"{subject}-{self.slugs[name]}"

    # Regions, pair neighbours next to each other

    @cached_property
    def lanes(self) -> dict[str, int]:
        """Region -> number of its pair group, in the order of lanes: who starts first, then its pairs."""
        rows = self.stage_rows.filter(pl.col("vm_count") > 0)
        sizes = rows.group_by("region").agg(pl.col("vm_count").max(), pl.col("start_ms").min())
        kept = sizes.sort("vm_count", "region", descending=[True, False]).head(LANES_MAX)
        order = kept.sort("start_ms", "region", nulls_last=True)["region"].to_list()
        beside: dict[str, list[str]] = {region: [] for region in order}
        for edge in self.files.edges:
            if edge <= beside.keys():
                one, other = sorted(edge, key=order.index)
                beside[one].append(other)
                beside[other].append(one)
        lanes: dict[str, int] = {}
        for group, region in enumerate(order):
            if region in lanes:
                continue
            reach, members = [region], {region}
            while reach:
                near = [each for each in beside[reach.pop()] if each not in members]
                members.update(near)
                reach += near
            # From an end of the chain of pairs, so that each is beside its pair.
            ends = sorted(members, key=lambda each: (len(beside[each]) > 1, order.index(each)))
            waiting = [ends[0]]
            while waiting:
                each = waiting.pop()
                if each not in lanes:
                    lanes[each] = group
                    waiting += sorted(beside[each], key=order.index, reverse=True)
        groups = list(dict.fromkeys(lanes.values()))
        return {region: groups.index(group) for region, group in lanes.items()}

    @cached_property
    def stage_rows(self) -> pl.DataFrame:
        return self.report.stage_rows

    def timeline(self, names: Sequence[str], slug: str) -> Chart | Lacking:
        """The timeline of the campaigns *names*, on a scale that is theirs: beside 40 days a freeze is not seen."""
        asked = "regions over time, pairs next to each other"
        title = self._titled(names[0], asked) if len(names) == 1 else f"{len(names):,} other campaigns: {asked}"
        own = self.stage_rows.filter(pl.col("campaign").is_in(names), pl.col("vm_count") > 0)
        rows = own.filter(pl.col("region").is_in(list(self.lanes)))
        worked = rows.drop_nulls("first_start_ms")
        if rows.is_empty() or (worked.is_empty() and rows["start_ms"].is_null().all()):
            return Lacking("timeline", title, "no stage was at work")
        spans = []
        windows = {tuple(row[each] for each in figures.STAGE): row for row in figures.windows(self.files).to_dicts()}
        many = len(names) > 1
        of_asked = " of those asked for" if self.files.only else ""
        for row in rows.to_dicts():
            stage = tuple(row[each] for each in figures.STAGE)
            told = windows[stage]
            again = f", iteration {row['iteration']}" if row["iteration"] > 1 else ""
            parts = [
                (
                    "notice",
                    "notice_ms",
                    "self_service_start_ms" if told["self_service_start_ms"] else "scheduled_start_ms",
                ),
                ("window for customers", "self_service_start_ms", "self_service_end_ms"),
                ("scheduled window", "scheduled_start_ms", "scheduled_end_ms"),
            ]
            for what, first, last in parts:
                if told[first] is not None and told[last] is not None and told[last] > told[first]:
                    spans.append((row, what, told[first], told[last], what, again))
            if row["first_start_ms"] is not None:
                word = f"{row['campaign']} at work" if many else "at work"
                # Of some VMs, their first impact to their last: the stage may go on with others.
                spans.append((row, word, row["first_start_ms"], row["last_end_ms"], "at work", again))
        frame = pl.DataFrame(
            [
                {
                    "region": row["region"],
                    "pair_group": self.lanes[row["region"]],
                    "campaign": row["campaign"],
                    "iteration": row["iteration"],
                    "wave": row["wave"],
                    "what": word,
                    "start_ms": first_ms,
                    "end_ms": last_ms,
                    "tells": f"{row['region']}: {row['campaign']}{again}, {what} from {duration(first_ms)}"
                    f" to {duration(last_ms)}, {row['vm_count']:,} VMs{of_asked} in scope",
                }
                for row, word, first_ms, last_ms, what, again in spans
            ]
        )
        if frame.is_empty():
            return Lacking("timeline", title, "no stage was at work")
        waves = (
            rows.filter(pl.col("wave") > 1)
            .group_by("campaign", "wave")
            .agg(pl.col("asked_ms").min())
            .sort("asked_ms", "campaign")
        )
        drawn = set(frame["region"])
        lanes = {region: group for region, group in self.lanes.items() if region in drawn}
        text = f"{_counted(len(lanes), 'region')} in lanes, paired regions next to each other."
        ends = worked.sort("last_end_ms", "region").tail(1).to_dicts()
        if ends:
            first_region = worked.sort("first_start_ms", "region").row(0, named=True)
            of_whom = "Of the VMs asked for, first" if self.files.only else "First"
            text += (
                f" {of_whom} at work is {first_region['region']}, at {duration(first_region['first_start_ms'])};"
                f" last done is {ends[0]['region']}, at {duration(ends[0]['last_end_ms'])}."
            )
        if len(waves):
            told_waves = ", ".join(f"{number} at {duration(ms)}" for _, number, ms in waves.rows())
            text += f" Lines mark when a wave is released: {told_waves}."
        hidden = own["region"].n_unique() - rows["region"].n_unique()
        if hidden > 0:
            text += f" {hidden:,} regions with fewer VMs are left out here, and in the tables."
        start = self.start
        colours = {"notice": NOTICE, "window for customers": CUSTOMERS, "scheduled window": SCHEDULED}
        colours |= {f"{name} at work": self.colours[name] for name in names} if many else {"at work": WORK}

        def draw(width: int, is_narrow: bool) -> Any:
            import altair as alt

            clock = Clock.of(_least(frame["start_ms"]), _most(frame["end_ms"]), start)
            here = _scaled(frame, clock)
            order = list(lanes)
            domain = [word for word in colours if word in set(frame["what"])]
            y = alt.Y(
                "region:N", sort=order, title=None, axis=_names_axis(is_narrow), scale=alt.Scale(paddingInner=0.15)
            )
            low, high = _least(here["start"]), _most(here["end"])
            # However short, it is seen.
            here = here.with_columns(end=pl.max_horizontal("end", pl.col("start") + (high - low) * 2 / width))
            scale = alt.Scale(domain=[low, _most(here["end"])], nice=False)
            x = alt.X("start:Q", title=clock.titled(is_narrow), axis=_time_axis(is_narrow), scale=scale)
            odd = [region for region, group in lanes.items() if group % 2]
            layers = []
            if odd:
                stripes = pl.DataFrame({"region": odd, "start": [low] * len(odd), "end": [high] * len(odd)})
                layers.append(alt.Chart(stripes).mark_rect(color=STRIPE, aria=False).encode(x=x, x2="end:Q", y=y))
            is_work = pl.col("what").str.ends_with("at work")
            colour = alt.Color(
                "what:N",
                title=None,
                scale=alt.Scale(domain=domain, range=[colours[word] for word in domain]),
                legend=alt.Legend(columns=1 if is_narrow else 5, symbolType="square") if len(domain) > 1 else None,
            )
            for part, inset in ((here.filter(~is_work), 0.0), (here.filter(is_work), 0.2)):
                if part.is_empty():
                    continue
                bars = alt.Chart(part).mark_bar(minBandSize=2, height=alt.RelativeBandSize(band=1 - inset))
                layers.append(bars.encode(x=x, x2="end:Q", y=y, color=colour, description="tells:N"))
            # One that is asked for after all is done would have no place on the scale.
            seen = waves.filter(pl.col("asked_ms").is_between(low * clock.unit_ms, high * clock.unit_ms))
            if len(seen):
                marks = seen.select(at=pl.col("asked_ms") / clock.unit_ms, word=pl.format("wave {}", "wave"))
                base = alt.Chart(marks).encode(x="at:Q")
                layers.append(base.mark_rule(color=INK, strokeDash=[3, 3]))
                # On the side that has room.
                for is_late, (_, align, sign) in zip((False, True), _SIDES, strict=True):
                    part = marks.filter((pl.col("at") > low + 0.85 * (high - low)) == is_late)
                    if len(part):
                        words = alt.Chart(part).mark_text(align=align, baseline="top", dx=3 * sign, dy=2, fontSize=10)
                        layers.append(words.encode(x="at:Q", text="word:N", y=alt.value(0)))
            return alt.layer(*layers).properties(height=alt.Step(15))

        return Chart(slug, "timeline", title, text, frame, draw)

    # Why so long

    def gantt(self, name: str) -> Chart | Lacking:
        title = self._titled(name, "who led to the end")
        links = self.report.chains[name]
        if not links:
            return Lacking("why", title, "nobody was hit: there is no chain")
        rows = [row for place, link in enumerate(links, start=1) for row in _link_rows(place, link, name)]
        frame = pl.DataFrame(rows, orient="row", schema=_GANTT)
        lanes = list(dict.fromkeys(frame["lane"]))
        text = f"{_counted(len(links), 'stage')}, each released by the one before: {', '.join(lanes)}."
        if not any(link.units for link in links):
            text += " Within a stage, sums of spread, work and gap of the set that ended last are drawn in turn."
        start = self.start
        order = list(dict.fromkeys(frame["lane"]))

        def draw(width: int, is_narrow: bool) -> Any:
            import altair as alt

            clock = Clock.of(_least(frame["start_ms"]), _most(frame["end_ms"]), start)
            here = _scaled(frame, clock)
            low, high = _least(here["start"]), _most(here["end"])
            # However short, it is seen.
            here = here.with_columns(end=pl.max_horizontal("end", pl.col("start") + (high - low) * 2 / width))
            domain = [word for word in _GANTT_COLOURS if word in set(frame["what"])]
            colour = alt.Color(
                "what:N",
                title=None,
                scale=alt.Scale(domain=domain, range=[_GANTT_COLOURS[word] for word in domain]),
                legend=alt.Legend(columns=1 if is_narrow else 5, symbolType="square"),
            )
            return (
                alt.Chart(here)
                .mark_bar()
                .encode(
                    x=alt.X(
                        "start:Q",
                        title=clock.titled(is_narrow),
                        scale=alt.Scale(domain=[low, high], nice=False),
                        axis=_time_axis(is_narrow),
                    ),
                    x2="end:Q",
                    y=alt.Y("lane:N", sort=order, title=None, axis=_names_axis(is_narrow)),
                    color=colour,
                    description="tells:N",
                )
                .properties(height=alt.Step(26))
            )

        return Chart(self._slug("chain", name), "why", title, text, frame, draw)

    # By time

    @cached_property
    def courses(self) -> pl.DataFrame:
        """`figures.courses` of the campaigns drawn."""
        widths = {}
        for campaign in self.files.campaigns[:CAMPAIGNS_DRAWN]:
            rows = self.stage_rows.filter(campaign=campaign["name"])
            last_ms = rows.select(pl.max_horizontal("end_ms", "free_ms").max()).item() if len(rows) else None
            if last_ms is not None:
                asked_ms = int(campaign.get("start_ms", 0))
                widths[campaign["name"]] = figures.bin_width_ms(max(1, last_ms - asked_ms), BINS)
        return figures.courses(self.files, widths)

    def out(self, name: str) -> Chart | Lacking:
        title = self._titled(name, "VMs paused or down over time")
        rows = self.courses.filter(campaign=name)
        if not self.files.has("events"):
            # The whole time of an impact counts in the hour in which it starts.
            hours = self.report.hour_rows.filter(campaign=name)
            met = hours["hour"].to_list()
            count = -(-(max(met, default=0) - min(met, default=0) + 1) // BINS)  # hours a bin
            is_down = self._kind(name) in ("reboot", "redeploy")
            mean = (pl.col("hourly_unavailable_ms") / (count * _HOUR_MS)).alias(
                "down_mean" if is_down else "paused_mean"
            )
            other = pl.lit(0.0).alias("paused_mean" if is_down else "down_mean")
            rows = (
                hours.group_by("campaign", hour=pl.col("hour") // count * count, maintain_order=True)
                .agg(pl.col("hourly_unavailable_ms").sum())
                .select(
                    "campaign",
                    mean,
                    other,
                    bin_start_ms=pl.col("hour") * _HOUR_MS,
                    bin_ms=pl.lit(count * _HOUR_MS, pl.Int64),
                )
            )
        if rows.is_empty() or not (rows["paused_mean"] + rows["down_mean"]).sum():
            return Lacking("time", title, self._why_no_events() or "nobody was hit")
        width_ms = int(rows["bin_ms"][0])
        frame = (
            rows.unpivot(["paused_mean", "down_mean"], index=["campaign", "bin_start_ms", "bin_ms"])
            .filter(pl.col("value") > 0)
            .with_columns(what=pl.col("variable").str.strip_suffix("_mean"), vm_mean="value")
            .with_columns(
                tells=pl.struct("bin_start_ms", "bin_ms", "what", "vm_mean").map_elements(
                    lambda row: (
                        f"from {duration(row['bin_start_ms'])} to {duration(row['bin_start_ms'] + row['bin_ms'])}:"
                        f" {row['vm_mean']:,.4g} VMs {row['what']} on average"
                    ),
                    return_dtype=pl.String,
                )
            )
            .select("campaign", "bin_start_ms", "bin_ms", "what", "vm_mean", "tells")
        )
        whole = frame.group_by("bin_start_ms").agg(pl.col("vm_mean").sum()).sort("bin_start_ms")
        peak = whole.row(whole["vm_mean"].arg_max() or 0, named=True)
        text = (
            f"Averages over {duration(width_ms)} each. At most {peak['vm_mean']:,.4g} VMs are out on average, in the"
            f" one from {duration(peak['bin_start_ms'])} on."
        )
        if not self.files.has("events"):
            text += " The run kept no events: each impact counts whole in the hour in which it starts."
        start, first_ms = self.start, self._asked_ms(name)
        colours = {"paused": WORK, "down": DOWN}

        def draw(width: int, is_narrow: bool) -> Any:
            import altair as alt

            here, clock = _binned(_stacked(frame, "vm_mean"), start, first_ms=first_ms)
            domain = [word for word in colours if word in set(frame["what"])]
            return (
                alt.Chart(_joined(here, width))
                .mark_rect()
                .encode(
                    x=_bins_x(here, clock, first_ms, is_narrow),
                    x2="end:Q",
                    y=alt.Y("low:Q", title="VMs out, on average", axis=counts_axis()),
                    y2="high:Q",
                    color=alt.Color(
                        "what:N",
                        title=None,
                        scale=alt.Scale(domain=domain, range=[colours[word] for word in domain]),
                        legend=alt.Legend(symbolType="square"),
                    ),
                    description="tells:N",
                )
                .properties(height=230)
            )

        return Chart(self._slug("out", name), "time", title, text, frame, draw)

    def completion(self, name: str) -> Chart | Lacking:
        title = self._titled(name, "VMs updated, and VMs that wait for it: the vulnerability surface")
        rows = self.courses.filter(campaign=name)
        total = int(_most(rows["updated_count"]))
        if not total:
            return Lacking("completion", title, self._why_no_events() or "no VM was updated")
        frame = rows.select(
            "campaign",
            "bin_start_ms",
            "bin_ms",
            "pending_mean",
            "updated_count",
            tells=pl.struct("bin_start_ms", "bin_ms", "pending_mean", "updated_count").map_elements(
                lambda row: (
                    f"by {duration(row['bin_start_ms'] + row['bin_ms'])}: {row['updated_count']:,} VMs updated,"
                    f" {row['updated_count'] / total:.1%}; {row['pending_mean']:,.4g} waited on average"
                ),
                return_dtype=pl.String,
            ),
        )
        by = {}
        for share in (0.5, 0.99, 1.0):
            done = frame.filter(pl.col("updated_count") >= share * total).row(0, named=True)
            by[share] = duration(done["bin_start_ms"] + done["bin_ms"])
        surface_ms = float((rows["pending_mean"] * rows["bin_ms"]).sum())
        text = (
            f"Half of the {total:,} VMs that are updated are so by {by[0.5]}, 99 % by {by[0.99]}, all by {by[1.0]}. The"
            f" surface is {duration(surface_ms)} summed over VMs: {duration(surface_ms / total)} each, from the"
            " campaign's start, or the VM's creation, to its update."
        )
        start, first_ms = self.start, self._asked_ms(name)

        def draw(width: int, is_narrow: bool) -> Any:
            import altair as alt

            here, clock = _binned(frame, start, first_ms=first_ms)
            x = _bins_x(here, clock, first_ms, is_narrow)
            y_title = "VMs"
            waiting, done = "wait for their update", "updated"
            scale = alt.Scale(domain=[waiting, done], range=[PENDING, UPDATED])
            surface = (
                alt.Chart(_joined(here, width).with_columns(what=pl.lit(waiting), low=pl.lit(0.0)))
                .mark_rect()
                .encode(
                    x=x,
                    x2="end:Q",
                    y=alt.Y("low:Q", title=y_title, axis=counts_axis()),
                    y2="pending_mean:Q",
                    color=alt.Color("what:N", title=None, scale=scale, legend=alt.Legend(symbolType="square")),
                    description="tells:N",
                )
            )
            # By the end of a bin that many are updated; at its start, those of the one before.
            ends = pl.concat(
                [
                    here.head(1).select(at=pl.col("start"), updated_count=pl.lit(0, pl.Int64)),
                    here.select(at="end", updated_count="updated_count"),
                ]
            ).with_columns(what=pl.lit(done))
            curve = (
                alt.Chart(ends)
                .mark_line(strokeWidth=2.5, clip=True)
                .encode(x=alt.X("at:Q"), y="updated_count:Q", color=alt.Color("what:N", scale=scale))
            )
            return alt.layer(surface, curve).properties(height=230)

        return Chart(self._slug("completion", name), "completion", title, text, frame, draw)

    def lengths(self, name: str) -> Chart | Lacking:
        row = self._campaign_row(name)
        is_down_only = self._kind(name) in ("reboot", "redeploy")
        title = self._titled(name, f"how long VMs are {'down' if is_down_only else 'paused or down'}")
        longest_ms = max((row.get(f"{word}_ms_max") or 0 for word in ("paused", "down")), default=0)
        if not longest_ms:
            return Lacking("lengths", title, "nobody was hit")
        bins_ms = {name: figures.bin_width_ms(longest_ms + 1, LENGTH_BINS)}
        words = {"paused": WORK, "down": DOWN}
        frame = (
            figures.lengths(self.files, bins_ms)
            .with_columns(what=pl.when("is_down").then(pl.lit("down")).otherwise(pl.lit("paused")))
            .with_columns(
                tells=pl.struct("bin_start_ms", "bin_ms", "what", "vm_count").map_elements(
                    lambda row: (
                        f"{round(row['vm_count']):,} VMs {row['what']} from {duration(row['bin_start_ms'])} to below"
                        f" {duration(row['bin_start_ms'] + row['bin_ms'])}"
                    ),
                    return_dtype=pl.String,
                )
            )
            .select("campaign", "what", "bin_start_ms", "bin_ms", "vm_count", "tells")
        )
        marks = pl.DataFrame(
            [
                {
                    "what": word,
                    "which": which,
                    "length": duration(row[f"{word}_ms_{which}"]),
                    "at_ms": row[f"{word}_ms_{which}"],
                }
                for word in words
                for which in ("p50", "p99", "max")
                if row.get(f"{word}_ms_{which}")
            ],
            schema={"what": pl.String, "which": pl.String, "length": pl.String, "at_ms": pl.Int64},
        )
        told = "; ".join(
            f"{word}: {', '.join(' '.join(mark) for mark in marks.filter(what=word).select('which', 'length').rows())}"
            for word in words
            if word in set(marks["what"])
        )
        is_both = marks["what"].n_unique() > 1
        text = f"VMs by the time they are out in all, in steps of {duration(bins_ms[name])}. {told}."
        if self.report.approximate:
            text += " From the engine's histogram, 1/64 too low at most: the run kept no outcomes and no events."

        def draw(width: int, is_narrow: bool) -> Any:
            import altair as alt

            clock = Clock.of(0, longest_ms, "")
            here, _ = _binned(_stacked(frame, "vm_count"), "", clock)
            domain = [word for word in words if word in set(frame["what"])]
            colour = alt.Color(
                "what:N",
                title=None,
                scale=alt.Scale(domain=domain, range=[words[word] for word in domain]),
                legend=alt.Legend(symbolType="square"),
            )
            room = _most(here["high"]) * 1.35  # names of marks stand above the bars
            last = max(_most(here["end"]), longest_ms / clock.unit_ms)
            x_title = f"{clock.title.split()[0]} out"
            bars = (
                alt.Chart(here)
                .mark_rect(stroke=PAPER, strokeWidth=0.5)
                .encode(
                    x=alt.X(
                        "start:Q",
                        title=x_title,
                        scale=alt.Scale(domain=[0, last * 1.02], nice=False),
                        axis=alt.Axis(format=",.2~f", tickCount=6 if is_narrow else 12),
                    ),
                    x2="end:Q",
                    y=alt.Y("low:Q", title="VMs", axis=counts_axis(), scale=alt.Scale(domain=[0, room])),
                    y2="high:Q",
                    color=colour,
                    description="tells:N",
                )
            )
            lines = (
                (
                    marks.group_by("what", "at_ms", maintain_order=True).agg(
                        word=pl.format("{} {}", pl.col("which").str.join(", "), pl.col("length").first())
                    )
                )
                .with_columns(
                    at=pl.col("at_ms") / clock.unit_ms,
                    # One below the other, so that near ones do not overlap; on the side that has room.
                    row=pl.int_range(pl.len()) * 13 + 2,
                    text=pl.format("{} {}", "what", "word") if is_both else pl.col("word"),
                )
                .with_columns(is_left=pl.col("at") > 0.6 * last)
            )
            layers = [bars, alt.Chart(lines).mark_rule(color=INK, strokeDash=[4, 3]).encode(x="at:Q")]
            sides: tuple[tuple[bool, Literal["left", "right"], int], ...] = ((True, "right", -4), (False, "left", 4))
            for is_left, align, dx in sides:
                part = lines.filter(is_left=is_left)
                for each in part.to_dicts():
                    layers.append(
                        alt.Chart(pl.DataFrame([{"at": each["at"], "text": each["text"]}]))
                        .mark_text(align=align, baseline="top", dx=dx, fontWeight="bold")
                        .encode(x="at:Q", y=alt.value(each["row"]), text="text:N")
                    )
            return alt.layer(*layers).properties(height=230)

        return Chart(self._slug("lengths", name), "lengths", title, text, frame, draw)

    def heat(self, name: str) -> Chart | Lacking:
        title = self._titled(name, "impacts started, by region and time")
        hours = figures.hours(self.files, ("campaign", "region")).filter(
            pl.col("campaign") == name, pl.col("region").is_in(list(self.lanes))
        )
        if hours.is_empty():
            return Lacking("heat", title, self._why_no_events() or "nobody was hit")
        first, last = int(_least(hours["hour"])), int(_most(hours["hour"]))

        def binned(count: int) -> pl.DataFrame:
            width_ms = figures.bin_width_ms((last + 1 - first) * _HOUR_MS, count)
            per_bin = max(1, width_ms // _HOUR_MS)
            bins = hours.group_by("region", bin=pl.col("hour") // per_bin).agg(
                pl.col("hourly_start_count", "hourly_unavailable_ms").sum()
            )
            return (
                bins.with_columns(bin_start_ms=pl.col("bin") * per_bin * _HOUR_MS, bin_ms=pl.lit(per_bin * _HOUR_MS))
                .sort("region", "bin")
                .with_columns(
                    tells=pl.struct(pl.all()).map_elements(
                        lambda row: (
                            f"{row['region']}, from {duration(row['bin_start_ms'])}: {row['hourly_start_count']:,}"
                            f" impacts, {duration(row['hourly_unavailable_ms'])} of VM time"
                        ),
                        return_dtype=pl.String,
                    ),
                    campaign=pl.lit(name),
                )
                .select(
                    "campaign",
                    "region",
                    "bin_start_ms",
                    "bin_ms",
                    pl.col("hourly_start_count").alias("start_count"),
                    pl.col("hourly_unavailable_ms").alias("unavailable_ms"),
                    "tells",
                )
            )

        most = max(1, ROWS_DRAWN_MAX // max(1, len(self.lanes)) - 1)
        wide, narrow = (binned(min(count, most)) for count in HEAT_BINS)
        peak = wide.row(wide["start_count"].arg_max() or 0, named=True)
        text = (
            f"Most within {duration(peak['bin_ms'])}: {peak['start_count']:,} impacts in {peak['region']},"
            f" from {duration(peak['bin_start_ms'])} on."
        )
        lanes, start = [region for region in self.lanes if region in set(wide["region"])], self.start

        def draw(width: int, is_narrow: bool) -> Any:
            import altair as alt

            here, clock = _binned(narrow if is_narrow else wide, start)
            bounds = _round_bounds(int(_most(here["start_count"])), len(STEPS))
            here, colour = _in_steps(here, "start_count", bounds, STEPS, "impacts started", "{:,.0f}", is_narrow)
            return (
                alt.Chart(here)
                .mark_rect(stroke=PAPER, strokeWidth=0.5)
                .encode(
                    x=alt.X(
                        "start:Q",
                        title=clock.titled(is_narrow),
                        scale=alt.Scale(domain=[_least(here["start"]), _most(here["end"])], nice=False),
                        axis=_time_axis(is_narrow, grid=False),
                    ),
                    x2="end:Q",
                    y=alt.Y("region:N", sort=lanes, title=None, axis=_names_axis(is_narrow)),
                    color=colour,
                    description="tells:N",
                )
                .properties(height=alt.Step(15))
            )

        return Chart(self._slug("heat", name), "heat", title, text, wide, draw)

    # Sets, applications, workloads

    def sets(self) -> Chart | Lacking:
        title = "Sets: most of one down at once"
        if "set" not in self.files.fleet_schema:
            return Lacking("sets", title, "the fleet has no sets")
        if self.files.only:
            return Lacking("sets", title, "only some VMs are looked at, and sets are whole")
        has_quorum = "quorum_lost_ms" in self.stage_rows.columns
        lost = pl.col("quorum_lost_ms").sum() if has_quorum else pl.lit(None, pl.Int64).alias("quorum_lost_ms")
        rows = (
            self.stage_rows.drop_nulls("set_down_ratio_max")
            .group_by("campaign", "region")
            .agg(
                pl.col("set_down_ratio_max").max(),
                pl.col("set_out_ms").sum(),
                pl.col("no_guarantee_count").max(),
                lost,
            )
            .filter(pl.any_horizontal(pl.col("set_down_ratio_max", "no_guarantee_count") > 0))
        )
        if rows.is_empty():
            return Lacking("sets", title, "no set was hit")
        worst = (
            rows.group_by("region")
            .agg(pl.col("set_down_ratio_max", "no_guarantee_count").max())
            .sort("set_down_ratio_max", "no_guarantee_count", "region", descending=[True, True, False])
        )
        shown = worst["region"].head(SETS_DRAWN).to_list()
        frame = (
            rows.filter(pl.col("region").is_in(shown))
            .sort("campaign", "region")
            .with_columns(
                tells=pl.struct(pl.all()).map_elements(
                    lambda row: (
                        f"{row['region']}, {row['campaign']}: {row['set_down_ratio_max']:.1%} of a set with a"
                        f" guarantee out at once, at most; {row['no_guarantee_count']:,} sets without one; whole sets"
                        f" out for {duration(row['set_out_ms'])}"
                        + (f", without quorum for {duration(row['quorum_lost_ms'])}" if row["quorum_lost_ms"] else "")
                    ),
                    return_dtype=pl.String,
                )
            )
        )
        more = len(worst) - len(shown)
        first = worst.row(0, named=True)
        text = (
            f"Of a set that is promised a VM that stays up, at most {first['set_down_ratio_max']:.1%} is out at once by"
            f" the platform, as in {first['region']}."
        ) + (f" {_counted(more, 'other region')} are left out here." if more > 0 else "")
        names, colours = self.names, self.colours

        def draw(width: int, is_narrow: bool) -> Any:
            import altair as alt

            here = frame.with_columns(
                word=pl.when(pl.col("no_guarantee_count") > 0)
                .then(
                    pl.format("{} without guarantee" if not is_narrow else "{} without", pl.col("no_guarantee_count"))
                )
                .otherwise(pl.lit(""))
            )
            y = alt.Y("region:N", sort=shown, title=None, axis=_names_axis(is_narrow))
            x = alt.X(
                "set_down_ratio_max:Q",
                title="largest share of one set out at once",
                scale=alt.Scale(domain=[0, 1]),
                axis=alt.Axis(format="%", tickCount=5),
            )
            colour = alt.Color(
                "campaign:N",
                title=None,
                scale=alt.Scale(domain=names, range=[colours[name] for name in names]),
                legend=alt.Legend(symbolType="circle", columns=1 if is_narrow else 4) if len(names) > 1 else None,
            )
            base = alt.Chart(here)
            dots = base.mark_circle(size=70, opacity=1).encode(x=x, y=y, color=colour, description="tells:N")
            if len(names) > 1:  # one below the other; and no words, for which there is no room
                apart = dots.encode(yOffset=alt.YOffset("campaign:N", sort=names))
                return apart.properties(
                    height=len(shown) * (8 + 10 * len(names)) + 60 + (14 * len(names) if is_narrow else 0)
                )
            words = base.mark_text(align="left", dx=8, color=MUTED, fontSize=10).encode(x=x, y=y, text="word:N")
            return alt.layer(dots, words).properties(height=alt.Step(16))

        return Chart("sets", "sets", title, text, frame, draw)

    def applications(self, name: str) -> Chart | Lacking:
        title = self._titled(name, "applications: when each is hit, and how much of it is out at once")
        rows = self.report.applications
        if rows is None:
            has = "application" in self.files.fleet_schema
            return Lacking("applications", title, self._why_no_events() if has else _NO_APPLICATIONS)
        own = rows.filter(campaign=name)
        if own.is_empty():
            return Lacking("applications", title, "no application was hit")
        drawn, several = _joint(own)
        frame = drawn.head(APPLICATIONS_DRAWN).with_columns(
            tells=pl.struct(pl.all()).map_elements(
                lambda row: (
                    f"{row['application']}: {row['vm_hit_count']:,} of {row['vm_count']:,} VMs hit, from"
                    f" {duration(row['first_start_ms'])} to {duration(row['last_end_ms'])};"
                    f" {row['application_down_ratio_max']:.1%} out at once at most, all out for"
                    f" {duration(row['application_out_ms'])}"
                    + (f", no quorum for {duration(row['quorum_lost_ms'])}" if row["quorum_lost_ms"] else "")
                ),
                return_dtype=pl.String,
            )
        )
        out_count = int((own["application_out_ms"] > 0).sum())
        lost_count = int((own["quorum_lost_ms"] > 0).sum())
        text = (
            f"{_counted(len(own), 'application')} hit; out as a whole at some time: {out_count:,}; without quorum at"
            f" some time: {lost_count:,}."
            + (f" Drawn: the {APPLICATIONS_DRAWN} worst" if len(drawn) > APPLICATIONS_DRAWN else " Drawn: all")
            + (" of those of several VMs." if several else ".")
        )
        start = self.start

        def draw(width: int, is_narrow: bool) -> Any:
            import altair as alt

            clock = Clock.of(_least(frame["first_start_ms"]), _most(frame["last_end_ms"]), start)
            here = frame.select(
                "application",
                "tells",
                start=pl.col("first_start_ms") / clock.unit_ms,
                end=pl.col("last_end_ms") / clock.unit_ms,
                share="application_down_ratio_max",
                word=pl.struct("application_down_ratio_max", "application_out_ms", "quorum_lost_ms").map_elements(
                    lambda row: (
                        f"{row['application_down_ratio_max']:.0%}"
                        + (f", all out {duration(row['application_out_ms'])}" if row["application_out_ms"] else "")
                        + (f", no quorum {duration(row['quorum_lost_ms'])}" if row["quorum_lost_ms"] else "")
                    ),
                    return_dtype=pl.String,
                ),
            )
            y = alt.Y("application:N", sort=here["application"].to_list(), title=None, axis=_names_axis(is_narrow))
            first, last = _least(here["start"]), _most(here["end"])
            # However short, it is seen.
            here = here.with_columns(end=pl.max_horizontal("end", pl.col("start") + (last - first) * 4 / width))
            scale = alt.Scale(domain=[first, _most(here["end"])], nice=False)
            x = alt.X("start:Q", title=clock.titled(is_narrow), axis=_time_axis(is_narrow), scale=scale)
            here, colour = _in_steps(here, "share", SHARES, SHARE_COLOURS, "most out at once", "{:.0%}", is_narrow)
            bars = alt.Chart(here).mark_bar(height=13).encode(x=x, x2="end:Q", y=y, color=colour, description="tells:N")
            # Above the bar, for inside it no one colour of text would be read on all.
            words = (
                alt.Chart(here)
                .mark_text(align="left", baseline="bottom", dy=-7, fontSize=10, color=MUTED)
                .encode(x=alt.value(3), y=y, text="word:N")
            )
            return alt.layer(bars, words).properties(height=alt.Step(32))

        return Chart(self._slug("applications", name), "applications", title, text, frame, draw)

    def joint_outage(self, name: str) -> Chart | Lacking:
        title = self._titled(name, "applications: for how long how much of each is out at once")
        rows = self.report.applications
        own = None if rows is None else rows.filter(campaign=name)
        if own is None or own.is_empty():
            has = "application" in self.files.fleet_schema
            why = "no application was hit" if own is not None else self._why_no_events() if has else _NO_APPLICATIONS
            return Lacking("applications", title, why)
        drawn, several = _joint(own)
        names = drawn["application"].head(APPLICATIONS_DRAWN).to_list()
        words = _step_words(SHARES, "{:.0%}")
        frame = figures.application_shares(self.files, name, names, SHARES).with_columns(
            campaign=pl.lit(name), share=pl.col("step").replace_strict(dict(enumerate(words)), return_dtype=pl.String)
        )
        frame = frame.with_columns(
            tells=pl.struct("application", "share", "out_ms").map_elements(
                lambda row: (
                    f"{row['application']}: {row['share']} of its VMs out at once for {duration(row['out_ms'])}"
                ),
                return_dtype=pl.String,
            )
        ).select("campaign", "application", "share", "step", "out_ms", "tells")
        half = frame.filter(pl.col("step") >= SHARES.index(0.5) + 1).group_by("application").agg(pl.col("out_ms").sum())
        worst = half.sort("out_ms", "application", descending=[True, False]).head(1).to_dicts()
        text = (
            f"Of the {len(names):,} drawn{', which have several VMs,' if several else ''} {len(half) or 'none'}"
            f" {'has' if len(half) < 2 else 'have'} half of the VMs or more out at some time"
            + (f"; for longest {worst[0]['application']}, {duration(worst[0]['out_ms'])}." if worst else ".")
            + " A bar is the time in which some VM is out; most at once stands first."
        )

        def draw(width: int, is_narrow: bool) -> Any:
            import altair as alt

            # The worst from the start of the bar, where lengths are seen to differ.
            end = pl.col("out_ms").cum_sum(reverse=True).over("application")
            longest_ms = _most(frame.group_by("application").agg(pl.col("out_ms").sum())["out_ms"])
            clock = Clock.of(0, longest_ms, "")
            here = frame.with_columns(start=(end - pl.col("out_ms")) / clock.unit_ms, end=end / clock.unit_ms)
            told = [
                (word, colour) for word, colour in zip(words, SHARE_COLOURS, strict=True) if word in set(frame["share"])
            ]
            colour = alt.Color(
                "share:N",
                title="of its VMs out at once",
                scale=alt.Scale(domain=[word for word, _ in told], range=[each for _, each in told]),
                legend=alt.Legend(symbolType="square", symbolOpacity=1, columns=2 if is_narrow else 7),
            )
            return (
                alt.Chart(here)
                .mark_bar(height=13)
                .encode(
                    x=alt.X(
                        "start:Q",
                        title=f"{clock.title.split()[0]} with a VM out",
                        axis=_time_axis(is_narrow),
                        scale=alt.Scale(domain=[0, longest_ms * 1.01 / clock.unit_ms], nice=False),
                    ),
                    x2="end:Q",
                    y=alt.Y("application:N", sort=names, title=None, axis=_names_axis(is_narrow)),
                    color=colour,
                    description="tells:N",
                )
                .properties(height=alt.Step(20))
            )

        return Chart(self._slug("joint-outage", name), "applications", title, text, frame, draw)

    def tolerance(self, name: str) -> Chart | Lacking:
        title = self._titled(name, "VMs paused longer than they stand, and how many each remedy saves")
        if self.files.tolerance is None:
            return Lacking("tolerance", title, "neither the scenario nor the fleet says how long a pause VMs stand")
        if not (self.files.has("outcomes") or self.files.has("events")):
            return Lacking("tolerance", title, "the run kept neither outcomes nor events")
        own = [each for each in self.report.intolerances if each.campaign == name][:WORKLOADS_DRAWN]
        if not own:
            return Lacking("tolerance", title, "no VM is paused longer than it stands")
        paused = "paused too long"
        bars = []
        for each in own:
            workload = each.workload or "(no workload)"
            bars.append((workload, paused, float(each.over_tolerance_count)))
            bars += [(workload, _remedy(remedy), remedy.saved_count) for remedy in each.remedies if _saves(remedy)]
        frame = pl.DataFrame(bars, orient="row", schema=["workload", "what", "vm_count"]).with_columns(
            tells=pl.struct(pl.all()).map_elements(
                lambda row: (
                    f"{row['workload']}: {round(row['vm_count']):,} VMs"
                    + (f" {paused}" if row["what"] == paused else f" saved by {row['what']}")
                ),
                return_dtype=pl.String,
            )
        )
        text = "; ".join(
            f"{each.workload or 'VMs without workload'}: {each.over_tolerance_count:,} of {each.vm_hit_count:,} VMs hit"
            " are paused too long"
            for each in own
        )
        for remedy_name in REMEDIES:
            for told, is_so in (
                ("Nobody{} is saved by {}", _saves_nobody),
                ("More{} would be paused too long with {}", _makes_worse),
            ):
                whose = [
                    each.workload or "VMs without workload"
                    for each in own
                    if any(remedy.name == remedy_name and is_so(remedy) for remedy in each.remedies)
                ]
                if whose:
                    of_whom = f" of {', '.join(whose)}" if len(own) > 1 else ""
                    text += f". {told.format(of_whom, _REMEDY_WORDS[remedy_name])}"
        workloads = [each.workload or "(no workload)" for each in own]
        remedies = [_REMEDY_WORDS[name] for name in REMEDIES]
        order = [word for word in (paused, *remedies) if word in set(frame["what"])]

        def draw(width: int, is_narrow: bool) -> Any:
            import altair as alt

            colour = alt.Color(
                "workload:N",
                title=None,
                scale=alt.Scale(domain=workloads, range=list(CAMPAIGNS[: len(workloads)])),
                legend=alt.Legend(symbolType="square") if len(workloads) > 1 else None,
            )
            line_height = 13
            # A number stays with its unit.
            wrapped = {
                word: textwrap.wrap(re.sub(r"(\d|<=) ", "\\1\N{NO-BREAK SPACE}", word), 24) if is_narrow else [word]
                for word in order
            }
            line_count = max(map(len, wrapped.values()))
            here = frame.with_columns(
                what=pl.col("what").replace_strict({w: "\n".join(each) for w, each in wrapped.items()})
            )
            axis = alt.Axis(
                labelExpr="split(datum.label, '\\n')",
                labelLimit=0,
                labelLineHeight=line_height,
                # Vega puts the first of two lines beside the bar.
                labelOffset={
                    "condition": {"test": "indexof(datum.label, '\\n') >= 0", "value": -line_height / 2},
                    "value": 0,
                },
                ticks=False,
                domain=False,
                labelPadding=6,
            )
            domain = [0, _most(frame["vm_count"]) * (1.25 if is_narrow else 1.06)]
            base = alt.Chart(here).encode(
                y=alt.Y("what:N", sort=["\n".join(wrapped[word]) for word in order], title=None, axis=axis),
                yOffset=alt.YOffset("workload:N", sort=workloads),
            )
            x = alt.X("vm_count:Q", title="VMs", axis=counts_axis(), scale=alt.Scale(domain=domain, nice=False))
            drawn = base.mark_bar().encode(x=x, color=colour, description="tells:N")
            words = base.mark_text(align="left", dx=3, fontSize=10).encode(
                x="vm_count:Q", text=alt.Text("vm_count:Q", format=",.0f")
            )
            step = 8 + max(14 * len(workloads), line_height * line_count)
            return alt.layer(drawn, words).properties(height=len(order) * step + 40)

        return Chart(self._slug("tolerance", name), "tolerance", title, f"{text}.", frame, draw)

    def map(self) -> Chart | Lacking:
        title = "Where, and when each region is done"
        places = (
            pl.read_csv(dataset_path("region_pairs_real.csv")).select("region", "latitude", "longitude").drop_nulls()
        )
        rows = (
            self.stage_rows.filter(pl.col("vm_count") > 0)
            .group_by("region")
            .agg(
                pl.col("vm_count").max(),
                pl.col("first_start_ms").min(),
                pl.col("last_end_ms").max(),
            )
        )
        frame = rows.join(places, on="region").sort("vm_count", "region", descending=[True, False])
        unknown = sorted(set(rows["region"]) - set(frame["region"]))
        if frame.is_empty():
            return Lacking("map", title, "no region of the fleet is one whose place is known")
        frame = frame.with_columns(
            tells=pl.struct(pl.all()).map_elements(
                lambda row: (
                    f"{row['region']}: {row['vm_count']:,} VMs"
                    + (
                        f", at work from {duration(row['first_start_ms'])} to {duration(row['last_end_ms'])}"
                        if row["last_end_ms"] is not None
                        else ", not at work"
                    )
                ),
                return_dtype=pl.String,
            )
        )
        text = f"{_counted(len(frame), 'region')}, as large as their VMs, coloured by when done; lines join pairs."
        if idle := frame["last_end_ms"].null_count():
            text += f" Never at work: {_counted(idle, 'region')}, in grey."
        if unknown:
            first = ", ".join(unknown[:8])
            text += f" Not on the map: {first}{f' and {len(unknown) - 8:,} more' if len(unknown) > 8 else ''}."
        at = {row["region"]: (row["longitude"], row["latitude"]) for row in frame.to_dicts()}
        lines = [
            {"edge": number, "longitude": at[region][0], "latitude": at[region][1]}
            for number, edge in enumerate(sorted(map(sorted, self.files.edges)))
            for region in edge
            if set(edge) <= at.keys()
        ]
        start = self.start

        def draw(width: int, is_narrow: bool) -> Any:
            import altair as alt

            clock = Clock.of(0, _most(frame["last_end_ms"]), start)
            here = frame.with_columns(at=pl.col("last_end_ms") / clock.unit_ms)
            low, high = -56.0, 76.0
            x_scale, y_scale = alt.Scale(domain=[-170, 180], nice=False), alt.Scale(domain=[low, high], nice=False)
            x = alt.X("longitude:Q", scale=x_scale, axis=None)
            y = alt.Y("latitude:Q", scale=y_scale, axis=None)
            land = (
                alt.Chart(_land(low, high))
                .mark_line(filled=True, fill=LAND, strokeWidth=0, clip=True)
                .encode(x=x, y=y, detail="ring:N", order="place:Q")
            )
            layers = [land]
            if lines:
                joined = alt.Chart(pl.DataFrame(lines)).mark_line(color=MUTED, strokeWidth=0.8)
                layers.append(joined.encode(x=x, y=y, detail="edge:N"))
            bounds = _even_bounds(here["at"].drop_nulls().to_list(), 4)
            title = f"done, {clock.title.split()[0]} since scenario start"
            here, colour = _in_steps(here, "at", bounds, STEPS[2:], title, "{:g}", is_narrow, idle="not at work")
            areas = [12, 120] if is_narrow else list(DOT_AREAS)
            dots = alt.Chart(here).mark_circle(opacity=1, stroke=PAPER, strokeWidth=0.7).encode(
                x=x,
                y=y,
                size=alt.Size("vm_count:Q", scale=alt.Scale(type="sqrt", range=areas), legend=None),
                color=colour,
                description="tells:N",
            )  # fmt: skip
            layers.append(dots)
            room = width * (high - low) / 350
            for word, align, sign in () if is_narrow else _SIDES:
                named = _named(frame, width - 2 * PADDING, low, high).filter(side=word)
                if named.is_empty():
                    continue
                for offset, part in named.group_by("offset", maintain_order=True):
                    names = alt.Chart(part).encode(x=x, y=y, text="region:N")
                    dx = sign * int(offset[0])
                    # Lines end at a name, and do not strike it out.
                    layers.append(names.mark_text(align=align, dx=dx, fontSize=10, stroke=PAPER, strokeWidth=3))
                    layers.append(names.mark_text(align=align, dx=dx, fontSize=10))
            # The height is that of all: the legend, of two columns on a phone, stands above the map.
            return alt.layer(*layers).properties(height=round(room) + (90 if is_narrow else 40))

        return Chart("map", "map", title, text, frame, draw)

    # What a campaign is

    def _kind(self, name: str) -> str:
        return str(next(each["kind"] for each in self.files.campaigns if each["name"] == name))

    def _asked_ms(self, name: str) -> int:
        return int(next(each.get("start_ms", 0) for each in self.files.campaigns if each["name"] == name))

    def _campaign_row(self, name: str) -> dict[str, Any]:
        return self.report.campaign_rows.row(by_predicate=pl.col("campaign") == name, named=True)

    def _why_no_events(self) -> str:
        return "" if self.files.has("events") else "the run kept no events: [outputs] events = false"


_NO_APPLICATIONS = "the fleet has no column application"


def _joint(applications: pl.DataFrame) -> tuple[pl.DataFrame, bool]:
    """Those of *applications* that have several VMs, if any does, and whether: of one VM nothing is out jointly."""
    several = applications.filter(pl.col("vm_count") > 1)
    return (several, True) if len(several) else (applications, False)


_REMEDY_WORDS = {name: words.removeprefix("saved by ") for name, words in REMEDIES.items()}


def _remedy(remedy: figures.Remedy) -> str:
    return _REMEDY_WORDS[remedy.name]


def _saves(remedy: figures.Remedy) -> bool:
    return round(remedy.saved_count) > 0


def _saves_nobody(remedy: figures.Remedy) -> bool:
    return round(remedy.saved_count) == 0


def _makes_worse(remedy: figures.Remedy) -> bool:
    return round(remedy.saved_count) < 0


_GANTT: dict[str, Any] = {
    "place": pl.Int64,
    "lane": pl.String,
    "what": pl.String,
    "start_ms": pl.Int64,
    "end_ms": pl.Int64,
    "tells": pl.String,
}
_GANTT_COLOURS = {
    "notice and window for customers": CUSTOMERS,
    "waits for another stage": WAIT,
    "spread": SPREAD,
    "work": WORK,
    "gap": GAP,
    "until there is room under a cap": CAP,
    "several units": STEPS[3],
    "until its window is over": SCHEDULED,
    "until it is free": NOTICE,
}


def _link_rows(place: int, link: Link, campaign: str) -> Iterator[tuple[int, str, str, int, int, str]]:
    """The bars of the *place*-th *link* in a chain of *campaign*: what it waited for, then where its time went."""
    subject = link.region if link.campaign == campaign else f"{link.campaign} in {link.region}"
    lane = f"{place}. {subject}" + (f" #{link.iteration}" if link.iteration > 1 else "")

    def bar(what: str, start_ms: int, end_ms: int, who: str = "") -> Iterator[tuple[int, str, str, int, int, str]]:
        if end_ms > start_ms:
            told = f"{lane}: {who or what}, {duration(end_ms - start_ms)} from {duration(start_ms)}"
            yield place, lane, what, start_ms, end_ms, told

    if link.cause is not None:
        what = "notice and window for customers" if link.cause == "window" else "waits for another stage"
        yield from bar(what, link.start_ms - link.waited_ms, link.start_ms, f"waits ({link.cause})")
    yield from bar(
        "until it is free" if link.lead_ms is None else "until its window is over", link.end_ms, link.free_ms
    )
    if not link.units:
        at_ms = link.start_ms
        sums = (("spread", link.spread_ms), ("work", link.work_ms), ("gap", link.gap_ms))
        for what, value_ms in (*sums, ("until there is room under a cap", link.cap_ms)):
            yield from bar(what, at_ms, at_ms + value_ms, f"{what}, summed" if what != "spread" else "")
            at_ms += value_ms
        return
    yield from bar("spread", link.start_ms, link.units[0].start_ms)
    per_bar = -(-len(link.units) // UNITS_DRAWN)
    if per_bar > 1:
        for first in range(0, len(link.units), per_bar):
            run = link.units[first : first + per_bar]
            who = f"{len(run)} units, from {run[0].name} to {run[-1].name}, with their gaps"
            yield from bar("several units", run[0].start_ms, run[-1].start_ms + run[-1].held_ms, who)
        return
    for unit, after in zip(link.units, [*link.units[1:], None], strict=True):
        end_ms = unit.start_ms + unit.held_ms
        gives_room = after is not None and after.waited_for == "cap"
        held_ms = min(end_ms, after.start_ms) if after is not None else end_ms
        yield from bar("until there is room under a cap" if gives_room else "work", unit.start_ms, held_ms, unit.name)
        if after is not None:
            yield from bar(
                "gap", end_ms, after.start_ms, f"until {after.name} starts ({after.waited_for or 'nothing'})"
            )


def _step_words(bounds: Sequence[float], spelt: str) -> list[str]:
    """What lies below, between and above *bounds*, in words."""
    return [
        f"below {spelt.format(bounds[0])}",
        *(f"{spelt.format(low)} to {spelt.format(high)}" for low, high in pairwise(bounds)),
        f"{spelt.format(bounds[-1])} or more" if spelt.format(bounds[-1]) != "100%" else "100%",
    ]


def _in_steps(
    frame: pl.DataFrame,
    name: str,
    bounds: Sequence[float],
    colours: Sequence[str],
    title: str,
    spelt: str,
    is_narrow: bool,
    idle: str | None = None,
) -> tuple[pl.DataFrame, Any]:
    """*frame* with a column `step` that says between which *bounds* the column *name* is, and the colour by it.

    Where it is null that is *idle*, with a colour of its own.
    """
    import altair as alt

    words = _step_words(bounds, spelt)
    step = pl.sum_horizontal(*(pl.col(name) >= bound for bound in bounds))
    named = step.replace_strict(dict(enumerate(words)), return_dtype=pl.String)
    here = frame.with_columns(
        step=named if idle is None else pl.when(pl.col(name).is_null()).then(pl.lit(idle)).otherwise(named)
    )
    told = set(here["step"])
    pairs = [*zip(words, colours, strict=False), *([(idle, IDLE)] if idle is not None else [])]
    kept = [(word, colour) for word, colour in pairs if word in told]
    return here, alt.Color(
        "step:N",
        title=title,
        scale=alt.Scale(domain=[word for word, _ in kept], range=[colour for _, colour in kept]),
        legend=alt.Legend(symbolType="square", symbolOpacity=1, columns=2 if is_narrow else 7),
    )


def _least(values: pl.Series) -> float:
    """The least of *values*, numbers."""
    return min(values.drop_nulls().to_list(), default=0.0)


def _most(values: pl.Series) -> float:
    """The most of *values*, numbers."""
    return max(values.drop_nulls().to_list(), default=0.0)


def _scaled(frame: pl.DataFrame, clock: Clock) -> pl.DataFrame:
    return frame.with_columns(start=pl.col("start_ms") / clock.unit_ms, end=pl.col("end_ms") / clock.unit_ms)


def _stacked(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    """*frame* with `low` and `high`: the values of the column *name* of each bin, one on the other."""
    high = pl.col(name).cum_sum().over("bin_start_ms")
    return frame.sort("bin_start_ms", "what", descending=[False, True]).with_columns(low=high - pl.col(name), high=high)


def _binned(
    frame: pl.DataFrame, start: str, clock: Clock | None = None, first_ms: float | None = None
) -> tuple[pl.DataFrame, Clock]:
    """*frame* with `start` and `end` of its bins on *clock*, or the one that fits them from *first_ms* on."""
    end_ms = pl.col("bin_start_ms") + pl.col("bin_ms")
    if clock is None:
        least_ms = _least(frame["bin_start_ms"])
        clock = Clock.of(
            least_ms if first_ms is None else min(first_ms, least_ms), _most(frame.select(end_ms).to_series()), start
        )
    return frame.with_columns(start=pl.col("bin_start_ms") / clock.unit_ms, end=end_ms / clock.unit_ms), clock


def _bins_x(here: pl.DataFrame, clock: Clock, first_ms: int, is_narrow: bool) -> Any:
    """The axis of bins: from the campaign's start, *first_ms*, to their end."""
    import altair as alt

    first = min(first_ms / clock.unit_ms, _least(here["start"]))
    scale = alt.Scale(domain=[first, _most(here["end"])], nice=False)
    return alt.X("start:Q", title=clock.titled(is_narrow), scale=scale, axis=_time_axis(is_narrow))


def _joined(here: pl.DataFrame, width: int) -> pl.DataFrame:
    """Bins *here* each a hair into the next, so that no gap is seen between them on a chart *width* px wide."""
    first, last = _least(here["start"]), _most(here["end"])
    return here.with_columns(end=pl.min_horizontal(pl.col("end") + (last - first) * 0.5 / width, last))


def _names_axis(is_narrow: bool) -> Any:
    import altair as alt

    return alt.Axis(labelLimit=112 if is_narrow else 190, ticks=False, domain=False, labelPadding=6)


def _time_axis(is_narrow: bool, *, grid: bool = True) -> Any:
    import altair as alt

    return alt.Axis(format=",.4~f", tickCount=5 if is_narrow else 10, grid=grid)


def counts_axis() -> Any:
    import altair as alt

    return alt.Axis(labelExpr="format(datum.value, abs(datum.value) < 1000 ? ',~f' : '~s')", tickCount=5)


def _round_bounds(most: int, step_count: int) -> list[int]:
    """Up to *step_count* - 1 round numbers, the largest up to *most*, that part few from many."""
    rounds = [digit * 10**power for power in range(len(str(most))) for digit in (1, 2, 5)]
    return [each for each in rounds if 1 < each <= most][1 - step_count :] or [max(1, most)]


def _even_bounds(values: Sequence[float], count: int) -> list[float]:
    """Up to *count* bounds that part *values* evenly by their range, rounded to two digits."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    return sorted({float(f"{low + (high - low) * place / (count + 1):.2g}") for place in range(1, count + 1)})


def _land(low: float, high: float) -> pl.DataFrame:
    """The outlines of land as closed rings, cut at the latitudes *low* and *high*."""
    outline = pl.read_csv(dataset_path("land_outline.csv"))
    closed = pl.concat([outline, outline.group_by("ring", maintain_order=True).first().select(outline.columns)])
    return closed.with_columns(
        pl.col("latitude").clip(low, high),
        pl.col("longitude").clip(-170, 180),
        place=pl.int_range(pl.len()).over("ring"),
    )


_SIDES: tuple[tuple[str, Literal["left", "right"], int], ...] = (("right", "left", 1), ("left", "right", -1))
"""Where a name stands beside its dot, how it is aligned there, and which way it is moved."""


def _named(frame: pl.DataFrame, width: int, low: float, high: float) -> pl.DataFrame:
    """The largest regions of *frame* whose names do not cover a dot or one another on a map *width* px wide.

    Each with the `side` of its dot on which its name stands, and its `offset` in px from the dot's middle.
    """
    rows = frame.to_dicts()
    most = max((row["vm_count"] for row in rows), default=1)
    dots = []
    for row in rows:
        x, y = (row["longitude"] + 170) / 350 * width, (high - row["latitude"]) / 350 * width
        # Area by the root of the count, as Vega's scale has it; the radius by that of the area.
        area = DOT_AREAS[0] + (DOT_AREAS[1] - DOT_AREAS[0]) * math.sqrt(row["vm_count"] / most)
        dots.append((x, y, math.sqrt(area / math.pi)))
    boxes = [(x - radius, y - radius, x + radius, y + radius) for x, y, radius in dots]
    taken: list[tuple[float, float, float, float]] = []
    found = []
    for place, (row, (x, y, radius)) in enumerate(zip(rows, dots, strict=True)):
        others = [*taken, *(box for number, box in enumerate(boxes) if number != place)]
        offset, length = math.ceil(radius) + NAME_GAP, text_width(row["region"], 10)
        for side, _, sign in _SIDES:
            ends = sorted((x + sign * offset, x + sign * (offset + length)))
            box = (ends[0] - 2, y - 7, ends[1] + 2, y + 7)
            if box[0] >= 0 and box[2] <= width and not any(_overlap(box, other) for other in others):
                taken.append(box)
                found.append(row | {"side": side, "offset": offset})
                break
        if len(found) == NAMES_DRAWN:
            break
    types = {**frame.schema, "side": pl.String(), "offset": pl.Int64()}
    return pl.DataFrame(found, schema=types)


def text_width(text: str, size: int) -> float:
    """The width of *text* in px at a font *size* of px, rather too wide, for letters as Arial has them."""
    narrow, broad = "iljtfrI1.,:;|'() -", "mwMW@%"
    return size * sum(
        0.36 if each in narrow else 0.92 if each in broad else 0.7 if each.isupper() else 0.58 for each in text
    )


def _overlap(one: Iterable[float], other: Iterable[float]) -> bool:
    left, top, right, bottom = one
    left_2, top_2, right_2, bottom_2 = other
    return left < right_2 and left_2 < right and top < bottom_2 and top_2 < bottom
