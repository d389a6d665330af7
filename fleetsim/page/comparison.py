"""The page of runs beside each other: what was asked for, what differs, in charts and tables."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from html import escape
from typing import Any

import polars as pl

from fleetsim import figures
from fleetsim.comparing import HARMS, NEAR_TOLD, ONE_DRAW, Comparison, Other, change_of, signed, times
from fleetsim.figures import FIGURES, Paired, duration
from fleetsim.page.charts import BINS, Clock, Lacking, counts_axis
from fleetsim.page.document import block_of, code_of, figure_of, html_of, lacking_of
from fleetsim.page.drawing import Chart
from fleetsim.page.palette import CAMPAIGNS, DOWN, INK, MUTED, PAPER, SPREAD, UPDATED
from fleetsim.progress import Progress
from fleetsim.reporting import spelt

RUNS_DRAWN = len(CAMPAIGNS)
"""Runs that have a colour, the base among them; tables have all."""
CAMPAIGNS_DRAWN = 4
RATIO_MIN, RATIO_MAX = 0.01, 100.0
"""Beyond these a bar ends at the chart's border; its label tells."""
CHARACTER_WIDTH, AXIS_WIDTH = 6.5, 60
"""Of bold text of 11 px, and of what stands left of a chart, in px, about."""
_WORDS = {"run": "better", "base": "worse"}


def page_of_comparison(made: Comparison, progress: Progress | None = None) -> str:
    """The HTML of *made*."""
    base = made.names[0]
    shared = [name for name in made.others[0].campaigns if all(name in other.campaigns for other in made.others)]
    sections = {"all": "All figures" if len(made.others) == 1 else "All runs"}
    parts: dict[str, list[str]] = {"all": []}
    for place, other in enumerate(made.others, start=1):
        sections[f"run-{place}"] = f"{other.name} against {base}"
        parts[f"run-{place}"] = []
    for name in shared[:CAMPAIGNS_DRAWN]:
        many = len(shared) > 1
        for chart in (_ratios(made, name, many), _completion(made, name, many, progress)):
            parts["all"].append(_chart(chart))
    for subject, of, block in made.blocks():
        if of is None:
            if subject != "short":
                parts["all"].append(block_of(block))
            continue
        place = made.others.index(of) + 1
        parts[f"run-{place}"].append(block_of(block))
        if subject == "asked":
            for number, name in enumerate([*of.campaigns][:CAMPAIGNS_DRAWN], start=1):
                parts[f"run-{place}"].append(_chart(_differences(of, name, base, f"{place}-{number}")))
    title = f"{', '.join(made.names[1:4])}{' and more' if len(made.names) > 4 else ''} against {base}"
    top = [f"<h1>{escape(title)}</h1>", _run_line(made)]
    for other in made.others[:RUNS_DRAWN]:
        for name in other.campaigns:
            head = [other.name] if len(made.others) > 1 else []
            head += [name] if len(other.campaigns) > 1 else []
            if head:
                top.append(f'<h2 class="campaign">{escape(": ".join(head))}</h2>')
            top.append(_answers(other, name, base))
    links = "".join(f'<li><a href="#{section}">{escape(word)}</a></li>' for section, word in sections.items())
    body = "\n".join(
        f'<section id="{section}" aria-labelledby="{section}-title"><h2 id="{section}-title">{escape(word)}</h2>\n'
        f"{''.join(parts[section])}</section>"
        for section, word in sections.items()
    )
    definitions = "".join(
        f"<dt><code>{name}</code>, {escape(FIGURES[name].unit)}</dt><dd>{escape(FIGURES[name].definition)}</dd>"
        for name in dict.fromkeys(made.frame["figure"])
    )
    footer = f'<details><summary>What each figure is</summary><dl class="facts">{definitions}</dl></details>'
    nav = f'<nav aria-label="Sections"><ul>{links}</ul></nav>'
    return html_of(title, "\n".join(top), f'{nav}<main id="main">{body}</main><footer>{footer}</footer>')


def _chart(chart: Chart | Lacking) -> str:
    return lacking_of(chart) if isinstance(chart, Lacking) else figure_of(chart, writes=" of")


