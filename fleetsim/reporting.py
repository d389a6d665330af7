"""A run summed up: its figures as one long table, as JSON, and as a page of a terminal or of Markdown.

What a figure is stands in `figures`; this module chooses, arranges and spells. A page is a list of blocks, which a
terminal and Markdown each spell their way; its tables show rows of the same frames that the files hold.
"""

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fleetsim import figures, schema
from fleetsim.errors import InputError, nearest, nearest_path
from fleetsim.figures import FIGURES, Bound, Hosts, Intolerance, Link, Remedy, RunFiles, duration
from fleetsim.figures.declared import HOUR_MS
from fleetsim.progress import Progress
from fleetsim.storage import Url

__all__ = ["Report", "report"]

FORMATS = ("json", "csv", "markdown", "parquet")
ROWS_SHOWN = 15
"""Rows of a group table on a page, largest group first; files have them all."""
APPLICATIONS_SHOWN = 10
INTOLERANCES_SHOWN = 5
CHART_ROWS = 5
CHART_LINES = 24
"""Rows of the chart where it is a table."""
DAY_HOURS = 24
HOURS_A_BAR = (1, 2, 3, 4, 6, 8, 12, DAY_HOURS)
"""So that a bar ends where a day does; beyond, days."""
DAYS_FROM_HOURS = 100
"""Instants from so many hours on are told in days, as lengths are."""
SETS_SHOWN = 5
VMS_SHOWN = 8
REMAINING_TOLD = 100
"""VMs that are not updated in the end, of each campaign: named on a page, and in JSON; the outcomes have them all."""
UNITS_SHOWN = 4
"""Units of a chain, of its start and of its end."""
COLUMN_WIDTH_MAX, TITLE_WIDTH_MAX = 30, 20
"""Of columns and what stands above them, where not all have room beside one another."""
APPROXIMATE = (
    *(f"{word}_ms_{which}" for word in ("paused", "down") for which in ("p50", "p99", "max")),
    "paused_over_ratio",
)
"""Figures taken from the engine's histogram where a run kept neither outcomes nor events."""
OF_WHOLE = ("length_ms", "length_bound_ratio", "set_down_ratio_max", "set_out_ms", "no_guarantee_count", "waited_ms")
"""Figures that stay those of the whole campaign where only some VMs are looked at."""
_OPTIONAL = (
    "pending_vm_ms",
    "application_down_ratio_max",
    "application_out_ms",
    "quorum_lost_ms",
    "self_service_ratio",
    "temp_disk_lost_gib",
    "addresses_changed_count",
)
"""Figures that a run without applications, quorum or customers who act, or of an earlier version, does not have."""


def report(
    run: str | Path | Url,
    *,
    by: Sequence[str | Sequence[str]] = (),
    only: Sequence[str] | Mapping[str, str | Sequence[str]] = (),
    timeouts: Sequence[str] = (),
    progress: Progress | None = None,
) -> "Report":
    """Sum up the finished run in folder *run*.

    Each of *by* is a fleet column, several joined by commas, or a sequence of them, and adds one table of
    groups. *only* looks at some VMs alone: `COLUMN=VALUE`, as often as wanted, or column -> value or values; a VM
    must have one of the values of each column. What is of a whole campaign, as its length, stays so. *timeouts*
    (`25s`) are lengths of pauses besides those always told: which share of the VMs hit is paused longer.

    Raise `InputError` if *run* is no finished run, its schema is newer than ours, a column is unknown, no VM is left,
    or the run kept nothing that groups or some VMs can be counted from.
    """
    files = RunFiles.open(run)
    asked = [by] if isinstance(by, str) else by
    columns_of = (each.split(",") if isinstance(each, str) else each for each in asked)
    groupings = list(dict.fromkeys(tuple(dict.fromkeys(columns)) for columns in columns_of))
    bounds_ms = {figures.pause_ms(each) for each in ([timeouts] if isinstance(timeouts, str) else timeouts)}
    files.check_columns("by", dict.fromkeys(column for columns in groupings for column in columns))
    narrow = replace(files.narrowed(_wanted(only)), progress=progress)
    try:
        return _summed_up(narrow, groupings, sorted(bounds_ms.union(figures.PAUSE_BOUNDS_MS)))
    except (pl.exceptions.ComputeError, pl.exceptions.ColumnNotFoundError, OSError) as error:
        raise InputError(
            f"{files.path}: its files must be as the run wrote them, got {error}; see `fleetsim verify`"
        ) from error


def _wanted(only: Sequence[str] | Mapping[str, str | Sequence[str]]) -> dict[str, list[str]]:
    """Column -> values of *only*; raise `InputError` for what is no COLUMN=VALUE."""
    if isinstance(only, Mapping):
        return {
            name: [each] if isinstance(each, str) else [str(value) for value in each] for name, each in only.items()
        }
    asked = [only] if isinstance(only, str) else list(only)
    if wrong := [each for each in asked if not each.partition("=")[0] or "=" not in each]:
        raise InputError(f"only: must be COLUMN=VALUE, got '{each}'" for each in wrong)
    wanted: dict[str, list[str]] = {}
    for each in asked:
        column, _, value = each.partition("=")
        wanted.setdefault(column, []).append(value)
    return wanted


def _summed_up(files: RunFiles, groupings: list[tuple[str, ...]], bounds_ms: list[int]) -> "Report":
    of_vm = figures.tallies(files, bounds_ms, outcomes=bool(files.only))
    counted = figures.impacts(files, {}, [["campaign"], figures.STAGE], of_vm)
    stage_rows = figures.stages(files)
    campaign_rows = _of_vms(files, counted, figures.campaigns(files, stage_rows), ["campaign"])
    own_rows = _of_vms(files, counted, stage_rows, figures.STAGE)
    applications = figures.application_outages(files)
    if applications is not None:
        campaign_rows = _with_applications(files, campaign_rows, applications)
    if "over_tolerance_count" in of_vm and "workload" in files.fleet_schema and ("workload",) not in groupings:
        groupings = [("workload",), *groupings]
    return Report(
        files=files,
        campaign_rows=_known(campaign_rows),
        stage_rows=_known(own_rows),
        hour_rows=figures.hours(files),
        pause_rows=figures.pauses_over(counted, bounds_ms),
        wait_rows=figures.waits(files, stage_rows),
        service_rows=figures.service_levels(files, campaign_rows, applications),
        applications=applications,
        groups=[_groups(files, columns) for columns in groupings],
        intolerances=figures.intolerances(files),
        bounds={each["name"]: figures.bound(files, stage_rows, each) for each in files.campaigns},
        chains={each["name"]: figures.chain(files, stage_rows, each["name"]) for each in files.campaigns},
        hosts={
            each["name"]: figures.hosts_of(
                files,
                stage_rows.filter(pl.col("end_ms").is_not_null(), campaign=each["name"])["region"].to_list(),
                each.get("walk_by", "update_domain"),
            )
            for each in files.campaigns
        },
        iterations=figures.iterations(files, own_rows),
        remaining=figures.remaining(files, own_rows, REMAINING_TOLD),
        no_guarantee=files.scan("no_guarantee").collect(),
        approximate=() if files.has("outcomes") or files.has("events") else APPROXIMATE,
        bands=figures.bands(files),
    )


