"""The page itself: one HTML file that says everything and asks nobody for anything.

A Content-Security-Policy forbids all requests, and any script but our own: names come from users.
"""

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import polars as pl

from fleetsim import figures
from fleetsim.figures import FIGURES, Link, duration
from fleetsim.page.charts import Lacking
from fleetsim.page.drawing import NARROW, WIDE, Chart
from fleetsim.page.palette import style_sheet
from fleetsim.reporting import Block, Code, Grid, Items, Report
from fleetsim.verifier import Verdict

SECTIONS = {
    "figures": "Figures",
    "timeline": "Timeline by region",
    "why": "Why so long",
    "time": "Who is out, and when",
    "completion": "Completion",
    "lengths": "How hard: pauses and downtime",
    "heat": "Regions by hour",
    "sets": "Sets",
    "applications": "Applications",
    "tolerance": "Who is over tolerance, and what helps",
    "map": "Map",
    "tables": "Tables",
    "run": "What was run",
}
_SECTION_OF = {
    "run": "run",
    "figures": "figures",
    "why": "why",
    "units": "why",
    "iterations": "completion",
    "no_guarantee": "sets",
    "applications": "applications",
    "tolerance": "tolerance",
    "pauses": "lengths",
    "services": "applications",
    "groups": "tables",
}
"""Where the subjects of a report stand; `hours` are drawn."""
ROWS_TOLD = 250
"""Rows of a chart that the page has as a table too; `--charts` has all."""
STAGES_TOLD = 500
FEW_RATIO = 0.05
"""Of the VMs updated: so many are few."""


def page_of(report: Report, charts: Sequence[Chart | Lacking], verdict: Verdict | None) -> str:
    """The HTML of *report* with *charts*, and what the verifier found, if it was asked."""
    header = report.header()
    parts: dict[str, list[str]] = {section: [] for section in SECTIONS}
    for chart in charts:
        parts[chart.section].append(lacking_of(chart) if isinstance(chart, Lacking) else figure_of(chart))
    for subject, _, block in report.blocks():
        if subject in _SECTION_OF:
            parts[_SECTION_OF[subject]].append(block_of(block))
    parts["figures"].append(_definitions(report))
    parts["tables"].insert(0, _table(_stages(report), "Every stage"))
    parts["run"] = [_facts(report, verdict)]
    kept = {section: "\n".join(each) for section, each in parts.items() if any(each)}
    lacking = [chart for chart in charts if isinstance(chart, Lacking)]
    top = [
        f"<h1>{escape(header['scenario'])}</h1>",
        _run_line(header, report.draws, verdict),
        *_notices(report, verdict),
        *(_answers(report, each["name"]) for each in report.files.campaigns),
    ]
    links = "".join(f'<li><a href="#{section}">{escape(SECTIONS[section])}</a></li>' for section in kept)
    body = "\n".join(
        f'<section id="{section}" aria-labelledby="{section}-title"><h2 id="{section}-title">{SECTIONS[section]}</h2>\n'
        f"{content}</section>"
        for section, content in kept.items()
    )
    missing = ""
    if lacking:
        said = "".join(f"<li>{escape(each.title)}: {escape(each.why)}.</li>" for each in lacking)
        missing = f"<p>Charts this run does not have:</p><ul>{said}</ul>"
    footer = f"{missing}<p>fleetsim {escape(str(header['fleetsim_version']))}, run {escape(header['run_digest'])}</p>"
    nav = f'<nav aria-label="Sections"><ul>{links}</ul></nav>'
    return html_of(header["scenario"], "\n".join(top), f'{nav}<main id="main">{body}</main><footer>{footer}</footer>')