def _run_line(made: Comparison) -> str:
    base = made.reports[0].header()
    told = [f"{made.names[0]} is {base['scenario']}", f"starts {base['start']}", f"{base['vm_count']:,} VMs"]
    fleets, vms = ([getattr(other, name) for other in made.others] for name in ("is_same_fleet", "are_same_vms"))
    same = "the same fleet" if all(fleets) else "the same VMs" if all(vms) else ""
    told.append(same or ("different fleets" if not any(vms) else "some other fleets"))
    seeds = list(dict.fromkeys(each.header()["seed"] for each in made.reports))
    told.append(f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}")
    spans = " · ".join(f"<span>{escape(each)}</span>" for each in told)
    return f'<p class="run">{spans} · <span class="verdict unknown">{escape(ONE_DRAW)}</span></p>'


# The first screen


def _answers(other: Other, name: str, base: str) -> str:
    rows = {row["figure"]: row for row in other.figures_of(name).to_dicts()}
    hard = next((each for each in ("paused_ms_p99", "down_ms_p99") if each in rows), "paused_ms_p99")
    questions = {"How long?": "length_ms", "Whom?": "vm_hit_count", "How hard?": hard, "How much in all?":
                 "unavailable_ms"}  # fmt: skip
    is_unlike = any(rows[each]["difference"] for each in ("vm_hit_count", "remaining_count") if each in rows)
    cells = ""
    for question, figure in questions.items():
        row = rows.get(figure)
        said, more = ("nobody is out", "") if row is None else _answer(row, base, other.name)
        if row is not None and question == "How hard?":
            word = hard.split("_")[0]
            last = ", in its last iteration" if other.has_iterations(name) else ""
            more += f"; {word}, 1 in 100 VMs longer than that{last}"
        if row is not None and figure in HARMS and is_unlike and row["difference"] and not row["is_near"]:
            more += "; the VMs hit, or left, are not as many"
        cells += f"<div><dt>{question}</dt><dd><strong>{escape(said)}</strong>{code_of(more)}</dd></div>"
    return f'<dl class="answers">{cells}</dl>'


def _answer(row: dict[str, Any], base: str, name: str) -> tuple[str, str]:
    figure = row["figure"]
    more = f"{spelt(figure, row['base_value'])} in {base}, {spelt(figure, row['value'])} in {name}"
    if row["difference"] is None:
        return "not in both", more
    if not row["difference"]:
        return "the same", f"{spelt(figure, row['value'])} in both"
    if row["is_near"]:
        return "as good as equal", f"{more}: {signed(figure, row['difference'])}"
    if row["ratio"] is not None:
        more += f": {times(row['ratio'])} times"
    if row["better"]:
        more += f", {_WORDS[row['better']]}"
    return signed(figure, row["difference"]), more


# Charts


def _titled(name: str, title: str, many: bool) -> str:
    return f"{name}: {title}" if many else title[0].upper() + title[1:]


def _slug(subject: str, made: Comparison, name: str) -> str:
    return f"{subject}-{list(made.others[0].campaigns).index(name) + 1}"