def figures_of_sums(files: RunFiles) -> pl.DataFrame:
    """Rows of schema.REPORT that *files* tells without outcomes and events: of campaigns, stages and pauses."""
    counted = figures.impacts(files, {}, [["campaign"], figures.STAGE], figures.tallies(files, figures.PAUSE_BOUNDS_MS))
    stage_rows = figures.stages(files)
    campaign_rows = _of_vms(files, counted, figures.campaigns(files, stage_rows), ["campaign"])
    grains = [
        ("campaign", ["campaign"], _known(campaign_rows)),
        ("stage", list(figures.STAGE), _known(_of_vms(files, counted, stage_rows, figures.STAGE))),
        ("pause", ["campaign", "pause"], figures.pauses_over(counted, figures.PAUSE_BOUNDS_MS)),
    ]
    return pl.concat(_long(*each) for each in grains)


def _of_vms(files: RunFiles, counted: pl.DataFrame, rows: pl.DataFrame, grain: Sequence[str]) -> pl.DataFrame:
    """*rows* of the whole with the figures of VMs *counted*: pauses, and all others where only some are looked at."""
    of_vms = figures.impact_by(counted, grain)
    if files.only:
        of_vms = of_vms.join(
            figures.times(files, {}, grain).drop("unavailable_ms", "start_count"), on=grain, how="left"
        )
        is_ours = [name for name in FIGURES if name in rows.columns and name not in (*OF_WHOLE, *_OPTIONAL)]
        rows = rows.drop(*is_ours, "pending_vm_ms", strict=False)
    found = [name for name in FIGURES if name in of_vms.columns and name not in rows.columns]
    joined = rows.join(of_vms.select(*grain, *found), on=grain, how="left", maintain_order="left")
    sums = [name for name in found if name.endswith("_count") or name == "unavailable_ms"]
    return joined.with_columns(pl.col(sums).fill_null(0))


def _with_applications(files: RunFiles, rows: pl.DataFrame, applications: pl.DataFrame) -> pl.DataFrame:
    """Campaigns' *rows* with what applications add up to: what an earlier run's summary lacks, or our VMs' alone."""
    sums = applications.group_by("campaign").agg(
        pl.col("application_down_ratio_max").max(),
        *(pl.col(name).sum().alias(f"{name}_here") for name in ("application_out_ms", "quorum_lost_ms")),
    )
    has_quorum = files.resolved.get("quorum", {}).get("by") == "application"
    here = {
        "application_out_ms": pl.col("application_out_ms_here").fill_null(0),
        **({"quorum_lost_ms": pl.col("quorum_lost_ms_here").fill_null(0)} if has_quorum else {}),
    }
    return (
        rows.join(sums, on="campaign", how="left", maintain_order="left")
        .with_columns(**{name: each if files.only else pl.coalesce(name, each) for name, each in here.items()})
        .drop("application_out_ms_here", "quorum_lost_ms_here")
    )


def _known(rows: pl.DataFrame) -> pl.DataFrame:
    """*rows* without the figures that the run does not have."""
    return rows.drop(name for name in _OPTIONAL if name in rows.columns and rows[name].is_null().all())


def _groups(files: RunFiles, columns: tuple[str, ...]) -> "Groups":
    # The fleet's own names may be those of figures: columns of a grouping are addressed by place.
    names = ["region" if column == "region" else f"by_{place}" for place, column in enumerate(columns)]
    others = {name: column for name, column in zip(names, columns, strict=True) if name != "region"}
    grain = ["campaign", *names]
    rows = figures.impact_by(figures.impacts(files, others, [grain], figures.tallies(files)), grain)
    if files.has("events"):
        times = figures.times(files, others, grain).select(*grain, "first_start_ms", "last_end_ms")
        rows = rows.join(times, on=grain, how="left", nulls_equal=True, maintain_order="left")
    return Groups(columns, tuple(names), rows)


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