def page_of_unfinished(folder: Path, resolved: dict[str, Any], why: str) -> str:
    """The HTML of a run that has no figures yet: what was asked for, and that it is not finished."""
    told = [
        ("run", str(folder.name)),
        ("start", str(resolved.get("start", "-"))),
        ("seed", str(resolved.get("seed", "-"))),
        ("preset", str(resolved.get("preset", "-"))),
        *((f"campaign {each['name']}", str(each.get("kind", "-"))) for each in resolved.get("campaign", [])),
        ("parts written", f"{len(list(folder.glob('events/region=*/*.parquet'))):,} of events"),
    ]
    facts = "".join(f"<dt>{escape(label)}</dt><dd>{escape(value)}</dd>" for label, value in told)
    name = str(resolved.get("name", folder.name))
    top = (
        f'<h1>{escape(name)}</h1><p class="run"><span class="verdict broken">unfinished: it has no figures, and nobody'
        f' has verified it</span></p><p class="notice bad">{code_of(why)}</p>'
    )
    section = f'<section><h2>What was asked for</h2><dl class="facts">{facts}</dl></section>'
    return html_of(name, top, f'<main id="main">{section}</main>')


def html_of(title: str, top: str, rest: str) -> str:
    """A whole page: *top* is its header, *rest* what follows; nothing in it is asked for from anywhere."""
    folder = Path(__file__).parent
    script = (folder / "page.js").read_text("utf-8")
    style = style_sheet() + (folder / "page.css").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:; base-uri 'none'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}: fleetsim report</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f'<a class="skip" href="#main">To the report</a>\n<header>\n{top}\n</header>\n{rest}\n'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


# The first screen


def _run_line(header: dict[str, Any], draws: str, verdict: Verdict | None) -> str:
    if verdict is None:
        word, said = "unknown", "not verified"
    else:
        word = "kept" if verdict.ok else "broken"
        said = f"verified: {verdict.counts}" if verdict.ok else f"breaks the plan: {verdict.counts}"
    told = [
        f"run {header['run']}",
        f"{header['vm_count']:,} VMs in {header['region_count']:,} region{'s' if header['region_count'] != 1 else ''}",
        f"starts {header['start']}",
        f"seed {header['seed']}, {draws}",
        f"fleetsim {header['fleetsim_version']}",
        f"digest {header['run_digest'][:12]}",
    ]
    spans = " · ".join(f"<span>{escape(each)}</span>" for each in told)
    return f'<p class="run">{spans} · <span class="verdict {word}">{escape(said)}</span></p>'


def _notices(report: Report, verdict: Verdict | None) -> Iterator[str]:
    if report.files.only:
        asked = " and ".join(f"{column}={' or '.join(values)}" for column, values in report.files.only.items())
        whole = ", ".join(report.of_whole)
        yield f'<p class="notice">Only VMs with {escape(asked)}; of whole campaigns stay {escape(whole)}.</p>'
    if verdict is not None and not verdict.ok:
        broken = [rule for rule in verdict.rules if rule.status == "broken"]
        said = "".join(f"<li>{escape(rule.rule)}: {escape(rule.sentence)}</li>" for rule in broken[:8])
        yield f'<div class="notice bad">This run breaks its plan: figures are of what it did.<ul>{said}</ul></div>'


def _answers(report: Report, name: str) -> str:
    """How long, whom, how hard, why so long: of the campaign *name*."""
    row = report.campaign_rows.row(by_predicate=pl.col("campaign") == name, named=True)
    campaign = next(each for each in report.files.campaigns if each["name"] == name)
    answers = [_how_long(report, row), _whom(report, row, name), _how_hard(row), _why(report, row, campaign)]
    questions = ("How long?", "Whom?", "How hard?", "Why so long?")
    cells = "".join(
        f"<div{' class=' + chr(34) + 'why' + chr(34) if question == questions[-1] else ''}><dt>{question}</dt>"
        f"<dd><strong>{code_of(said)}</strong>{code_of(more)}</dd></div>"
        for question, (said, more) in zip(questions, answers, strict=True)
    )
    title = (
        f'<h2 class="campaign">{escape(name)}: {escape(campaign["kind"])}</h2>'
        if len(report.files.campaigns) > 1
        else ""
    )
    return f'{title}<dl class="answers">{cells}</dl>'