def _ratios(made: Comparison, name: str, many: bool) -> Chart | Lacking:
    """How many times the base's each figure is."""
    title = _titled(name, f"figures as multiples of those of {made.names[0]}", many)
    drawn = made.others[: RUNS_DRAWN - 1]
    rows = [
        {"run": other.name} | row
        for other in drawn
        for row in other.figures_of(name).to_dicts()
        if row["ratio"] is not None
    ]
    # What is as good as the same in all runs is no news.
    changed = list(dict.fromkeys(row["figure"] for row in rows if row["difference"] and not row["is_near"]))
    rows = [row for row in rows if row["figure"] in changed]
    if not rows:
        return Lacking("all", title, f"no figure is another multiple than 1, to {NEAR_TOLD}")
    frame = pl.DataFrame(
        [
            {
                "figure": row["figure"],
                "run": row["run"],
                "base_value": row["base_value"],
                "value": row["value"],
                "ratio": row["ratio"],
                "is": _WORDS.get(row["better"], "neither"),
                "label": f"{times(row['ratio'])} times, {signed(row['figure'], row['difference'])}",
                "tells": f"{row['figure']}: {spelt(row['figure'], row['base_value'])} in {made.names[0]},"
                f" {spelt(row['figure'], row['value'])} in {row['run']}",
            }
            for row in rows
        ]
    )
    most = max(rows, key=lambda row: max(row["ratio"], 1 / max(row["ratio"], 1e-9)))
    text = (
        f"The largest change is that of {most['figure']} in {most['run']}: {times(most['ratio'])} times,"
        f" {signed(most['figure'], most['difference'])}. Each step along the axis is a multiple; at 1 nothing changes."
    )
    names = [other.name for other in drawn]

    def draw(width: int, is_narrow: bool) -> Any:
        import altair as alt

        here = frame.with_columns(
            at=pl.col("ratio").clip(RATIO_MIN, RATIO_MAX),
            one=pl.lit(1.0),
            label=pl.col("label").str.split(" times").list.first() if is_narrow else pl.col("label"),
        )
        low, high = float(here["at"].min()), float(here["at"].max())  # type: ignore[arg-type]
        # Labels stand at the bars' ends, on either side, and need room there.
        room = (max(high, 1.25) / min(low, 0.8)) ** (0.55 if is_narrow else 0.3)
        domain = [min(low, 0.8) / room, max(high, 1.25) * room]
        x = alt.X(
            "at:Q",
            title=f"times {made.names[0]}",
            scale=alt.Scale(type="log", domain=domain, nice=False),
            axis=alt.Axis(format="~g", tickCount=3 if is_narrow else 6),
        )
        axis = alt.Axis(labelLimit=150 if is_narrow else 190, ticks=False, domain=False, labelPadding=6)
        y = alt.Y("figure:N", sort=changed, title=None, axis=axis)
        if len(names) == 1:
            words = ["better", "worse", "neither"]
            colour = alt.Color(
                "is:N",
                title=None,
                scale=alt.Scale(domain=words, range=[UPDATED, DOWN, SPREAD]),
                legend=alt.Legend(symbolType="square"),
            )
        else:
            colour = alt.Color(
                "run:N",
                title=None,
                scale=alt.Scale(domain=names, range=list(CAMPAIGNS[1 : len(names) + 1])),
                legend=alt.Legend(symbolType="square", columns=1 if is_narrow else 6),
            )
        layers = []
        is_several = len(names) > 1
        offset = {"yOffset": alt.YOffset("run:N", sort=names)} if is_several else {}
        layers.append(alt.Chart(here).mark_bar().encode(x=x, x2="one:Q", y=y, color=colour, description="tells:N",
                                                        **offset))  # fmt: skip
        for is_more in (True, False):
            part = here.filter((pl.col("ratio") >= 1) == is_more)
            if len(part):
                mark = alt.Chart(part).mark_text(
                    align="left" if is_more else "right", dx=4 if is_more else -4, fontSize=10, color=MUTED
                )
                layers.append(mark.encode(x=x, y=y, text="label:N", **offset))
        rule = alt.Chart(pl.DataFrame({"one": [1.0]})).mark_rule(color=INK)
        layers.append(rule.encode(x=alt.X("one:Q", scale=alt.Scale(type="log", domain=domain, nice=False))))
        height = len(changed) * (20 if not is_several else 8 + 13 * len(names))
        return alt.layer(*layers).properties(height=height + 60 + (14 * len(names) if is_several and is_narrow else 0))

    return Chart(_slug("multiples", made, name), "all", title, text, frame, draw)