class Sheet(ABC):
    """What is told as a page of a terminal or of Markdown, as JSON, and as one long table."""

    @property
    @abstractmethod
    def frame(self) -> pl.DataFrame:
        """All of it as one table."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """All of it as one JSON object."""

    @abstractmethod
    def _page(self) -> "Iterator[Block]":
        """The page, block by block."""

    @abstractmethod
    def _parquet(self) -> tuple[schema.Table, dict[str, str]]:
        """What `frame` is in the schema, and the provenance that its file carries."""

    def render(self, console: Console) -> None:
        """Print the page to *console*, within its width."""
        for place, block in enumerate(self._page()):
            if place:
                console.print()
            block.render(console)

    def write(self, path: str | Path, format: str = "parquet") -> None:  # noqa: A002
        """Write `frame` as `parquet` or `csv`, `to_dict` as `json`, or the page as `markdown`, to *path*.

        Atomic; a file there is replaced.
        """
        if format not in FORMATS:
            raise InputError(f"format: must be one of {', '.join(FORMATS)}, got '{format}'{nearest(format, FORMATS)}")
        path = Path(path)
        if path.is_dir():
            raise InputError(f"{path}: must be a file, got a folder")
        if not path.parent.is_dir():
            raise InputError(f"{path}: must be in a folder that is there, got none{nearest_path(path.parent)}")
        unfinished = path.with_name(f".{path.name}.unfinished")
        try:
            if format == "parquet":
                self._write_parquet(unfinished)
            else:
                unfinished.write_text(self.text(format), "utf-8", newline="\n")
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    def text(self, format: str) -> str:  # noqa: A002
        """What `write` writes as `json`, `csv` or `markdown`."""
        if format == "json":
            return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, indent=2) + "\n"
        return self.frame.write_csv() if format == "csv" else "\n".join(_markdown(self._page()))

    def _write_parquet(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = {"text": pa.dictionary(pa.int32(), pa.string()), "f64": pa.float64(), "u32": pa.uint32()}
        declared, provenance = self._parquet()
        fields = [
            pa.field(column.name, types[column.dtype], nullable=column.is_nullable)
            for column in declared.columns
            if column.name in self.frame.columns
        ]
        provenance |= {"fleetsim.schema_version": str(schema.SCHEMA_VERSION), "fleetsim.table": declared.name}
        table = self.frame.to_arrow().cast(pa.schema(fields, metadata=provenance))
        pq.write_table(table, path)


@dataclass(frozen=True)
class Report(Sheet):
    """The figures of one run; `frame` is the table `report` of the schema.

    A key is the campaign, then what the grain adds, joined by `/`: `hypervisor`, `hypervisor/1/westeurope` of
    a stage, `hypervisor/17` of an hour, `hypervisor/25s` of a pause, `hypervisor/pair` of a cause, `hypervisor/vm` of
    service levels, `hypervisor/shop` of an application, `hypervisor/2x3.5` by size. `/` and `%` inside a part are
    percent-encoded; `%00` is a null.
    """

    files: RunFiles
    campaign_rows: pl.DataFrame
    stage_rows: pl.DataFrame
    hour_rows: pl.DataFrame
    pause_rows: pl.DataFrame
    wait_rows: pl.DataFrame
    service_rows: pl.DataFrame
    applications: pl.DataFrame | None
    groups: list[Groups]
    intolerances: list[Intolerance]
    bounds: dict[str, Bound | None]
    chains: dict[str, list[Link]]
    hosts: dict[str, Hosts | None]
    iterations: pl.DataFrame
    remaining: dict[str, list[dict[str, Any]]]
    no_guarantee: pl.DataFrame
    approximate: tuple[str, ...]
    bands: pl.DataFrame | None
    """Where there are replicas: the range of a figure over them, by grain and key as in `frame`."""

    @cached_property
    def frame(self) -> pl.DataFrame:
        """The whole report, one row a figure, grain and key."""
        # Where only some VMs are looked at, stages without one are nothing to us.
        stages = self.stage_rows.filter(pl.col("vm_count") > 0) if self.files.only else self.stage_rows
        grains = [
            ("campaign", ["campaign"], self.campaign_rows),
            ("stage", list(figures.STAGE), stages),
            ("hour", ["campaign", "hour"], self.hour_rows),
            ("pause", ["campaign", "pause"], self.pause_rows),
            ("cause", ["campaign", "cause"], self.wait_rows),
            ("sla", ["campaign", "of"], self.service_rows),
            *(
                [("application", ["campaign", "application"], self.applications)]
                if self.applications is not None
                else []
            ),
            *((groups.grain, ["campaign", *groups.names], groups.rows) for groups in self.groups),
        ]
        told = pl.concat([_long(*each) for each in grains])
        if self.bands is None:
            return told
        return told.join(self.bands, on=["figure", "grain", "key"], how="left", maintain_order="left")

    @property
    def replica_count(self) -> int:
        """How often the run was drawn."""
        return int(self.files.manifest.get("replicas", 1))

    @property
    def draws(self) -> str:
        """Of how many draws this is which, in words."""
        if replica := self.files.manifest.get("replica"):
            return f"replica {replica:,}"
        return "one draw" if self.replica_count == 1 else f"{self.replica_count:,} draws, of which this is the first"

    def band(self, campaign: str, figure: str) -> tuple[float, float] | None:
        """p05 and p95 of a *figure* of *campaign* over the replicas; None where there are none, or it has no value."""
        if self.bands is None:
            return None
        found = self.bands.filter(grain="campaign", key=campaign, figure=figure)
        return None if found.is_empty() else found.select("p05", "p95").row(0)

    def header(self) -> dict[str, Any]:
        """What was run: names, sizes, seed, digests, what is invented, warnings."""
        manifest, resolved = self.files.manifest, self.files.resolved
        return {
            "run": self.files.path.name or str(self.files.path),
            "scenario": resolved["name"],
            "start": resolved["start"].isoformat().replace("+00:00", "Z"),
            "seed": resolved["seed"],
            "replica": int(manifest.get("replica", 0)),
            "replica_count": self.replica_count,
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
            "only": {column: list(values) for column, values in self.files.only.items()},
            "of_whole_campaigns": list(self.of_whole),
        }

    @property
    def of_whole(self) -> tuple[str, ...]:
        """Figures that are of whole campaigns though only some VMs are looked at."""
        if not self.files.only:
            return ()
        of_sets = self.files.resolved.get("quorum", {}).get("by") == "set"
        return (*OF_WHOLE, *(["quorum_lost_ms"] if of_sets else []))

    def to_dict(self) -> dict[str, Any]:
        """The report as one JSON object: the header, service levels, then each campaign: figures, bound, chain, ..."""
        return self.header() | {
            "units": {figure.name: figure.unit for figure in FIGURES.values()},
            "approximate": list(self.approximate),
            "service_levels": [
                {"campaign": row["campaign"], "of": row["of"], "figures": _figures_of(row)}
                for row in self.service_rows.iter_rows(named=True)
            ],
            "campaigns": [self._campaign_dict(campaign) for campaign in self.files.campaigns],
        }

    def _campaign_dict(self, campaign: dict[str, Any]) -> dict[str, Any]:
        name = campaign["name"]
        own = pl.col("campaign") == name
        best = self.bounds[name]
        stage_names = ["iteration", "region", "wave", "asked_ms", "start_ms", "end_ms", "free_ms", "bottleneck"]
        return {
            "campaign": name,
            "kind": campaign["kind"],
            "regions": campaign["regions"],
            "figures": _figures_of(self.campaign_rows.filter(own).row(0, named=True)),
            **({} if self.bands is None else {"bands": self._bands_of(name)}),
            "bound": asdict(best) | {"sentence": best.sentence()} if best else None,
            "chain": [asdict(link) | {"sentence": link.sentence(name)} for link in self.chains[name]],
            "explanation": self._explained(name),
            "waited_ms": dict(self.wait_rows.filter(own).select("cause", "waited_ms").rows()),
            "paused_over_ratio": dict(self.pause_rows.filter(own).select("pause", "paused_over_ratio").rows()),
            "intolerances": [asdict(each) for each in self.intolerances if each.campaign == name],
            "applications": [
                {"application": row["application"], "figures": _figures_of(row)}
                for row in ([] if self.applications is None else self.applications.filter(own).iter_rows(named=True))
            ],
            "no_guarantee": self._no_guarantee_of(campaign),
            "iterations": self.iterations.filter(own).drop("campaign").to_dicts(),
            "remaining": self.remaining.get(name, []),
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

    def _bands_of(self, campaign: str) -> dict[str, list[float]]:
        """p05 and p95 of each figure of *campaign* over the replicas."""
        assert self.bands is not None
        own = self.bands.filter(grain="campaign", key=campaign).select("figure", "p05", "p95")
        return {figure: [low, high] for figure, low, high in own.iter_rows()}

    def _no_guarantee_of(self, campaign: dict[str, Any]) -> dict[str, int]:
        """Sets without guarantee in the regions of *campaign*, counted by reason; reasons that occur."""
        counts = dict(
            self.no_guarantee.filter(pl.col("region").is_in(campaign["regions"]))["reason"].value_counts().rows()
        )
        return {word: counts[word] for word in schema.words(schema.NoGuarantee) if word in counts}

    def _parquet(self) -> tuple[schema.Table, dict[str, str]]:
        manifest = self.files.manifest
        return schema.REPORT, {
            "fleetsim.scenario_digest": manifest["scenario_digest"],
            "fleetsim.fleet_digest": manifest["fleet_digest"],
            "fleetsim.seed": str(manifest["seed"]),
            "fleetsim.version": str(manifest["fleetsim_version"]),
            "fleetsim.approximate": json.dumps(list(self.approximate)),
            "fleetsim.only": json.dumps(self.files.only),
        }

    # The page

    def _page(self) -> "Iterator[Block]":
        return (block for _, _, block in self.blocks())

    def blocks(self) -> "Iterator[tuple[str, str | None, Block]]":
        """What the report shows, in order: a subject, the campaign (None: all of them), and a block of it.

        Subjects: `run`, `figures`, `why`, `units`, `iterations`, `no_guarantee`, `hours`, `applications`,
        `tolerance`, `pauses`, `services`, `groups`.
        """
        yield from (("run", None, block) for block in self._header_blocks())
        yield from (("figures", None, block) for block in self._campaign_figures())
        for campaign in self.files.campaigns:
            for subject, block in self._campaign_blocks(campaign):
                yield subject, campaign["name"], block
        yield from (("pauses", None, block) for block in self._pause_blocks())
        yield from (("services", None, block) for block in self._service_blocks())
        for groups in self.groups:
            yield from (("groups", None, block) for block in self._group_blocks(groups))

    def _header_blocks(self) -> "Iterator[Block]":
        header = self.header()
        fleet = f"{_counted(header['vm_count'], 'VM')} in {_counted(header['region_count'], 'region')}"
        start = f"{header['start']}, seed {header['seed']}, preset {header['preset']}, {self.draws}"
        items = [("fleet", fleet), ("start", start), ("digest", header["run_digest"])]
        if self.files.only:
            asked = " and ".join(f"{column}={' or '.join(values)}" for column, values in self.files.only.items())
            whole = ", ".join(name for name in self.of_whole)
            items.append(("only", f"VMs with {asked}; of whole campaigns stay {whole}, and what bounds their length"))
        items += [("invented", each) for each in header["invented"]]
        items += [("warning", each) for each in header["warnings"]]
        yield Items(f"{header['scenario']} in {header['run']}", items)

    def _campaign_figures(self) -> "Iterator[Block]":
        """Figures down, campaigns across."""
        rows = self.campaign_rows.to_dicts()
        names = [
            name
            for name in FIGURES
            if name in self.campaign_rows.columns
            # Of the ways to end an iteration, those that occur; of pauses and downtime, what there is.
            and (name not in (*figures.OUTCOME_COUNTS, "remaining_count") or any(row[name] for row in rows))
            and (name not in APPROXIMATE or any(row[name] is not None for row in rows))
        ]
        notes = []
        if self.approximate:
            notes.append("~ from the engine's histogram, 1/64 too low at most: the run kept no outcomes and no events")
        notes += self._bound_notes()
        if self.bands is not None:
            notes.append(f"p05 to p95: of {self.replica_count:,} draws; =: the same from one to the other")
        header, columns = ["campaign"], [names]
        for row in rows:
            header.append(row["campaign"])
            columns.append([self._spelt(name, row[name]) for name in names])
            if self.bands is not None:
                header.append("p05 to p95")
                columns.append([self._band(row["campaign"], name) for name in names])
        cells = [list(cells) for cells in zip(*columns, strict=True)]
        yield Grid(None, header, cells, together_count=1 if self.bands is None else 2, notes=notes)

    def _band(self, campaign: str, name: str) -> str:
        """From where to where a figure of *campaign* goes over the replicas; that it does not, or none is known."""
        band = self.band(campaign, name)
        if band is None:
            return "-"
        low, high = (spelt(name, each) for each in band)
        return "=" if band[0] == band[1] else f"{low} to {high}"

    def _bound_notes(self) -> Iterator[str]:
        """That windows, which no bound knows, make a campaign many times as long as its bound."""
        own = [name for name, best in self.bounds.items() if best is not None and best.has_windows]
        if own:
            of = f" of {', '.join(own)}" if len(own) < len(self.files.campaigns) else ""
            yield (
                f"length_bound_ratio{of} tells of windows, not of the order: VMs start at random within them, stages"
                " and iterations wait for them, and the bound has only the work"
            )

    def _spelt(self, name: str, value: float | None) -> str:
        return spelt(name, value, is_about=name in self.approximate)

    def _campaign_blocks(self, campaign: dict[str, Any]) -> "Iterator[tuple[str, Block]]":
        name, best = campaign["name"], self.bounds[campaign["name"]]
        title = f"{name}: what bounds its length, by time since scenario start"
        row = self.campaign_rows.row(by_predicate=pl.col("campaign") == name, named=True)
        links = self.chains[name]
        if best is None or not links:
            is_empty = self.stage_rows.filter(pl.col("campaign") == name).is_empty()
            nobody = (
                "No VM is in scope: there was nothing to do."
                if is_empty
                else "The platform hit no VM: it took no time."
            )
            yield "why", Items(title, [("", nobody), *self._remaining(name)])
        else:
            end_ms = links[-1].end_ms
            total = (
                f"{duration(row['length_ms'])} from its first unit's start, at {duration(end_ms - row['length_ms'])},"
                f" to its last unit's end, at {duration(end_ms)}"
            )
            items = [(f"{place}.", link.sentence(name)) for place, link in enumerate(links, start=1)]
            items.append(("=", f"{total}; {best.sentence()}"))
            if any(link.units for link in links):
                items[-1] = ("=", total)
                items.append(("?", " ".join(self._explained(name))))
            waited = self.wait_rows.filter(campaign=name).select("cause", "waited_ms").rows()
            if any(value_ms for _, value_ms in waited):
                terms = [f"{duration(value_ms)} {_WAITS[cause]}" for cause, value_ms in waited if value_ms]
                items.append(("+", f"its stages waited, summed up: {', '.join(terms)}"))
            yield "why", Items(title, [*items, *self._remaining(name)])
            yield from (("units", block) for block in self._chain_blocks(name))
        yield from (("iterations", block) for block in self._iteration_blocks(name))
        yield from (("no_guarantee", block) for block in self._no_guarantee_blocks(campaign, row["no_guarantee_count"]))
        yield from (("hours", block) for block in self._hour_blocks(name))
        yield from (("applications", block) for block in self._application_blocks(name))
        yield from (("tolerance", block) for block in self._intolerance_blocks(name))

    def _explained(self, campaign: str) -> list[str]:
        """Why *campaign* takes so long, where units could wait for one another."""
        links = self.chains[campaign]
        if not any(link.units for link in links):
            return []
        length_ms = self.campaign_rows.row(by_predicate=pl.col("campaign") == campaign, named=True)["length_ms"]
        asked = next(each for each in self.files.campaigns if each["name"] == campaign)
        return figures.explained(links, self.bounds[campaign], length_ms, asked, self.hosts[campaign])

    def _chain_blocks(self, campaign: str) -> "Iterator[Block]":
        """The units that led to the end of *campaign*, where units could wait for one another."""
        for link in self.chains[campaign]:
            if len(link.units) < 2:
                continue
            rows = [
                [f"{place:,}", hop.name, duration(hop.start_ms), duration(hop.held_ms), hop.waited_for or "-"]
                for place, hop in enumerate(link.units, start=1)
            ]
            if len(rows) > 2 * UNITS_SHOWN:
                rows = [*rows[:UNITS_SHOWN], ["...", "", "", "", ""], *rows[-UNITS_SHOWN:]]
            header = ["", "unit", "starts", "held", "waited for"]
            yield Grid(f"{campaign}: who led to the end in {link.region}", header, rows, key_count=2)

    def _remaining(self, campaign: str) -> "Iterator[tuple[str, str]]":
        """Who is left without the update in the end, and why: no room, or failures, of customers or of the platform."""
        if not {"overdue_count", "skipped_count", "failed_count", "remaining_count"} <= set(self.stage_rows.columns):
            return
        left = self.stage_rows.filter(pl.col("campaign") == campaign, pl.col("remaining_count") > 0).sort("region")
        has_opened = pl.col("start_ms").is_not_null()
        for word, is_so, why in (
            ("overdue", ~has_opened, "the campaign would have ended after the horizon"),
            ("overdue", has_opened, "what was left did not fit into the scheduled window"),
            ("skipped", has_opened, "the last attempt of their customers, or a neighbour's on their host, failed"),
            ("failed", has_opened, "every try in the scheduled window failed"),
        ):
            rows = left.filter(is_so, pl.col(f"{word}_count") > 0)
            if not len(rows):
                continue
            first = ", ".join(rows["region"].head(SETS_SHOWN))
            more = f" and {len(rows) - SETS_SHOWN:,} more" if len(rows) > SETS_SHOWN else ""
            vms = _counted(int(rows[f"{word}_count"].sum()), "VM")
            yield "!", f"{vms} {word}: in {first}{more} {why}"
        if named := self.remaining.get(campaign):
            others = int(left["remaining_count"].sum()) - len(named[:VMS_SHOWN])
            more = f" and {others:,} more" if others else ""
            yield "!", f"not updated: {', '.join(str(vm['vm']) for vm in named[:VMS_SHOWN])}{more}"

    def _iteration_blocks(self, campaign: str) -> "Iterator[Block]":
        """What became of whom in each iteration of a campaign with windows, phase by phase."""
        own = self.iterations.filter(pl.col("campaign") == campaign)
        if own.is_empty():
            return
        columns = own.to_dicts()
        rows = [
            [
                title,
                *("-" if row[name] is None else duration(row[name]) if name.endswith("_ms") else f"{row[name]:,}"
                for row in columns),
            ]
            for name, title in _ITERATION_TITLES.items()
            if name in own.columns and (name in _ITERATION_ALWAYS or any(row[name] for row in columns))
        ]  # fmt: skip
        yield Grid(
            f"{campaign}: its iterations, by time since scenario start",
            ["", *(str(row["iteration"]) for row in columns)],
            rows,
            are_keys_sentences=True,
        )

    def _no_guarantee_blocks(self, campaign: dict[str, Any], count: int) -> "Iterator[Block]":
        counts = self._no_guarantee_of(campaign)
        if not counts or not count:
            return
        reasons = ", ".join(f"{_counted(count, 'set')} {_REASONS[word]}" for word, count in counts.items())
        own = self.no_guarantee.filter(pl.col("region").is_in(campaign["regions"]))
        some = own.head(SETS_SHOWN).group_by("region", maintain_order=True).agg(pl.col("set").cast(pl.String))
        first = "; ".join(f"{', '.join(sets)} in {region}" for region, sets in some.rows())
        more = f"; {len(own) - SETS_SHOWN:,} more" if len(own) > SETS_SHOWN else ""
        title = f"{campaign['name']}: sets not promised a VM that stays up"
        yield Items(title, [("!", f"{reasons}: {first}{more}")])

    def _hour_blocks(self, campaign: str) -> "Iterator[Block]":
        rows = self.hour_rows.filter(pl.col("campaign") == campaign).drop("campaign")
        if not rows.is_empty():
            yield Chart(campaign, tuple(rows.rows()))

    def _application_blocks(self, campaign: str) -> "Iterator[Block]":
        """Applications, worst first: when each is hit, how much of it at once, whether its quorum breaks."""
        if self.applications is None:
            return
        own = self.applications.filter(pl.col("campaign") == campaign)
        if own.is_empty():
            return
        names = [name for name in _APPLICATION_TITLES if not own[name].is_null().all()]
        more = len(own) - APPLICATIONS_SHOWN
        whole = " with all their VMs," if self.files.only else ""
        yield Grid(
            f"{campaign}: {_counted(len(own), 'application')} hit,{whole} worst first",
            ["application", *(_APPLICATION_TITLES[name] for name in names)],
            [
                [row["application"], *(self._spelt(name, row[name]) for name in names)]
                for row in own.head(APPLICATIONS_SHOWN).iter_rows(named=True)
            ],
            together_count=2,
            notes=[*([f"... {more:,} more"] if more > 0 else []), *self._idle_quorum(own)],
        )

    def _idle_quorum(self, applications: pl.DataFrame) -> "Iterator[str]":
        """That a count of VMs is more than any application has, for it was perhaps meant as a share."""
        quorum = self.files.resolved.get("quorum", {})
        most, min_up = int(applications["vm_count"].max()), quorum.get("min_up")  # type: ignore[arg-type]
        if quorum.get("by") == "application" and isinstance(min_up, int) and most < min_up:
            yield f"no application hit has the {min_up:,} VMs that quorum.min_up asks for, so none is without quorum"

    def _intolerance_blocks(self, campaign: str) -> "Iterator[Block]":
        """Workloads paused longer than they stand, side by side, and what helps each."""
        own = [each for each in self.intolerances if each.campaign == campaign]
        shown = own[:INTOLERANCES_SHOWN]
        if not shown:
            return
        remedies = [{remedy.name: remedy for remedy in each.remedies} for each in shown]
        rows = [
            ["VMs paused too long", *(f"{each.over_tolerance_count:,}" for each in shown)],
            ["of VMs hit", *(f"{each.vm_hit_count:,}" for each in shown)],
            ["shortest pause that one of them stands", *(duration(each.tolerance_ms_min) for each in shown)],
        ]
        for name, words in REMEDIES.items():
            saved = [of_workload.get(name) for of_workload in remedies]
            rows.append([words, *("-" if each is None else _saved(each) for each in saved)])
        rows.append(["  VMs then left without the update", *(f"{each.left_out_count:,}" for each in shown)])
        more = len(own) - len(shown)
        yield Grid(
            f"{campaign}: workloads paused longer than they stand, and how many VMs a remedy saves",
            ["", *("(no workload)" if each.workload is None else each.workload for each in shown)],
            rows,
            are_keys_sentences=True,
            notes=[*([f"... {more:,} more workloads"] if more else []), "~ expected of a draw, or typical"],
        )
        snippets = {}
        for each in shown:
            for remedy in each.remedies:
                if remedy.toml is not None and remedy.saved_count > 0:
                    is_leaving = remedy.name == "leaving_out"
                    comment = (
                        f"# without {_shown(each.workload or 'VMs that have no workload')}\n" if is_leaving else ""
                    )
                    snippets[remedy.name, remedy.toml] = comment + remedy.toml
        place = list(REMEDIES)
        lines = [snippets[key] for key in sorted(snippets, key=lambda key: place.index(key[0]))]
        yield Code(f"in the scenario, under campaign {campaign}, one of", "toml", "\n".join(lines))

    def _pause_blocks(self) -> "Iterator[Block]":
        """P(pause > t): what a guest with a time-out of t sees."""
        known = self.pause_rows.drop_nulls("paused_over_ratio")
        if known.is_empty():
            return
        bounds = known.select("pause", "pause_ms").unique().sort("pause_ms")["pause"].to_list()
        yield Grid(
            "share of the VMs hit that are paused longer than",
            [
                "campaign",
                *(pause.replace("ms", " ms") if pause.endswith("ms") else f"{pause[:-1]} s" for pause in bounds),
            ],
            [
                [name, *(self._spelt("paused_over_ratio", ratios[pause]) for pause in bounds)]
                for name in self.campaign_rows["campaign"]
                if (ratios := dict(known.filter(campaign=name).select("pause", "paused_over_ratio").rows()))
            ],
        )

    def _service_blocks(self) -> "Iterator[Block]":
        if self.service_rows.is_empty():
            return
        lines = {name: f"{int(name.split('_')[1]) / 100:g} %" for name in figures.SLA_COUNTS}
        kinds = [_OF[of] for of in self.service_rows["of"].unique(maintain_order=True)]
        if not self.service_rows.select(pl.sum_horizontal(pl.col(list(lines)).sum())).item():
            *first, last = lines.values()
            none = f"no {' and no '.join(kinds)} misses {', '.join(first)} or {last} in a month"
            yield Items("service levels, by months of 30 days since scenario start", [("", none)])
            return
        yield Grid(
            "service levels: how many miss them in one of the months of 30 days since scenario start",
            ["campaign", "of", *lines.values()],
            [
                ["all together" if row["campaign"] == "*" else row["campaign"], f"{_OF[row['of']]}s"]
                + [f"{row[name]:,}" for name in lines]
                for row in self.service_rows.iter_rows(named=True)
            ],
            key_count=2,
        )

    def _group_blocks(self, groups: Groups) -> "Iterator[Block]":
        """One table a campaign, largest groups first."""
        for campaign in self.files.campaigns:
            own = groups.rows.filter(pl.col("campaign") == campaign["name"])
            if own.is_empty():
                continue
            names = [name for name in _TITLES if name in own.columns]
            # Everybody is hit, mostly: a column that repeats its neighbour would take the width of the names.
            if own["vm_count"].equals(own["vm_hit_count"]):
                names.remove("vm_hit_count")
            # A freeze takes nobody down, a reboot pauses nobody: what no group has takes no width either.
            names = [name for name in names if not own[name].is_null().all()]
            if "paused_ms_max" not in names and "over_tolerance_count" in names:
                names.remove("over_tolerance_count")
            more = len(own) - ROWS_SHOWN
            yield Grid(
                f"{campaign['name']} by {', '.join(groups.columns)}",
                [*groups.columns, *(_TITLES[name] for name in names)],
                [
                    ["-" if row[each] is None else str(row[each]) for each in groups.names]
                    + [self._spelt(name, row[name]) for name in names]
                    for row in own.head(ROWS_SHOWN).iter_rows(named=True)
                ],
                key_count=len(groups.columns),
                together_count=2 if "last_end_ms" in names else 1,
                notes=[f"... {more:,} more"] if more > 0 else [],
            )


# Blocks of a page


@dataclass(frozen=True, slots=True)
class Items:
    """A list of sentences, each with a label."""

    title: str | None
    items: list[tuple[str, str]]

    def render(self, console: Console) -> None:
        _print_title(console, self.title)
        if not any(label for label, _ in self.items):
            for _, sentence in self.items:
                console.print(Padding(Text(_shown(sentence), overflow="fold"), (0, 0, 0, 2), expand=False))
            return
        grid = Table.grid(padding=(0, 2 if any(len(label) > 2 for label, _ in self.items) else 1))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        for label, sentence in self.items:
            grid.add_row(Text(_shown(label), style="yellow" if label == "warning" else "dim"), Text(_shown(sentence)))
        console.print(Padding(grid, (0, 0, 0, 2), expand=False))

    def markdown(self) -> Iterator[str]:
        for label, sentence in self.items:
            # A label that counts or marks says nothing in a list; a word does.
            yield f"- {f'{label}: ' if label.isalpha() else ''}{_escaped(sentence)}"


@dataclass(frozen=True, slots=True)
class Grid:
    """A table: the first *key_count* columns name a row, the others are right-aligned.

    Columns that a terminal has no room for follow in a table of their own, below; the last *together_count* stay
    together. Keys are cut to a third of its width; to a half where they are sentences, or one table cannot hold all.
    """

    title: str | None
    header: list[str]
    rows: list[list[str]]
    key_count: int = 1
    together_count: int = 1
    are_keys_sentences: bool = False
    notes: Sequence[str] = ()

    def render(self, console: Console) -> None:
        _print_title(console, self.title)
        indent = 2
        titles = [cell_len(_shown(name)) for name in self.header]
        cells_wide = [
            max((cell_len(_shown(row[place])) for row in self.rows), default=0) for place in range(len(titles))
        ]
        widths = [max(each) for each in zip(titles, cells_wide, strict=True)]
        gap = 2
        if indent + sum(widths) + gap * (len(widths) - 1) > console.width:
            for place in range(self.key_count, len(widths)):
                cut = min(titles[place], TITLE_WIDTH_MAX), min(cells_wide[place], COLUMN_WIDTH_MAX)
                widths[place] = max(cut)
        values = [width + gap for width in widths[self.key_count :]]
        keys = sum(widths[: self.key_count]) + gap * self.key_count
        least = min(keys, max(console.width // (2 if self.are_keys_sentences else 3), 16))
        room = console.width - indent - least + gap  # the last column has none after it
        if sum(values) > room and not self.are_keys_sentences:
            # More than one table it will be, so names, which may begin alike, have the room that they need.
            least = min(keys, max(console.width // 2, 16))
            room = console.width - indent - least + gap
        tables: list[list[int]] = [[]]
        alone = list(range(len(values)))
        last = alone[-self.together_count :]
        for places in [*([place] for place in alone[: -self.together_count]), last]:
            if tables[-1] and sum(values[each] for each in [*tables[-1], *places]) > room:
                tables.append([])
            tables[-1] += places
        for number, places in enumerate(tables):
            if number:
                console.print()
            left = console.width - indent - sum(values[place] for place in places) - gap * (self.key_count - 1)
            table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False)
            for place, width in enumerate(_shared(left, widths[: self.key_count])):
                title = Text(_shown(self.header[place]), overflow="ellipsis", no_wrap=True)
                table.add_column(title, overflow="ellipsis", no_wrap=True, width=width)
            for place in places:
                width = widths[self.key_count + place]
                title = Text(_squeezed(_shown(self.header[self.key_count + place]), width), no_wrap=True)
                table.add_column(title, justify="right", max_width=width, no_wrap=True)
            for row in self.rows:
                cells = [*row[: self.key_count], *(row[self.key_count + place] for place in places)]
                table.add_row(*(Text(_shown(cell)) for cell in cells))
            console.print(Padding(table, (0, 0, 0, indent), expand=False))
        for note in self.notes:
            console.print(Padding(Text(_shown(note)), (0, 0, 0, indent), expand=False))

    def markdown(self) -> Iterator[str]:
        values = len(self.header) - self.key_count
        yield _row(self.header)
        yield _row(["---"] * self.key_count + ["---:"] * values, is_rule=True)
        yield from (_row(row) for row in self.rows)
        for note in self.notes:
            yield ""
            yield _escaped(note)


@dataclass(frozen=True, slots=True)
class Code:
    """Lines to paste."""

    title: str
    language: str
    text: str

    def render(self, console: Console) -> None:
        console.print(Text(f"  {_shown(self.title)}", style="dim"))
        for line in self.text.split("\n"):
            console.print(Padding(Text(_shown(line), overflow="fold"), (0, 0, 0, 4), expand=False))

    def markdown(self) -> Iterator[str]:
        yield from (f"```{self.language}", *self.text.split("\n"), "```")


@dataclass(frozen=True, slots=True)
class Chart:
    """Impacts started as bars, the time they took below, first impact to last: (hour, count, ms) rows."""

    campaign: str
    rows: tuple[tuple[int, int, int], ...]

    def render(self, console: Console) -> None:
        blocks, rule = _blocks(console), "|" if console.options.ascii_only else "▕"
        label_width = 12
        bars = Bars.of(self.rows, max(1, console.width - label_width - len(rule)))
        started, lost_ms = (bars.sums([(row[0], row[place]) for row in self.rows]) for place in (1, 2))
        bar_width = bars.width_of(console.width - label_width - len(rule))
        _print_title(console, self._title(bars))
        labels = [f"{max(started):,}", *[""] * (CHART_ROWS - 1), duration(max(lost_ms))]
        lines = [*_chart(started, CHART_ROWS, bar_width, blocks), *_chart(lost_ms, 1, bar_width, blocks)]
        for label, line in zip(labels, lines, strict=True):
            console.print(Text(f"{label:>{label_width}}{rule}{line}", no_wrap=True, overflow="crop"))
        _print_axis(console, label_width + len(rule), bars, bar_width)

    def markdown(self) -> Iterator[str]:
        bars = Bars.of(self.rows, CHART_LINES)
        started, lost_ms = (bars.sums([(row[0], row[place]) for row in self.rows]) for place in (1, 2))
        yield _row(["from hour", "impacts started", "VM time lost"])
        yield _row(["---:"] * 3, is_rule=True)
        for place, (count, value_ms) in enumerate(zip(started, lost_ms, strict=True)):
            yield _row([f"{bars.first + place * bars.hours:,}", f"{count:,}", duration(value_ms)])

    @property
    def title(self) -> str:
        return self._title(Bars.of(self.rows, CHART_LINES))

    def _title(self, bars: "Bars") -> str:
        return f"{self.campaign}: impacts started, by {bars.step} since scenario start; below, VM time lost"


@dataclass(frozen=True, slots=True)
class Sparks:
    """Impacts started of several runs, a line each, on one clock and one scale: (label, (hour, count) rows)."""

    campaign: str
    rows: tuple[tuple[str, tuple[tuple[int, int], ...]], ...]

    def render(self, console: Console) -> None:
        blocks = _blocks(console)
        label_width = max(cell_len(_shown(label)) for label, _ in self.rows)
        most_width = max(len(f"{sum(count for _, count in rows):,}") for _, rows in self.rows)  # at most
        room = console.width - label_width - most_width - 6
        bars = self._bars(max(1, room))
        sums = [bars.sums(rows) for _, rows in self.rows]
        top, bar_width = max(map(max, sums)), bars.width_of(room)
        _print_title(console, self._title(bars))
        for (label, _), counts in zip(self.rows, sums, strict=True):
            (line,) = _chart(counts, 1, bar_width, blocks, top)
            name = f"{_shown(label)}{' ' * (label_width - cell_len(_shown(label)))}"
            told = f"  {name}  {line:{bar_width * bars.count}}  {max(counts):>{most_width},}"
            console.print(Text(told, no_wrap=True, overflow="crop"))
        _print_axis(console, label_width + 4, bars, bar_width)

    def markdown(self) -> Iterator[str]:
        bars = self._bars(CHART_LINES)
        yield _row(["from hour", *(label for label, _ in self.rows)])
        yield _row(["---:"] * (1 + len(self.rows)), is_rule=True)
        for place, counts in enumerate(zip(*(bars.sums(rows) for _, rows in self.rows), strict=True)):
            yield _row([f"{bars.first + place * bars.hours:,}", *(f"{count:,}" for count in counts)])

    @property
    def title(self) -> str:
        return self._title(self._bars(CHART_LINES))

    def _bars(self, count_max: int) -> "Bars":
        return Bars.of(sorted(row for _, rows in self.rows for row in rows), count_max)

    def _title(self, bars: "Bars") -> str:
        return f"{self.campaign}: impacts started, by {bars.step} since scenario start, and the most of one"


@dataclass(frozen=True, slots=True)
class Bars:
    """*count* bars of so many *hours* each; the first begins at hour *first*, a multiple of them, as days do."""

    first: int
    hours: int
    count: int

    @classmethod
    def of(cls, rows: Sequence[tuple[int, ...]], count_max: int) -> "Bars":
        """The narrowest that hold all *rows*, which begin with their hour, in order, within *count_max* bars."""
        first, last = rows[0][0], rows[-1][0]
        days = -(-(last + 1 - first) // (DAY_HOURS * count_max))
        for hours in (*HOURS_A_BAR, days * DAY_HOURS, (days + 1) * DAY_HOURS, last + 1):
            if (count := last // hours - first // hours + 1) <= count_max:
                break
        return cls(first // hours * hours, hours, count)

    @property
    def step(self) -> str:
        """A bar in words."""
        number, word = (self.hours, "hour") if self.hours % DAY_HOURS else (self.hours // DAY_HOURS, "day")
        return word if number == 1 else f"{number:,} {word}s"

    def sums(self, rows: Sequence[tuple[int, int]]) -> list[int]:
        """What (hour, value) *rows* come to in each bar."""
        sums = [0] * self.count
        for hour, value in rows:
            sums[(hour - self.first) // self.hours] += value
        return sums

    def width_of(self, room: int) -> int:
        """Cells that a bar takes where there is *room* for all."""
        return max(1, min(4, room // self.count))

    def instant(self, place: int) -> str:
        """When the bar at *place* begins."""
        hour = self.first + place * self.hours
        if not self.hours % DAY_HOURS:
            return f"{hour // DAY_HOURS:,} d"
        return f"{hour} h" if hour < DAYS_FROM_HOURS else duration(hour * HOUR_MS)


Block = Items | Grid | Code | Chart | Sparks


def _markdown(blocks: Iterator[Block]) -> Iterator[str]:
    """The lines of a page of *blocks*, the first title as that of the page."""
    for place, block in enumerate(blocks):
        if block.title is not None:
            yield f"{'#' if not place else '##'} {_escaped(block.title)}"
            yield ""
        yield from block.markdown()
        yield ""


def _row(cells: Sequence[str], is_rule: bool = False) -> str:
    return f"| {' | '.join(cells if is_rule else map(_escaped, cells))} |"


def spelt(name: str, value: float | None, *, is_about: bool = False) -> str:
    """*value* of the figure *name* as people read it; `~` before what *is_about* so."""
    if value is None:
        return "-"
    about = "~" if is_about else ""
    match FIGURES[name].unit:
        case "ms" | "VM-ms":
            return f"{about}{duration(value)}"
        case "ratio":
            return f"{about}{value:,.3f}"
        case _:
            return f"{round(value):,}"


def _saved(remedy: Remedy) -> str:
    return f"{'~' if remedy.is_expected else ''}{round(remedy.saved_count):,}"


def _escaped(text: str) -> str:
    """*text* as Markdown shows it: what would be markup there, is not. Underscores within words are none."""
    return re.sub(r"[\\`*\[\]<>|#~]|(?<!\w)_|_(?!\w)", lambda mark: f"\\{mark[0]}", _shown(text))


def _print_title(console: Console, title: str | None) -> None:
    if title is not None:
        console.print(Text(_shown(title), style="bold"))


def _shared(room: int, widths: Sequence[int]) -> list[int]:
    """*room* shared among columns of *widths*: each gets what it needs, or the same as the others that need more."""
    shares = list(widths)
    while sum(shares) > room and max(shares) > 1:
        shares[shares.index(max(shares))] -= 1
    return shares


_REASONS = {
    "one_domain": "with one populated domain",
    "one_vm": "of one VM",
    "shared_host": "with a host that carries two of its domains",
}
_ITERATION_TITLES = {
    "notice_ms": "first notice",
    "notice_lead_ms": "  and until the scheduled window, at least",
    "scheduled_end_ms": "last window is over",
    "vm_count": "VMs in scope",
    "updated_self_service_count": "  moved by their customers",
    "updated_scheduled_count": "  updated in the scheduled window",
    "skipped_count": "  out of it after a failed attempt (or a neighbour's)",
    "overdue_count": "  overdue, without room",
    "failed_count": "  failed, at every try",
    "already_updated_count": "  created on updated hosts",
    "deleted_count": "  deleted",
    "unaffected_count": "  unaffected",
    "requests_refused_count": "requests refused for want of room",
    "requests_failed_count": "requests that failed",
    "remaining_count": "VMs not updated in the end",
}
_ITERATION_ALWAYS = ("notice_ms", "notice_lead_ms", "scheduled_end_ms", "vm_count")
_WAITS = {
    "wave": "for their wave",
    "window": "for their notice and the window for customers",
    "pair": "for a pair",
    "campaign": "for another campaign",
    "spread": "within spread",
    "gap": "for gaps",
    "cap": "for room under caps",
}
REMEDIES = {
    "published_profile": "saved by pauses p50 6 s, p99 9 s",
    "published_maximum": "saved by pauses of 10 s, all of them",
    "longest_pause": "saved by none longer than all stand",
    "live_migration": "saved by live migration, <= 5 s",
    "self_service": "saved by self-service: a freeze has none",
    "leaving_out": "saved by leaving the workload out",
}
_OF = {"vm": "VM", "set": "set", "application": "application"}
_APPLICATION_TITLES = {
    "vm_count": "VMs",
    "vm_hit_count": "hit",
    "application_down_ratio_max": "most out",
    "quorum_lost_ms": "no quorum",
    "application_out_ms": "all out",
    "first_start_ms": "from",
    "last_end_ms": "to",
}
_TITLES = {
    "vm_count": "VMs",
    "vm_hit_count": "hit",
    "paused_ms_p50": "paused p50",
    "paused_ms_p99": "p99",
    "paused_ms_max": "max",
    "down_ms_p50": "down p50",
    "down_ms_p99": "p99",
    "down_ms_max": "max",
    "unavailable_ms": "unavailable",
    "over_tolerance_count": "too long",
    "first_start_ms": "from",
    "last_end_ms": "to",
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
        .select(column.name for column in schema.REPORT.columns if column.is_required)
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


def _blocks(console: Console) -> str:
    """What bars are made of, from empty to full."""
    return " .:=#" if console.options.ascii_only else " ▁▂▃▄▅▆▇█"


def _print_axis(console: Console, indent: int, bars: Bars, bar_width: int) -> None:
    """When the first of *bars* begins and the last ends, below them."""
    left, right = bars.instant(0), bars.instant(bars.count)
    axis = f"{left}{right:>{max(len(right) + 1, bar_width * bars.count - len(left))}}"
    console.print(Text(f"{'':{indent}}{axis}", style="dim", no_wrap=True, overflow="crop"))


def _chart(values: list[int], height: int, bar_width: int, blocks: str, top: int | None = None) -> list[str]:
    """Bars of *values* as *height* lines, top line first, of *blocks* (empty to full); only 0 is not seen.

    Full is *top*, or the largest of them.
    """
    steps, top = len(blocks) - 1, max(*values, 1) if top is None else top
    heights = [-(-value * height * steps // top) for value in values]
    gap = " " if bar_width > 2 else ""
    return [
        "".join(
            blocks[min(max(each - line * steps, 0), steps)] * (bar_width - len(gap)) + gap for each in heights
        ).rstrip()
        for line in reversed(range(height))
    ]


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _squeezed(text: str, width: int) -> str:
    """*text* without what is in its middle, where it is wider: keys of one table begin alike."""
    if cell_len(text) <= width:
        return text
    start = width // 3
    return f"{text[:start]}…{text[len(text) - (width - start - 1) :]}"


def _shown(value: object) -> str:
    """*value* for a terminal: what a user's name must not do there, it does not."""
    return "".join(each if each.isprintable() else "?" for each in str(value))