def _how_long(report: Report, row: dict[str, Any]) -> tuple[str, str]:
    if row["length_ms"] is None:
        return "no time", "the platform hit nobody"
    if row["last_end_ms"] is None:
        return "no time", f"of the VMs asked for nobody was hit; the whole campaign takes {duration(row['length_ms'])}"
    best = report.bounds[row["campaign"]]
    if report.files.only:  # of these VMs; what the whole campaign takes is not theirs
        took_ms = row["last_end_ms"] - row["first_start_ms"]
        more = f"from {_instant(report, row['first_start_ms'])} to {_instant(report, row['last_end_ms'])}"
        more += ", of the VMs asked for" + _told_of_stragglers(report, row, took_ms)
        return duration(took_ms), f"{more}; the whole campaign takes {duration(row['length_ms'])}"
    more = f"from {_instant(report, row['last_end_ms'] - row['length_ms'])} to {_instant(report, row['last_end_ms'])}"
    if row.get("updated_self_service_count"):
        more += ", after what customers did themselves"
    more += _told_of_stragglers(report, row, row["length_ms"])
    if (band := report.band(row["campaign"], "length_ms")) is not None:
        more += f"; of {report.replica_count:,} draws, p05 {duration(band[0])}, p95 {duration(band[1])}"
    if best is not None and not best.is_as_it_went and not best.has_windows:
        more += f"; no order takes less than {duration(best.bound_ms)}"
    return duration(row["length_ms"]), more


def _told_of_stragglers(report: Report, row: dict[str, Any], took_ms: int) -> str:
    """That few VMs cost more than half of the time, where they do."""
    last_ms = row["last_end_ms"]
    found = figures.stragglers(report.files, row["campaign"], last_ms - took_ms, last_ms, FEW_RATIO)
    if found is None:
        return ""
    return (
        f"; {found.prompt_count:,} of {found.prompt_count + found.late_count:,} updated by"
        f" {_instant(report, found.prompt_ms)}, the last {found.late_count:,} take"
        f" {duration(last_ms - found.prompt_ms)} more"
    )


def _instant(report: Report, value_ms: int) -> str:
    """An instant in UTC, from ms since scenario start."""
    import datetime

    start: datetime.datetime = report.files.resolved["start"]
    return f"{start.astimezone(datetime.UTC) + datetime.timedelta(milliseconds=value_ms):%d %b %H:%M}"


def _whom(report: Report, row: dict[str, Any], name: str) -> tuple[str, str]:
    hit, scope = row["vm_hit_count"], row["vm_count"]
    stages = report.stage_rows.filter(pl.col("campaign") == name, pl.col("vm_hit_count") > 0)
    count = stages["region"].n_unique()
    more = [f"of {scope:,} in scope, in {count:,} region{'s' if count != 1 else ''}"]
    if row.get("remaining_count"):
        more.append(f"{row['remaining_count']:,} are not updated in the end")
    if row.get("updated_self_service_count"):
        more.append(f"{row['updated_self_service_count']:,} moved by their customers")
    return f"{hit:,} VM{'s' if hit != 1 else ''}", "; ".join(more)


def _how_hard(row: dict[str, Any]) -> tuple[str, str]:
    said = []
    for word in ("paused", "down"):
        if row.get(f"{word}_ms_p50") is not None:
            said.append((word, *(duration(row[f"{word}_ms_{which}"]) for which in ("p50", "p99", "max"))))
    if not said:
        return "nobody is out", ""
    word, p50, p99, most = said[0]
    more = ["all of them"] if p50 == most else [f"half of them less, 1 in 100 more than {p99}, {most} at most"]
    more += [f"{word} {p50}, {p99} and {most}" for word, p50, p99, most in said[1:]]
    if row.get("set_down_ratio_max"):
        by_platform = ", by the platform" if row.get("updated_self_service_count") else ""
        more.append(f"up to {row['set_down_ratio_max']:.0%} of a set at once{by_platform}")
    if row.get("over_tolerance_count"):
        more.append(f"{row['over_tolerance_count']:,} VMs longer than they stand")
    if row.get("quorum_lost_ms"):
        more.append(f"{duration(row['quorum_lost_ms'])} without quorum")
    return f"{p50} {word}", "; ".join(more)