def _completion(made: Comparison, name: str, many: bool, progress: Progress | None) -> Chart | Lacking:
    """How many of the VMs in scope are updated by when, run by run."""
    title = _titled(name, "completion: share of the VMs in scope that are updated", many)
    sides = [(made.names[0], made.reports[0], made.others[0].campaigns[name])]
    sides += [(other.name, other.report, name) for other in made.others[: RUNS_DRAWN - 1]]
    lacking = [run for run, each, _ in sides if not each.files.has("events")]
    if lacking:
        return Lacking("all", title, f"{', '.join(lacking)} kept no events")
    ends = [_last_end_ms(each.stage_rows, campaign) for _, each, campaign in sides]
    last_ms = max((each for each in ends if each is not None), default=None)
    if last_ms is None:
        return Lacking("all", title, "nobody was hit")
    width_ms = figures.bin_width_ms(max(1, last_ms), BINS)
    curves, told = [], []
    for run, each, campaign in sides:
        rows = figures.courses(replace(each.files, progress=progress), {campaign: width_ms})
        total = int(each.campaign_rows.filter(campaign=campaign)["vm_count"].sum())
        done = rows.select(at_ms=pl.col("bin_start_ms") + pl.col("bin_ms"), updated_count="updated_count")
        first_ms = int(rows["bin_start_ms"][0]) if len(rows) else 0
        start = pl.DataFrame({"at_ms": [first_ms], "updated_count": [0]})
        curve = pl.concat([start, done])
        end = pl.DataFrame({"at_ms": [last_ms + width_ms], "updated_count": [int(curve["updated_count"][-1])]})
        if int(curve["at_ms"][-1]) < last_ms + width_ms:
            curve = pl.concat([curve, end])
        curves.append(
            curve.select(
                pl.lit(run).alias("run"),
                "at_ms",
                "updated_count",
                updated_ratio=pl.col("updated_count") / max(1, total),
            )
        )
        half = curve.filter(pl.col("updated_count") * 2 >= max(1, total))
        told.append(f"{run} by {duration(int(half['at_ms'][0]))}" if len(half) else f"{run} never")
    frame = pl.concat(curves)
    text = f"Half of the VMs in scope are updated: {'; '.join(told)}, to {duration(width_ms)}."
    if len(made.others) > RUNS_DRAWN - 1:
        text += f" Drawn are the first {RUNS_DRAWN} runs."
    names = [run for run, _, _ in sides]

    def draw(width: int, is_narrow: bool) -> Any:
        import altair as alt

        clock = Clock.of(0, float(frame["at_ms"].max()), "each run's own")  # type: ignore[arg-type]
        here = frame.with_columns(at=pl.col("at_ms") / clock.unit_ms)
        return (
            alt.Chart(here)
            .mark_line(strokeWidth=2.5, clip=True)
            .encode(
                x=alt.X(
                    "at:Q",
                    title=clock.title,
                    scale=alt.Scale(nice=False),
                    axis=alt.Axis(format=",.2~f", tickCount=5 if is_narrow else 10),
                ),
                y=alt.Y("updated_ratio:Q", title="updated", axis=alt.Axis(format="%", tickCount=5)),
                color=alt.Color(
                    "run:N",
                    title=None,
                    scale=alt.Scale(domain=names, range=list(CAMPAIGNS[: len(names)])),
                    legend=alt.Legend(symbolType="stroke", columns=1 if is_narrow else 6),
                ),
                # Where curves lie on one another, the later ones are dashed, so that both are seen.
                strokeDash=alt.StrokeDash(
                    "run:N",
                    scale=alt.Scale(domain=names, range=[[1, 0], *([[7, 4]] * (len(names) - 1))]),
                    legend=None,
                ),
            )
            .properties(height=260)
        )

    return Chart(_slug("completion", made, name), "all", title, text, frame, draw)


def _last_end_ms(stage_rows: pl.DataFrame, campaign: str) -> int | None:
    last: int | None = stage_rows.filter(pl.col("campaign") == campaign)["last_end_ms"].max()  # type: ignore[assignment]
    return last


