"""A run summed up: its figures as one long table, as JSON, and as pages of a terminal.

What a figure is stands in `figures.py`; this module chooses, arranges and spells. The terminal shows rows of
the same frames that the files hold.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fleetsim import figures, schema
from fleetsim.errors import InputError, nearest, nearest_path
from fleetsim.figures import FIGURES, Bound, Link, RunFiles, duration

__all__ = ["Report", "report"]

FORMATS = ("json", "parquet")
ROWS_SHOWN = 15
"""Rows of a group table on a terminal, largest group first; files have them all."""
CHART_ROWS = 5
SETS_SHOWN = 5
APPROXIMATE = ("paused_ms_p50", "paused_ms_p99", "paused_ms_max")
"""Figures taken from the engine's histogram where a run kept neither outcomes nor events."""


def report(run: str | Path, *, by: Sequence[str | Sequence[str]] = ()) -> "Report":
    """Sum up the finished run in folder *run*.

    Each of *by* is a fleet column, several joined by commas, or a sequence of them, and adds one table of
    groups. Raise `InputError` if *run* is no finished run, its schema is newer than ours, a column is unknown
    or the run kept nothing that a group can be counted from.
    """
    files = RunFiles.open(run)
    asked = [by] if isinstance(by, str) else by
    columns_of = (each.split(",") if isinstance(each, str) else each for each in asked)
    groupings = list(dict.fromkeys(tuple(dict.fromkeys(columns)) for columns in columns_of))
    files.check_columns(dict.fromkeys(column for columns in groupings for column in columns))
    try:
        return _summed_up(files, groupings)
    except (pl.exceptions.ComputeError, pl.exceptions.ColumnNotFoundError, OSError) as error:
        raise InputError(
            f"{files.path}: its files must be as the run wrote them, got {error}; see `fleetsim verify`"
        ) from error


def _summed_up(files: RunFiles, groupings: list[tuple[str, ...]]) -> "Report":
    counted = figures.impacts(files, {}, [["campaign"], figures.STAGE])
    stage_rows = figures.stages(files)
    stage_rows = stage_rows.join(
        figures.impact_by(counted, figures.STAGE).select(*figures.STAGE, *APPROXIMATE),
        on=figures.STAGE,
        how="left",
        maintain_order="left",
    )
    campaign_rows = figures.campaigns(files, stage_rows).join(
        figures.impact_by(counted, ["campaign"]).select("campaign", *APPROXIMATE),
        on="campaign",
        how="left",
        maintain_order="left",
    )
    groups = []
    for columns in groupings:
        # The fleet's own names may be those of figures: columns of a grouping are addressed by place.
        names = ["region" if column == "region" else f"by_{place}" for place, column in enumerate(columns)]
        others = {name: column for name, column in zip(names, columns, strict=True) if name != "region"}
        grain = ["campaign", *names]
        rows = figures.impact_by(figures.impacts(files, others, [grain]), grain)
        groups.append(Groups(columns, tuple(names), rows))
    return Report(
        files=files,
        campaign_rows=campaign_rows,
        stage_rows=stage_rows,
        hour_rows=figures.hours(files),
        groups=groups,
        bounds={each["name"]: figures.bound(files, stage_rows, each) for each in files.campaigns},
        chains={each["name"]: figures.chain(files, stage_rows, each["name"]) for each in files.campaigns},
        no_guarantee=files.scan("no_guarantee").collect(),
        approximate=() if files.has("outcomes") or files.has("events") else APPROXIMATE,
    )


@dataclass(frozen=True, slots=True)
class Groups:
    """A campaign's figures by some fleet columns; `names` are those of the columns in `rows`."""

    columns: tuple[str, ...]
    names: tuple[str, ...]
    rows: pl.DataFrame

    @property
    def grain(self) -> str:
        """The columns as the report's `grain`; one that is called as a grain of ours is told apart."""
        grain = ",".join(self.columns)
        return f"fleet.{grain}" if grain in figures.GRAINS else grain