def _why(report: Report, row: dict[str, Any], campaign: dict[str, Any]) -> tuple[str, str]:
    name = campaign["name"]
    links = report.chains[name]
    if not links or row["length_ms"] is None:
        return "it takes no time", ""
    if "scheduled" in campaign:
        first = _why_of_windows(links, row["length_ms"])
    else:
        first, *_ = figures.explained(links, report.bounds[name], row["length_ms"], campaign, report.hosts[name])
    # A region that has several links in a row is named once; one that waited for its pair says so.
    steps = [(link.region, link.cause) for link in links]
    steps = [step for place, step in enumerate(steps) if not place or step[0] != steps[place - 1][0]]
    named = [region + (", its pair" if cause == "pair" else "") for region, cause in steps]
    chain = ", then ".join(named[:4]) + (f" and {len(named) - 4:,} more" if len(named) > 4 else "")
    best = report.bounds[name]
    # A bound knows no windows: of a campaign with some it tells little.
    ratio = None if best is None or best.has_windows else row.get("length_bound_ratio")
    more = f"chain: {chain}"
    return first, more + (f"; {ratio:.2f} times the bound" if ratio is not None else "")


def _why_of_windows(links: Sequence[Link], length_ms: int) -> str:
    """What takes most of the *length_ms* of a chain with windows, from its first unit's start to its last end."""
    told = {"spread": 0, "work": 0, "gap": 0, "cap": 0}
    before_first_ms = links[-1].end_ms - length_ms - links[0].start_ms  # until the first unit starts nothing counts
    for before, link in zip([None, *links[:-1]], links, strict=True):
        told["spread"] += link.spread_ms if before is not None else max(0, link.spread_ms - before_first_ms)
        told["work"] += link.work_ms
        told["gap"] += link.gap_ms
        told["cap"] += link.cap_ms
        if before is not None:
            cause = link.cause or "wait"
            told[cause] = told.get(cause, 0) + link.start_ms - before.end_ms
    because = {
        "spread": "waiting for a place in the window",
        "work": "the work itself",
        "gap": "gaps between update domains",
        "cap": "waiting for room under caps",
        "window": f"scheduling anew who was left, in {max(link.iteration for link in links)} iterations",
        "pair": "waiting until the window of a pair is over",
        "wave": "waiting for the waves before",
        "campaign": "waiting for other stages in the region",
        "wait": "waiting for the first window",
    }
    cause, most_ms = max(told.items(), key=lambda each: each[1])
    share = min(1.0, most_ms / max(1, length_ms))
    return f"{share:.0%} of its length, {duration(length_ms)}, is {because[cause]}."


# Charts and tables


def figure_of(chart: Chart, *, writes: str = "; --charts writes all") -> str:
    """*chart* with its title, what it says, and the rows it is drawn from; *writes* tells where all of many are."""
    pictures = "".join(
        re.sub(
            r'^<svg [^>]*?width="(\d+)" height="(\d+)" viewBox="([^"]*)">',
            rf'<svg class="{kind}" width="\1" height="\2" viewBox="\3" role="img" aria-label="{escape(chart.title)}"'
            rf' aria-describedby="{chart.name}-text">',
            chart.inline(width),
        )
        for kind, width in (("wide", WIDE), ("narrow", NARROW))
    )
    rows = chart.frame.drop("tells", strict=False)
    more = f" (the first {ROWS_TOLD}{writes} {len(rows):,})" if len(rows) > ROWS_TOLD else ""
    grid = Grid(
        None,
        rows.columns,
        [[_cell(value) for value in row] for row in rows.head(ROWS_TOLD).iter_rows()],
        key_count=sum(dtype == pl.String for dtype in rows.dtypes) if rows.dtypes[0] == pl.String else 0,
    )
    return (
        f'<figure class="chart" id="chart-{chart.name}"><h3>{escape(chart.title)}</h3>{pictures}'
        f'<figcaption id="{chart.name}-text">{escape(chart.text)}</figcaption>'
        f"<details><summary>The rows it is drawn from{more}</summary>{_table(grid, chart.title)}</details></figure>\n"
    )


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def lacking_of(chart: Lacking) -> str:
    """That a chart is not drawn, and why."""
    return f"<p>{escape(chart.title)}: not drawn, {escape(chart.why)}.</p>\n"