def _differences(other: Other, name: str, base: str, slug: str) -> Chart | Lacking:
    """How much longer or shorter VMs hit in both are out."""
    title = _titled(name, "the same VMs: how much longer each is out", len(other.campaigns) > 1)
    both = other.pairs[name]
    if both is None:
        why = "the fleets differ" if not other.are_same_vms else "a run kept neither outcomes nor events"
        return Lacking("paired", title, why)
    if both.bins.is_empty() or both.difference_ms_p50 is None or both.difference_ms_p95 is None:
        return Lacking("paired", title, "no VM is hit in both")
    span_ms = max(abs(both.difference_ms_min or 0), abs(both.difference_ms_max or 0))
    if not span_ms:
        return Lacking("paired", title, f"every one of the {both.hit_both_count:,} VMs is out as long in both")
    frame = _stacked(both)
    marks = [("p50", both.difference_ms_p50), ("p95", both.difference_ms_p95)]
    text = (
        f"Of {both.hit_both_count:,} VMs hit in both, {both.longer_count:,} are out longer in {other.name} than in"
        f" {base}, {both.shorter_count:,} shorter, {both.equal_count:,} as long. By VM: p50 {change_of(marks[0][1])},"
        f" p95 {change_of(marks[1][1])}, from {change_of(both.difference_ms_min)} to"
        f" {change_of(both.difference_ms_max)}{', all iterations summed' if other.has_iterations(name) else ''}."
    )

    def draw(width: int, is_narrow: bool) -> Any:
        import altair as alt

        clock = Clock.of(0, span_ms, "")
        here = frame.with_columns(
            start=pl.col("bin_start_ms") / clock.unit_ms,
            end=(pl.col("bin_start_ms") + pl.col("bin_ms")) / clock.unit_ms,
        )
        low, high = min(0.0, float(here["start"].min())), max(0.0, float(here["end"].max()))  # type: ignore[arg-type]
        pad = (high - low) * 0.03
        colours = {"shorter": UPDATED, "as long": SPREAD, "longer": DOWN}
        words = [word for word in colours if word in set(here["what"])]
        most = int(here["top_count"].max())  # type: ignore[arg-type]
        bars = (
            alt.Chart(here)
            .mark_rect(stroke=PAPER, strokeWidth=0.5)
            .encode(
                x=alt.X(
                    "start:Q",
                    title=f"{clock.title.split()[0]} longer than in {base}",
                    scale=alt.Scale(domain=[low - pad, high + pad], nice=False),
                    axis=alt.Axis(format="+,.2~f", tickCount=6 if is_narrow else 12),
                ),
                x2="end:Q",
                y=alt.Y("top_count:Q", title="VMs", axis=counts_axis(), scale=alt.Scale(domain=[0, most * 1.3])),
                y2="below_count:Q",
                color=alt.Color(
                    "what:N",
                    title=None,
                    scale=alt.Scale(domain=words, range=[colours[word] for word in words]),
                    legend=alt.Legend(symbolType="square"),
                ),
                description="tells:N",
            )
        )
        return alt.layer(bars, *_marks(marks, clock, (low - pad, high + pad), width - AXIS_WIDTH)).properties(
            height=230
        )

    return Chart(f"differences-{slug}", "paired", title, text, frame, draw)


def _stacked(both: Paired) -> pl.DataFrame:
    """The bins of *both*, of the one that holds 0 the VMs out as long below, those out longer on top of them.

    `bin_start_ms`, `bin_ms`, `vm_count`, `what`, `below_count`, `top_count`, `tells`.
    """
    rows = []
    for start_ms, bin_ms, vm_count in both.bins.rows():
        end_ms = start_ms + bin_ms
        span = f"from {change_of(start_ms)} to below {change_of(end_ms)}"
        if start_ms <= 0 < end_ms:  # bins are multiples of their width, so that 0 is the start of one
            equal = both.equal_count
            rows.append((start_ms, bin_ms, equal, "as long", 0, equal, f"{equal:,} VMs as long"))
            rows.append((start_ms, bin_ms, vm_count - equal, "longer", equal, vm_count,
                         f"{vm_count - equal:,} VMs longer, by less than {duration(end_ms)}"))  # fmt: skip
        else:
            what = "shorter" if start_ms < 0 else "longer"
            rows.append((start_ms, bin_ms, vm_count, what, 0, vm_count, f"{vm_count:,} VMs {span}"))
    names = ["bin_start_ms", "bin_ms", "vm_count", "what", "below_count", "top_count", "tells"]
    return pl.DataFrame(rows, schema=names, orient="row").filter(pl.col("vm_count") > 0)


def _marks(marks: Sequence[tuple[str, int]], clock: Clock, span: tuple[float, float], width: int) -> Iterator[Any]:
    """A dashed line at each of *marks*, and what it is, one below the other: the first to its left, all others right.

    On the other side where there is no room: *span* of the axis is about *width* px.
    """
    import altair as alt

    low, high = span
    for row, (word, value_ms) in enumerate(marks):
        at = value_ms / clock.unit_ms
        text = f"{word} {change_of(value_ms)}"
        one = alt.Chart(pl.DataFrame([{"at": at, "text": text}]))
        yield one.mark_rule(color=INK, strokeDash=[4, 3]).encode(x="at:Q")
        needed = (len(text) * CHARACTER_WIDTH + 8) / width
        left, right = (at - low) / (high - low), (high - at) / (high - low)
        is_left = left >= needed if not row else right < needed <= left
        mark = one.mark_text(
            align="right" if is_left else "left", baseline="top", dx=-4 if is_left else 4, fontWeight="bold"
        )
        yield mark.encode(x="at:Q", y=alt.value(2 + 13 * row), text="text:N")