@dataclass(frozen=True)
class Report:
    """The figures of one run; `frame` is the table `report` of the schema.

    A key is the campaign, then what the grain adds, joined by `/`: `hypervisor`, `hypervisor/1/westeurope` of
    a stage, `hypervisor/17` of an hour, `hypervisor/2x3.5` by size. `/` and `%` inside a part are
    percent-encoded; `%00` is a null.
    """

    files: RunFiles
    campaign_rows: pl.DataFrame
    stage_rows: pl.DataFrame
    hour_rows: pl.DataFrame
    groups: list[Groups]
    bounds: dict[str, Bound | None]
    chains: dict[str, list[Link]]
    no_guarantee: pl.DataFrame
    approximate: tuple[str, ...]

    @cached_property
    def frame(self) -> pl.DataFrame:
        """The whole report, one row a figure, grain and key."""
        grains = [
            ("campaign", ["campaign"], self.campaign_rows),
            ("stage", list(figures.STAGE), self.stage_rows),
            ("hour", ["campaign", "hour"], self.hour_rows),
            *((groups.grain, ["campaign", *groups.names], groups.rows) for groups in self.groups),
        ]
        return pl.concat([_long(*each) for each in grains])

    def header(self) -> dict[str, Any]:
        """What was run: names, sizes, seed, digests, what is invented, warnings."""
        manifest, resolved = self.files.manifest, self.files.resolved
        return {
            "run": self.files.path.name or str(self.files.path),
            "scenario": resolved["name"],
            "start": resolved["start"].isoformat().replace("+00:00", "Z"),
            "seed": resolved["seed"],
            "preset": resolved["preset"],
            "vm_count": manifest["counts"]["vms"],
            "region_count": len(list(self.files.path.glob("fleet/region=*"))),
            "event_count": manifest["counts"]["events"],
            "fleetsim_version": manifest["fleetsim_version"],
            "schema_version": manifest["schema_version"],
            "scenario_digest": manifest["scenario_digest"],
            "fleet_digest": manifest["fleet_digest"],
            "run_digest": manifest["run_digest"],
            "invented": list(manifest["invented"]),
            "warnings": list(manifest["warnings"]),
        }

    def to_dict(self) -> dict[str, Any]:
        """The report as one JSON object: the header, then each campaign: figures, bound, chain, curve."""
        return self.header() | {
            "units": {figure.name: figure.unit for figure in FIGURES.values()},
            "approximate": list(self.approximate),
            "campaigns": [self._campaign_dict(campaign) for campaign in self.files.campaigns],
        }

    def _campaign_dict(self, campaign: dict[str, Any]) -> dict[str, Any]:
        name = campaign["name"]
        own = pl.col("campaign") == name
        best = self.bounds[name]
        stage_names = ["iteration", "region", "asked_ms", "start_ms", "end_ms", "bottleneck"]
        return {
            "campaign": name,
            "kind": campaign["kind"],
            "regions": campaign["regions"],
            "figures": _figures_of(self.campaign_rows.filter(own).row(0, named=True)),
            "bound": asdict(best) | {"sentence": best.sentence()} if best else None,
            "chain": [asdict(link) | {"sentence": link.sentence(name)} for link in self.chains[name]],
            "no_guarantee": self._no_guarantee_of(campaign),
            "stages": [
                {each: row[each] for each in stage_names} | {"figures": _figures_of(row)}
                for row in self.stage_rows.filter(own).iter_rows(named=True)
            ],
            "hours": self.hour_rows.filter(own).drop("campaign").to_dicts(),
            "by": [
                {
                    "columns": list(groups.columns),
                    "rows": [
                        {
                            "key": [_json_value(row[each]) for each in groups.names],
                            "figures": _figures_of(row),
                        }
                        for row in groups.rows.filter(own).iter_rows(named=True)
                    ],
                }
                for groups in self.groups
            ],
        }

    def _no_guarantee_of(self, campaign: dict[str, Any]) -> dict[str, int]:
        """Sets without guarantee in the regions of *campaign*, counted by reason; reasons that occur."""
        counts = dict(
            self.no_guarantee.filter(pl.col("region").is_in(campaign["regions"]))["reason"].value_counts().rows()
        )
        return {word: counts[word] for word in schema.words(schema.NoGuarantee) if word in counts}

    def write(self, path: str | Path, format: str = "parquet") -> None:  # noqa: A002
        """Write `frame` as `parquet`, or `to_dict` as `json`, to *path*; atomic, a file there is replaced."""
        if format not in FORMATS:
            raise InputError(f"format: must be one of {', '.join(FORMATS)}, got '{format}'{nearest(format, FORMATS)}")
        path = Path(path)
        if path.is_dir():
            raise InputError(f"{path}: must be a file, got a folder")
        if not path.parent.is_dir():
            raise InputError(f"{path}: must be in a folder that is there, got none{nearest_path(path.parent)}")
        unfinished = path.with_name(f".{path.name}.unfinished")
        try:
            if format == "json":
                unfinished.write_text(
                    json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, indent=2) + "\n", "utf-8"
                )
            else:
                self._write_parquet(unfinished)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    def _write_parquet(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = {"text": pa.dictionary(pa.int32(), pa.string()), "f64": pa.float64()}
        fields = [
            pa.field(column.name, types[column.dtype], nullable=column.is_nullable) for column in schema.REPORT.columns
        ]
        manifest = self.files.manifest
        provenance = {
            "fleetsim.version": str(manifest["fleetsim_version"]),
            "fleetsim.schema_version": str(schema.SCHEMA_VERSION),
            "fleetsim.table": schema.REPORT.name,
            "fleetsim.scenario_digest": manifest["scenario_digest"],
            "fleetsim.fleet_digest": manifest["fleet_digest"],
            "fleetsim.seed": str(manifest["seed"]),
            "fleetsim.approximate": json.dumps(list(self.approximate)),
        }
        table = self.frame.to_arrow().cast(pa.schema(fields, metadata=provenance))
        pq.write_table(table, path)

    # On a terminal

    def render(self, console: Console) -> None:
        """Print the report to *console*, within its width."""
        self._render_header(console)
        self._render_campaigns(console)
        for campaign in self.files.campaigns:
            self._render_campaign(console, campaign)
        for groups in self.groups:
            self._render_groups(console, groups)

    def _render_header(self, console: Console) -> None:
        header = self.header()
        console.print(Text(f"{_shown(header['scenario'])} in {_shown(header['run'])}", style="bold"))
        grid = Table.grid(padding=(0, 2))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        fleet = f"{_counted(header['vm_count'], 'VM')} in {_counted(header['region_count'], 'region')}"
        start = f"{header['start']}, seed {header['seed']}, preset {header['preset']}"
        for label, sentences in {
            "fleet": [fleet],
            "start": [start],
            "digest": [header["run_digest"]],
            "invented": header["invented"],
            "warning": header["warnings"],
        }.items():
            for sentence in sentences:
                grid.add_row(Text(label, style="yellow" if label == "warning" else "dim"), Text(_shown(sentence)))
        console.print(Padding(grid, (0, 0, 0, 2), expand=False))

    def _render_campaigns(self, console: Console) -> None:
        """Figures down, campaigns across; as many campaigns side by side as the width holds."""
        rows = self.campaign_rows.to_dicts()
        names = [name for name, figure in FIGURES.items() if "campaign" in figure.grains]
        label_width, campaign_width = max(map(len, names)) + 2, 18
        across = max(1, (console.width - label_width) // (campaign_width + 2))
        for first in range(0, len(rows), across):
            side_by_side = rows[first : first + across]
            table = Table(box=None, padding=(0, 2, 0, 0))
            table.add_column("campaign", style="dim", no_wrap=True)
            for row in side_by_side:
                title = Text(_shown(row["campaign"]), overflow="ellipsis", no_wrap=True)
                table.add_column(title, justify="right", max_width=campaign_width, no_wrap=True)
            for name in names:
                table.add_row(name, *(self._spelt(name, row[name]) for row in side_by_side))
            console.print()
            console.print(Padding(table, (0, 0, 0, 2), expand=False))
        if self.approximate:
            note = "~ from the engine's histogram, 1/64 too low at most: the run kept no outcomes and no events"
            console.print(_item(" ", note))

    def _spelt(self, name: str, value: float | None) -> str:
        """*value* of the figure *name* as people read it."""
        if value is None:
            return "-"
        about = "~" if name in self.approximate else ""
        match FIGURES[name].unit:
            case "ms" | "VM-ms":
                return f"{about}{duration(value)}"
            case "ratio":
                return f"{value:,.3f}"
            case _:
                return f"{round(value):,}"

    def _render_campaign(self, console: Console, campaign: dict[str, Any]) -> None:
        name, best = campaign["name"], self.bounds[campaign["name"]]
        console.print()
        console.print(Text(f"{_shown(name)}: what bounds its length, by time since scenario start", style="bold"))
        if best is None:
            console.print(_item(" ", "No VM is in scope: there was nothing to do."))
            return
        for place, link in enumerate(self.chains[name], start=1):
            console.print(_item(f"{place}.", link.sentence(name)))
        row = self.campaign_rows.row(by_predicate=pl.col("campaign") == name, named=True)
        end_ms = self.chains[name][-1].end_ms
        total = (
            f"{duration(row['length_ms'])} from its first unit's start, at {duration(end_ms - row['length_ms'])},"
            f" to its last unit's end, at {duration(end_ms)}"
        )
        console.print(_item("=", f"{total}; {best.sentence()}"))
        self._render_no_guarantee(console, campaign)
        self._render_hours(console, name)

    def _render_no_guarantee(self, console: Console, campaign: dict[str, Any]) -> None:
        counts = self._no_guarantee_of(campaign)
        if not counts:
            return
        reasons = ", ".join(f"{_counted(count, 'set')} {_REASONS[word]}" for word, count in counts.items())
        own = self.no_guarantee.filter(pl.col("region").is_in(campaign["regions"]))
        some = own.head(SETS_SHOWN).group_by("region", maintain_order=True).agg(pl.col("set").cast(pl.String))
        first = "; ".join(f"{', '.join(sets)} in {region}" for region, sets in some.rows())
        more = f"; {len(own) - SETS_SHOWN:,} more" if len(own) > SETS_SHOWN else ""
        console.print()
        console.print(Text(f"{_shown(campaign['name'])}: sets not promised a VM that stays up", style="bold"))
        console.print(_item("!", f"{reasons}: {first}{more}"))

    def _render_hours(self, console: Console, campaign: str) -> None:
        """Impacts started as a chart, the time they took below it, first impact to last, hours summed to fit."""
        rows = self.hour_rows.filter(pl.col("campaign") == campaign)
        if rows.is_empty():
            return
        blocks, rule = (" #", "|") if console.options.ascii_only else (" ▁▂▃▄▅▆▇█", "▕")
        label_width = 12
        width = max(1, console.width - label_width - len(rule))
        first, last = rows["hour"][0], rows["hour"][-1]
        per_bar = -(-(last + 1 - first) // width)
        started, lost_ms = ([0] * ((last - first) // per_bar + 1) for _ in range(2))
        for hour, count, value_ms in rows.select("hour", "hourly_start_count", "hourly_unavailable_ms").iter_rows():
            started[(hour - first) // per_bar] += count
            lost_ms[(hour - first) // per_bar] += value_ms
        bar_width = min(4, width // len(started))
        step = "hour" if per_bar == 1 else f"{per_bar:,} hours"
        console.print()
        title = f"{_shown(campaign)}: impacts started, by {step} since scenario start; below, VM time lost"
        console.print(Text(title, style="bold"))
        labels = [f"{max(started):,}", *[""] * (CHART_ROWS - 1), duration(max(lost_ms))]
        bars = [*_chart(started, CHART_ROWS, bar_width, blocks), *_chart(lost_ms, 1, bar_width, blocks)]
        for label, line in zip(labels, bars, strict=True):
            console.print(Text(f"{label:>{label_width}}{rule}{line}", no_wrap=True, overflow="crop"))
        left, right = f"{first:,} h", f"{last + 1:,} h"
        axis = f"{left}{right:>{max(len(right) + 1, bar_width * len(started) - len(left))}}"
        console.print(Text(f"{'':{label_width + len(rule)}}{axis}", style="dim", no_wrap=True, overflow="crop"))

    def _render_groups(self, console: Console, groups: Groups) -> None:
        """One table a campaign, largest groups first."""
        for campaign in self.files.campaigns:
            own = groups.rows.filter(pl.col("campaign") == campaign["name"])
            if own.is_empty():
                continue
            names = [name for name, figure in FIGURES.items() if "by" in figure.grains]
            # Everybody is hit, mostly: a column that repeats its neighbour would take the width of the names.
            if own["vm_count"].equals(own["vm_hit_count"]):
                names.remove("vm_hit_count")
            table = Table(box=None, padding=(0, 1, 0, 0))
            for column in groups.columns:
                table.add_column(Text(_shown(column)), overflow="ellipsis", no_wrap=True, ratio=1)
            for name in names:
                table.add_column(_TITLES[name], justify="right", no_wrap=True)
            for row in own.head(ROWS_SHOWN).iter_rows(named=True):
                key = [Text("-" if row[each] is None else _shown(row[each])) for each in groups.names]
                table.add_row(*key, *(self._spelt(name, row[name]) for name in names))
            console.print()
            console.print(Text(f"{_shown(campaign['name'])} by {_shown(', '.join(groups.columns))}", style="bold"))
            console.print(Padding(table, (0, 0, 0, 2), expand=False))
            if len(own) > ROWS_SHOWN:
                console.print(_item(" ", f"... {len(own) - ROWS_SHOWN:,} more"))


_REASONS = {
    "one_domain": "with one populated domain",
    "one_vm": "of one VM",
    "shared_host": "with a host that carries two of its domains",
}
_TITLES = {
    "vm_count": "VMs",
    "vm_hit_count": "hit",
    "paused_ms_p50": "paused p50",
    "paused_ms_p99": "p99",
    "paused_ms_max": "max",
    "unavailable_ms": "unavailable",
}


def _long(grain: str, keys: list[str], wide: pl.DataFrame) -> pl.DataFrame:
    """Rows of schema.REPORT for the figures among the columns of *wide*."""
    parts = [
        pl.col(key)
        .cast(pl.String)
        .str.replace_all("%", "%25", literal=True)
        .str.replace_all("/", "%2F", literal=True)
        .fill_null("%00")
        for key in keys
    ]
    names = [name for name in FIGURES if name in wide.columns]
    units = {name: FIGURES[name].unit for name in names}
    return (
        wide.select(pl.col(names).cast(pl.Float64), grain=pl.lit(grain), key=pl.concat_str(parts, separator="/"))
        .unpivot(names, index=["grain", "key"], variable_name="figure", value_name="value")
        .with_columns(unit=pl.col("figure").replace_strict(units, return_dtype=pl.String))
        .select(schema.REPORT.names())
    )


def _figures_of(row: dict[str, Any]) -> dict[str, int | float | None]:
    """The figures among the values of *row*; whole numbers but for ratios."""
    return {name: row[name] for name in FIGURES if name in row}


def _json_value(value: Any) -> Any:
    """A group's value as JSON has it: dates and what is no number as text."""
    is_plain = (
        value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))
    )
    return value if is_plain else str(value)


def _chart(values: list[int], height: int, bar_width: int, blocks: str) -> list[str]:
    """Bars of *values* as *height* lines, top line first, of *blocks* (empty to full); only 0 is not seen."""
    steps, top = len(blocks) - 1, max(*values, 1)
    heights = [-(-value * height * steps // top) for value in values]
    gap = " " if bar_width > 2 else ""
    return [
        "".join(
            blocks[min(max(each - line * steps, 0), steps)] * (bar_width - len(gap)) + gap for each in heights
        ).rstrip()
        for line in reversed(range(height))
    ]


def _item(label: str, text: str) -> Padding:
    """One entry of a list, its lines hanging."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(label, Text(_shown(text)))
    return Padding(grid, (0, 0, 0, 2), expand=False)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _shown(value: object) -> str:
    """*value* for a terminal: what a user's name must not do there, it does not."""
    return "".join(each if each.isprintable() else "?" for each in str(value))