def block_of(block: Block) -> str:
    """A block of a report."""
    title = f"<h3>{escape(block.title)}</h3>" if block.title else ""
    match block:
        case Items() if any(len(label) > 2 for label, _ in block.items):
            facts = "".join(f"<dt>{escape(label)}</dt><dd>{code_of(sentence)}</dd>" for label, sentence in block.items)
            return f'{title}<dl class="facts">{facts}</dl>\n'
        case Items():
            items = "".join(f"<li><b>{escape(label)}</b>{code_of(sentence)}</li>" for label, sentence in block.items)
            return f'{title}<ul class="said">{items}</ul>\n'
        case Grid():
            return title + _table(block, block.title or "Figures")
        case Code():
            return f"{title}<pre><code>{escape(block.text)}</code></pre>\n"
        case _:
            return ""  # bars of a terminal: charts draw them better


def _table(grid: Grid, name: str) -> str:
    """*grid* as a table that sorts and copies, named *name* to whoever hears it."""
    head = "".join(
        f'<th scope="col"{_KEY if place < grid.key_count else ""}>'
        f'<button type="button">{escape(each) or "&nbsp;"}</button></th>'
        for place, each in enumerate(grid.header)
    )
    body = "".join(f"<tr>{''.join(_cells(row, grid.key_count))}</tr>" for row in grid.rows)
    notes = "".join(f"<p>{code_of(note)}</p>" for note in grid.notes)
    label = escape(name)
    return (
        f'<div class="table"><button type="button" class="copy" aria-label="Copy: {label}">Copy</button>'
        '<span class="hint" aria-hidden="true">more columns: scroll sideways &rarr;</span>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{notes}</div>\n"
    )


_KEY = ' class="key"'


def _cells(row: Sequence[str], key_count: int) -> Iterator[str]:
    for place, text in enumerate(row):
        value = sort_value(text)
        v = f' data-v="{value:.15g}"' if value is not None and str(value) != text else ""
        tag, scope = ("th", ' scope="row"') if place == 0 and key_count else ("td", "")
        yield f"<{tag}{scope}{_KEY if place < key_count else ''}{v}>{escape(text)}</{tag}>"


_UNITS_MS = {"ms": 1, "s": 1_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}


def sort_value(text: str) -> float | None:
    """What a cell with *text* sorts by: a number as shown, a length in ms, a difference; None where it is neither."""
    plain = text.removeprefix("~").replace(",", "")
    if re.fullmatch(r"[+-]?\d+(\.\d+)?(%| VMs?| sets?| GiB)?", plain):
        return float(plain.removesuffix("%").split()[0])
    sign, plain = (-1 if plain.startswith("-") else 1), plain.lstrip("+-")
    if re.fullmatch(r"(\d+(\.\d+)? (ms|s|min|h|d) ?)+", f"{plain} "):
        parts = re.findall(r"([\d.]+) (ms|s|min|h|d)", plain)
        return sign * sum(float(number) * _UNITS_MS[unit] for number, unit in parts)
    return 0.0 if plain == "none" else None


def _stages(report: Report) -> Grid:
    """Every stage as a table: when, whom, how hard."""
    rows = report.stage_rows.filter(pl.col("vm_count") > 0)
    columns = {
        "region": "region",
        "campaign": "campaign",
        "iteration": "iteration",
        "wave": "wave",
        "first_start_ms": "from",
        "last_end_ms": "to",
        "length_ms": "length",
        "length_bound_ratio": "over bound",
        "bottleneck": "bottleneck",
        "vm_count": "VMs",
        "vm_hit_count": "hit",
        "remaining_count": "not updated",
        "paused_ms_p50": "paused p50",
        "paused_ms_p99": "p99",
        "paused_ms_max": "max",
        "down_ms_p50": "down p50",
        "down_ms_p99": "p99",
        "down_ms_max": "max",
        "over_tolerance_count": "too long",
        "set_down_ratio_max": "of a set out",
        "no_guarantee_count": "no guarantee",
        "quorum_lost_ms": "no quorum",
    }
    always = ("region", "first_start_ms", "last_end_ms", "vm_count", "vm_hit_count")
    varied = ("campaign", "iteration", "wave")
    kept = [
        name
        for name in columns
        if name in rows.columns
        and (name in always or (rows[name].n_unique() > 1 if name in varied else not rows[name].is_null().all()))
        and (name != "remaining_count" or rows[name].sum())
    ]
    kept.sort(key=lambda name: name not in ("region", "campaign", "bottleneck"))
    more = len(rows) - STAGES_TOLD
    return Grid(
        None,
        [columns[name] for name in kept],
        [[_spelt(name, row[name]) for name in kept] for row in rows.head(STAGES_TOLD).iter_rows(named=True)],
        key_count=sum(name in ("region", "campaign", "bottleneck") for name in kept),
        notes=[f"... {more:,} more"] if more > 0 else [],
    )


def _spelt(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name.endswith("_ms") or "_ms_" in name:
        return duration(value)
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _definitions(report: Report) -> str:
    told = "".join(
        f"<dt><code>{name}</code>, {escape(figure.unit)}</dt><dd>{escape(figure.definition)}</dd>"
        for name, figure in FIGURES.items()
        if name in report.campaign_rows.columns
    )
    return f'<details><summary>What each figure is</summary><dl class="facts">{told}</dl></details>\n'


def _plan(report: Report) -> str:
    """The scenario as it was given, and what was overridden."""
    path = report.files.path / "scenario.toml"
    if not path.is_file():
        return ""
    overrides = "".join(f"--override {each}\n" for each in report.files.manifest.get("overrides", []))
    text = path.read_text("utf-8").rstrip("\n") + (f"\n\n{overrides.rstrip()}" if overrides else "")
    return f"<details><summary>The scenario as it was given</summary><pre>{escape(text)}</pre></details>"


def _facts(report: Report, verdict: Verdict | None) -> str:
    header = report.header()
    run = report.files.path.name or str(report.files.path)
    told: list[tuple[str, str]] = [
        ("run", header["run"]),
        ("scenario", f"{header['scenario']}, preset {header['preset']}, digest `{header['scenario_digest']}`"),
        *(
            (f"campaign {each['name']}", f"{each['kind']} in {len(each['regions']):,} regions")
            for each in report.files.campaigns
        ),
        (
            "fleet",
            f"{header['vm_count']:,} VMs in {header['region_count']:,} regions, digest `{header['fleet_digest']}`",
        ),
        ("start", header["start"]),
        ("seed", f"{header['seed']}, {report.draws}"),
        ("events", f"{header['event_count']:,}"),
        ("versions", f"fleetsim {header['fleetsim_version']}, schema {header['schema_version']}"),
        ("digest", f"`{header['run_digest']}`"),
        (
            "verifier",
            f"not asked: `fleetsim verify {run}`, or `fleetsim report {run} --html FILE --verify`"
            if verdict is None
            else verdict.counts,
        ),
        *(("invented", each) for each in header["invented"]),
        *(("warning", each) for each in header["warnings"]),
    ]
    facts = "".join(f"<dt>{escape(label)}</dt><dd>{code_of(value)}</dd>" for label, value in told)
    found = f'<dl class="facts">{facts}</dl>'
    found += _plan(report)
    if verdict is not None:
        rows = [
            [
                rule.rule,
                rule.found,
                rule.sentence + (f" ({rule.reason})" if rule.reason else ""),
                f"{rule.row_count:,}",
            ]
            for rule in verdict.rules
        ]
        grid = Grid(None, ["rule", "", "what must hold", "rows"], rows, key_count=3)
        found += f"<details><summary>What the verifier checked</summary>{_table(grid, 'Rules')}</details>"
    return found


def code_of(text: str) -> str:
    """*text* as HTML, with what stands in backquotes as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
