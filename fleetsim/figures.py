"""What a run is measured by: each figure defined once, and the queries that compute it from the run's folder.

A stranger to the engine: it meets a run only in its files. Figures of campaigns and stages come from the
engine's own aggregates, which `fleetsim verify` recomputes from the events. Exact percentiles and groups by
fleet column come from the outcomes, else the events, a few parts at a time: memory follows the part, not the
fleet. Outages of applications are swept out of the events, so many intervals at a time.
"""

import datetime
import json
import math
import re
import tomllib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
import polars.selectors as cs

from fleetsim import schema
from fleetsim.errors import InputError, nearest, nearest_path
from fleetsim.progress import Progress
from fleetsim.schema import Effect, Kind

HOUR_MS = 3_600_000
MONTH_MS = 30 * 24 * HOUR_MS
"""The month of service levels: 30 days, counted from the scenario's start."""
SLA_LINES = {line: MONTH_MS * (10_000 - line) // 10_000 for line in (9_990, 9_995, 9_999)}
"""Service levels in hundredths of a percent, and the ms a month each leaves: 43.2, 21.6 and 4.32 min (Azure: SLA of
virtual machines v1.8: 99.9 % of a single VM, 99.95 % of an availability set, 99.99 % over zones)."""
PAUSE_BOUNDS_MS = (1_000, 5_000, 10_000, 15_000, 30_000, 60_000)
"""Pauses a guest notices: probes of 5 s, two of them missed, TCP time-outs of 15 s and more, of 30 s in clusters."""
PERCENTILES = (50, 99)
BINS_AN_OCTAVE = 64
"""Bins in which pauses are counted first: a percentile's bin, about 1 % wide, holds few VMs or few values."""
PARTS_AT_ONCE = 4
"""Parts read side by side: enough to keep the disk busy, few enough to bound memory."""
INTERVALS_AT_ONCE = 2**24
"""Impacts of applications swept at once, about: what bounds the memory of a sweep, whatever the fleet."""

STAGE = ("campaign", "iteration", "region")
"""What names a stage in every table."""
GRAINS = ("campaign", "stage", "hour", "pause", "cause", "sla", "application", "by")
"""What a figure can be of: `pause` is a length, `cause` one of CAUSES, `sla` one of `vm`, `set`, `application`, and
`by` stands for the fleet columns a reader asks for."""
CAUSES = ("wave", "pair", "campaign", "spread", "gap")
"""What a stage waits for, in the order in which it meets them."""

_RESUME_HINT = "an interrupted run is finished by `fleetsim run ... --resume`"
_MANIFEST_KEYS = (
    *("fleetsim_version", "seed", "scenario_digest", "fleet_digest", "counts"),
    *("invented", "warnings", "run_digest", "parts"),
)


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: its name as it stands in every report, its unit, its meaning, and the grains it has."""

    name: str
    unit: str
    definition: str
    grains: tuple[str, ...]


_OUTCOME_MEANINGS = {
    "updated_self_service": "updated when their owner asked for it",
    "updated_scheduled": "updated in the scheduled window",
    "updated": "updated",
    "skipped": "left out of the iteration after a failed request",
    "already_updated": "created after their stage started, on hosts updated already",
    "deleted": "deleted before they were updated, or while they were",
    "overdue": "not updated: there was no room in the calendar",
    "failed": "not updated: all tries failed",
    "cancelled": "not updated: the campaign was stopped",
    "unaffected": "not concerned: by the kind of the campaign or by their size",
}
OUTCOME_COUNTS = tuple(f"{word}_count" for word in schema.words(schema.Outcome))
SLA_COUNTS = {f"sla_{line}_missed_count": allowed_ms for line, allowed_ms in SLA_LINES.items()}
"""Figures of service levels, and the ms out a month that each allows."""

_OF_VMS = ("campaign", "stage", "by")
_OF_STAGES = ("campaign", "stage")
FIGURES = {
    figure.name: figure
    for figure in (
        Figure("length_ms", "ms", "from the first unit's start to the last unit's end", _OF_STAGES),
        Figure(
            "length_bound_ratio",
            "ratio",
            "length_ms over the best lower bound: the longest set or single or, of a campaign, those of two"
            " paired regions one after the other, pair_lag between them, and of waves one after the other, bake"
            " between them",
            _OF_STAGES,
        ),
        Figure(
            "first_start_ms",
            "ms",
            "when the first of the VMs is hit, since scenario start",
            (*_OF_VMS, "application"),
        ),
        Figure(
            "last_end_ms", "ms", "when the last impact of the VMs ends, since scenario start", (*_OF_VMS, "application")
        ),
        Figure("vm_count", "VMs", "VMs in scope, hit or not; of an application: all it has", (*_OF_VMS, "application")),
        Figure("vm_hit_count", "VMs", "VMs in scope that have an event", (*_OF_VMS, "application")),
        *(
            Figure(f"{word}_count", "VMs", f"VMs in scope that ended it `{word}`: {meaning}", _OF_STAGES)
            for word, meaning in _OUTCOME_MEANINGS.items()
        ),
        Figure(
            "paused_ms_p50",
            "ms",
            "pause of a VM, summed over its events: at position ceil(0.50 n) of the n VMs with an event",
            _OF_VMS,
        ),
        Figure("paused_ms_p99", "ms", "as paused_ms_p50, at position ceil(0.99 n)", _OF_VMS),
        Figure("paused_ms_max", "ms", "longest pause of a VM, summed over its events", _OF_VMS),
        Figure(
            "paused_over_ratio", "ratio", "share of the VMs with an event that are paused longer than that", ("pause",)
        ),
        Figure(
            "over_tolerance_count",
            "VMs",
            "VMs paused longer than they stand: than their pause_max_ms, else than [tolerance] of their workload",
            _OF_VMS,
        ),
        Figure("unavailable_ms", "VM-ms", "time VMs were paused or down, summed", _OF_VMS),
        Figure(
            "pending_vm_ms",
            "VM-ms",
            "VMs not yet updated, summed over time: from the campaign's start, or the VM's creation, to its last"
            " event's end",
            _OF_STAGES,
        ),
        Figure(
            "set_down_ratio_max",
            "ratio",
            "largest share of one set's living VMs out at once, over sets that have a guarantee",
            _OF_STAGES,
        ),
        Figure("set_out_ms", "ms", "time in which all living VMs of a set were out, summed", _OF_STAGES),
        Figure(
            "application_down_ratio_max",
            "ratio",
            "largest share of one application's living VMs out at once",
            ("campaign", "application"),
        ),
        Figure(
            "application_out_ms",
            "ms",
            "time in which all living VMs of an application were out, summed",
            ("campaign", "application"),
        ),
        Figure(
            "quorum_lost_ms",
            "ms",
            "time in which fewer VMs of a set or application were up than [quorum] asks for, though as many were"
            " living, summed",
            ("campaign", "stage", "application"),
        ),
        Figure("no_guarantee_count", "sets", "sets not promised a VM that stays up", _OF_STAGES),
        Figure(
            "waited_ms",
            "ms",
            "time stages waited for a wave, a pair, another campaign, and, of the set or single of each that ended"
            " last, for its turn within spread and for gaps; summed over stages",
            ("cause",),
        ),
        *(
            Figure(
                name,
                "count",
                f"VMs, sets or applications out for more than {allowed_ms / 60_000:g} min within one of the months of"
                " 30 d since scenario start; a set or application is out while all its living VMs are; `*` counts all"
                " campaigns together",
                ("sla",),
            )
            for name, allowed_ms in SLA_COUNTS.items()
        ),
        Figure("hourly_start_count", "VMs", "impacts that start within the hour", ("hour",)),
        Figure(
            "hourly_unavailable_ms",
            "VM-ms",
            "whole time of the impacts that start within the hour",
            ("hour",),
        ),
    )
}
"""Every figure of a report. Whatever shows one shows it under this name, in this unit, by this definition."""


# Files of a run


@dataclass(frozen=True, slots=True)
class Part:
    """One file of events or outcomes: a campaign and iteration over one part of the fleet."""

    path: Path
    fleet_path: Path
    campaign: str
    iteration: int
    region: str


@dataclass(frozen=True)
class RunFiles:
    """A finished run as files: what it was asked for, what it counted, and lazy frames of its tables."""

    path: Path
    manifest: dict[str, Any]
    resolved: dict[str, Any]
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Fleet columns and the values of which a VM must have one each to be looked at; none: every VM is."""
    progress: Progress | None = None

    @classmethod
    def open(cls, run: str | Path) -> "RunFiles":
        """The run in folder *run*; raise `InputError` unless it is finished and of a schema we read."""
        path = Path(run)
        if not path.is_dir():
            found = "a file" if path.exists() else f"nothing there{nearest_path(path)}"
            raise InputError(f"{path}: must be the folder of a run, got {found}")
        if not (path / "manifest.json").is_file():
            if not (path / "resolved.toml").is_file():
                raise InputError(f"{path}: must be the folder of a run, got no manifest.json and no resolved.toml")
            raise InputError(f"{path}: must be a finished run, got no manifest.json in it; {_RESUME_HINT}")
        try:
            manifest = json.loads((path / "manifest.json").read_text("utf-8"))
            version = int(manifest["schema_version"])
            if version > schema.SCHEMA_VERSION:
                raise InputError(
                    f"{path}: schema version must be at most {schema.SCHEMA_VERSION}, got {version};"
                    f" it was written by fleetsim {manifest.get('fleetsim_version', 'of a later version')}"
                )
            if lacking := [key for key in _MANIFEST_KEYS if key not in manifest]:
                raise InputError(f"{path}/manifest.json: must be the manifest of a run, got no {', '.join(lacking)}")
            missing = [part["path"] for part in manifest["parts"] if not (path / part["path"]).is_file()]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}/manifest.json: must be the manifest of a run, got {error!r}") from error
        if missing:
            raise InputError(
                f"{path}: must hold every file of its manifest, got {len(missing)} missing, first '{missing[0]}'"
            )
        try:
            resolved = tomllib.loads((path / "resolved.toml").read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}/resolved.toml: must be readable TOML, got {error}") from error
        return cls(path, manifest, resolved)

    @cached_property
    def campaigns(self) -> list[dict[str, Any]]:
        """The campaigns as resolved, in file order."""
        return list(self.resolved.get("campaign", []))

    @cached_property
    def start_ms_epoch(self) -> int:
        """The scenario's start in ms since 1970."""
        start: datetime.datetime = self.resolved["start"]
        return round(start.timestamp() * 1_000)

    @cached_property
    def fleet_paths(self) -> list[Path]:
        """The parts of the prepared fleet: no fleet is empty."""
        return sorted(self.path.glob("fleet/region=*/*.parquet"))

    @property
    def fleet_path(self) -> Path:
        """The first part of the prepared fleet."""
        return self.fleet_paths[0]

    @cached_property
    def fleet_schema(self) -> pl.Schema:
        """Columns of the prepared fleet; every part has them."""
        return _scan(self.fleet_path).collect_schema()

    def narrowed(self, only: Mapping[str, Sequence[str]]) -> "RunFiles":
        """The same run, looked at through its VMs that have one of the values of each column of *only*.

        Raise `InputError` for an unknown column, or where no VM of the fleet is left.
        """
        self.check_columns(only)
        narrow = replace(self, only={column: tuple(dict.fromkeys(values)) for column, values in only.items()})
        if only and not any(narrow.fleet(path, {}).head(1).collect().height for path in self.fleet_paths):
            asked = " and ".join(f"{column}={' or '.join(values)}" for column, values in narrow.only.items())
            raise InputError(
                f"only: must leave some VM of the fleet, got none with {asked}{self._nearest_values(only)}"
            )
        return narrow

    def _nearest_values(self, only: Mapping[str, Sequence[str]]) -> str:
        """A hint at the values of the first column of *only* of which the fleet has none."""
        for column, values in only.items():
            texts = pl.concat([_scan(path).select(_as_text(column, self.fleet_schema)) for path in self.fleet_paths])
            known = texts.unique().head(_VALUES_LOOKED_AT).collect().to_series().drop_nulls().to_list()
            for value in values:
                if value not in known:
                    return nearest(value, known)
        return ""

    def fleet(
        self, path: Path, given: Mapping[str, str], where: Mapping[str, Sequence[Any]] | None = None
    ) -> pl.LazyFrame:
        """`vm_row` and the columns *given* (new name -> name) of the VMs looked at, in *where*, of a fleet part."""
        wanted = [
            _as_text(column, self.fleet_schema).is_in([_text(value) for value in values])
            for each in (self.only, where or {})
            for column, values in each.items()
        ]
        rows = _scan(path)
        return _given(rows.filter(pl.all_horizontal(wanted)) if wanted else rows, given)

    @cached_property
    def tolerance(self) -> tuple[dict[str, str], pl.Expr] | None:
        """The fleet columns that say how long a pause each VM stands, and the ms by them; None where nothing does."""
        by_workload = {word: int(value_ms) for word, value_ms in self.resolved.get("tolerance_ms", {}).items()}
        columns = ["pause_max_ms"] if "pause_max_ms" in self.fleet_schema else []
        told = [pl.col("pause_max_ms").cast(pl.Int64)] if columns else []
        if by_workload and "workload" in self.fleet_schema:
            columns.append("workload")
            words = pl.col("workload").cast(pl.String)
            told.append(words.replace_strict(by_workload, default=None, return_dtype=pl.Int64))
        return ({name: name for name in columns}, pl.coalesce(told)) if told else None

    @cached_property
    def excluding(self) -> set[str]:
        """The campaigns of which a stage keeps paired regions out; two stages exclude each other if both do."""
        return {
            each["name"]
            for each in self.campaigns
            if each.get("pair_exclusion", "all") == "all" or each["kind"] in ("reboot", "redeploy")
        }

    @cached_property
    def edges(self) -> set[frozenset[str]]:
        """The pairs as undirected edges, whichever side lists them."""
        rows = pl.read_csv(self.path / "pairs.csv", infer_schema=False).select("region", "paired_region").rows()
        return {frozenset(row) for row in rows if row[1] and row[0] != row[1]}

    def has(self, table: str) -> bool:
        """Whether the run was asked to keep *table* (`events` or `outcomes`)."""
        return bool(self.resolved["outputs"][table])

    def scan(self, table: str) -> pl.LazyFrame:
        """One of the small tables of the run, words as strings."""
        return _scan(self.path / f"{table}.parquet").with_columns(cs.categorical().cast(pl.String))

    def parts(self, table: str) -> list[Part]:
        """Files of `events` or `outcomes`, by campaign in file order, iteration and vm_row.

        Campaign and iteration are the same in every row of a file, so its first row tells them, not its name; the
        name speaks for a file without rows alone. Raise `InputError` for a campaign the run does not have.
        """
        names = [campaign["name"] for campaign in self.campaigns]
        paths = sorted(self.path.glob(f"{table}/region=*/part-*.parquet"))
        told = [pl.col("campaign").cast(pl.String), pl.col("iteration", "vm_row")]
        first = pl.collect_all([_scan(path).select(told).head(1) for path in paths])
        found = []
        for path, row in zip(paths, first, strict=True):
            _, place, which, number = path.stem.split("-")
            told_by_name = () if len(row) else (names[int(place[1:])], int(which[1:]), 0)
            campaign, iteration, vm_row = told_by_name or row.row(0)
            if campaign not in names:
                hint = nearest(campaign, names)
                raise InputError(f"{path}: must be of a campaign of the run, got '{campaign}'{hint}")
            folder = path.parent.name
            fleet_path = self.path / "fleet" / folder / f"part-{number}.parquet"
            part = Part(path, fleet_path, campaign, iteration, folder.removeprefix("region="))
            found.append(((names.index(campaign), iteration, vm_row), part))
        return [part for _, part in sorted(found, key=lambda each: each[0])]

    def check_columns(self, columns: Iterable[str]) -> None:
        """Raise `InputError` naming each of *columns* the fleet does not have."""
        known = self.fleet_schema.names()
        if problems := [
            f"{self.path}: must be a column of the fleet, got '{column}'"
            + (nearest(column, known) or f"; known: {', '.join(known)}")
            for column in columns
            if column not in known
        ]:
            raise InputError(problems)


def _scan(path: Path) -> pl.LazyFrame:
    """Lazy frame of one Parquet file; `region` is a column of the file, not a guess from its folder."""
    return pl.scan_parquet(path, hive_partitioning=False, glob=False)


# Events, for notebooks


def read_events(run: str | Path, columns: Sequence[str] = ()) -> pl.LazyFrame:
    """Lazy frame of the events of *run*, with the user's `vm`, `region` and the fleet *columns* asked for.

    One row an event, in order of campaign (as the scenario has them), iteration and `vm_row`. `end_at` is
    `start_at` + `duration_ms`, and each effect is a boolean (`memory_lost`, `temp_disk_lost`, `address_changed`,
    `host_changed`, `clock_synchronised`). A fleet column named as one of the events' is given as `fleet_<name>`.
    Raise `InputError` for an unknown column, or where the run kept no events.
    """
    files = RunFiles.open(run)
    wanted = [columns] if isinstance(columns, str) else list(columns)
    files.check_columns(wanted)
    if not files.has("events"):
        raise InputError(f"{files.path}: must have kept its events, got [outputs] events = false")

    effects = {name: (pl.col("effects") & int(Effect[name.upper()])) != 0 for name in schema.effect_names()}
    own = ["end_at", *effects, *schema.EVENTS.names()]
    given = {
        f"fleet_{name}" if name in own else name: name
        for name in dict.fromkeys(["vm", "region", *wanted])
        if name != "vm_row"
    }
    # Parts of events and fleet match one to one, so that a join never holds more than a part.
    pieces = [(_scan(part.path), part.fleet_path) for part in files.parts("events")]
    if not pieces:
        pieces = [(pl.LazyFrame(schema=_EVENTS_SCHEMA), files.fleet_path)]
    joined = [
        events.join(_given(_scan(fleet_path), given), on="vm_row", maintain_order="left")
        for events, fleet_path in pieces
    ]
    return pl.concat(joined).select(
        "campaign",
        "phase",
        "kind",
        "result",
        "iteration",
        "vm_row",
        *given,
        "start_at",
        (pl.col("start_at") + pl.duration(milliseconds="duration_ms", time_unit="ms")).alias("end_at"),
        "duration_ms",
        **effects,
    )


def _given(fleet: pl.LazyFrame, given: Mapping[str, str]) -> pl.LazyFrame:
    """`vm_row` and the columns *given* (new name -> name) of a part of the fleet."""
    return fleet.select("vm_row", **{new: pl.col(name) for new, name in given.items()})


def _as_text(column: str, types: pl.Schema) -> pl.Expr:
    """A fleet column as its values are typed: whole floats without their point, as sizes and counts often are."""
    text = pl.col(column).cast(pl.String)
    return text.str.strip_suffix(".0") if types[column].is_float() else text


def _text(value: Any) -> str:
    """*value*, typed or from TOML, as `_as_text` gives it."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


_VALUES_LOOKED_AT = 10_000
"""Values of a column among which the one nearest to a wrong one is looked for."""

_DTYPES: dict[str, Any] = {
    "text": pl.Categorical,
    "code": pl.Categorical,
    "u8": pl.UInt8,
    "u32": pl.UInt32,
    "instant": pl.Datetime("ms", "UTC"),
}
_EVENTS_SCHEMA = {column.name: _DTYPES[column.dtype] for column in schema.EVENTS.columns}


# Stages and campaigns


_SINGLE_VALUES = [
    name
    for name in schema.SUMMARY_FIGURES
    if name not in ("hourly_start_count", "hourly_unavailable_ms", "paused_ms_histogram")
]


def stages(files: RunFiles) -> pl.DataFrame:
    """One row a stage: the single values of `summary` as columns, `bottleneck`, and the stage's figures."""
    singles = (
        files.scan("summary")
        .filter(pl.col("bin_start_ms").is_null())
        .group_by(STAGE)
        .agg(
            pl.col("value")
            .filter(pl.col("figure") == name)
            .first()
            .cast(pl.Float64 if name.endswith("_ratio_max") else pl.Int64)
            .alias(name)
            for name in _SINGLE_VALUES
        )
    )
    counts = pl.col(OUTCOME_COUNTS).cast(pl.Int64)
    scope = files.scan("stages").select(*STAGE, "wave", "bottleneck", counts)
    # Before runs counted them by stage, they were known by region alone.
    no_guarantee = files.scan("no_guarantee").group_by("region").agg(in_region_count=pl.len().cast(pl.Int64))
    return (
        scope.join(singles, on=STAGE, how="left")
        .join(no_guarantee, on="region", how="left")
        .with_columns(
            pl.coalesce("no_guarantee_count", "in_region_count", pl.lit(0, pl.Int64)).alias("no_guarantee_count"),
            pl.coalesce("free_ms", "end_ms").alias("free_ms"),
            vm_count=pl.sum_horizontal(OUTCOME_COUNTS),
            length_ms=pl.col("end_ms") - pl.col("first_start_ms"),
            last_end_ms=pl.col("end_ms"),
        )
        .with_columns(length_bound_ratio=pl.col("length_ms") / pl.col("longest_ms"))
        .drop("in_region_count", "application_out_ms")
        .sort("start_ms", *STAGE, nulls_last=True)
        .collect()
    )


@dataclass(frozen=True, slots=True)
class Bound:
    """The best lower bound of a campaign's length: the longest set of a region, of a pair in turn, or of waves."""

    bound_ms: int
    regions: tuple[str, ...]
    pair_lag_ms: int = 0
    waves: tuple[tuple[int, "Bound"], ...] = ()
    """Where waves bind: each that hits somebody, by number, and its own bound."""
    bake_ms: int = 0

    def sentence(self) -> str:
        """The bound in words."""
        if self.waves:
            each = (
                f"wave {number}, {duration(wave.bound_ms)} in {' and '.join(wave.regions)}"
                for number, wave in self.waves
            )
            baked = f", {duration(self.bake_ms)} of bake before the next" if self.bake_ms else ""
            what = f"{'; then '.join(each)}{baked}"
        else:
            later = f", {duration(self.pair_lag_ms)} later," if self.pair_lag_ms else ""
            then = "".join(f", then{later} in its pair {region}" for region in self.regions[1:])
            what = f"the longest set or single in {self.regions[0]}{then}"
        return f"no order takes less than {duration(self.bound_ms)}: {what}"


def bound(files: RunFiles, stage_rows: pl.DataFrame, campaign: dict[str, Any]) -> Bound | None:
    """The largest lower bound of the length of *campaign*, the one that binds; None where nothing is hit.

    Two regions that exclude each other never work at once, so one's longest set, `pair_lag` and the other's follow
    each other; so do waves, with `bake` after each.
    """
    rows = stage_rows.filter(pl.col("campaign") == campaign["name"]).drop_nulls("longest_ms")
    longest_ms: dict[int, dict[str, int]] = defaultdict(dict)
    for wave, region, value_ms in sorted(rows.select("wave", "region", "longest_ms").iter_rows()):
        of_wave = longest_ms[wave]
        of_wave[region] = max(of_wave.get(region, 0), value_ms)
    waves = [(wave, _bound_of(files, campaign, of_wave)) for wave, of_wave in sorted(longest_ms.items())]
    everywhere = {region: value_ms for of_wave in longest_ms.values() for region, value_ms in of_wave.items()}
    bounds = [_bound_of(files, campaign, everywhere)] if everywhere else []
    if len(waves) > 1:
        bake_ms = int(campaign.get("bake_ms", 0))
        total_ms = sum(best.bound_ms for _, best in waves) + bake_ms * (waves[-1][0] - waves[0][0])
        bounds.append(Bound(total_ms, (), waves=tuple(waves), bake_ms=bake_ms))
    return max(bounds, key=lambda bound: bound.bound_ms, default=None)


def _bound_of(files: RunFiles, campaign: dict[str, Any], longest_ms: dict[str, int]) -> Bound:
    """The bound of stages that may all be at work at once, but for pairs: *longest_ms* by region."""
    bounds = [Bound(value_ms, (region,)) for region, value_ms in longest_ms.items()]
    if campaign["name"] in files.excluding:
        for edge in sorted(sorted(edge) for edge in files.edges if edge <= longest_ms.keys()):
            lag_ms = int(campaign["pair_lag_ms"])
            bounds.append(Bound(sum(longest_ms[region] for region in edge) + lag_ms, tuple(edge), lag_ms))
    return max(bounds, key=lambda bound: bound.bound_ms)


def campaigns(files: RunFiles, stage_rows: pl.DataFrame) -> pl.DataFrame:
    """One row a campaign, in file order, with its figures; no VMs and no length where nothing is in scope.

    A figure that the run does not have, as it was not asked for or is of a later version, is null.
    """
    bounds = {each["name"]: bound(files, stage_rows, each) for each in files.campaigns}
    names = pl.DataFrame(
        {
            "campaign": list(bounds),
            "bound_ms": [best.bound_ms if best else None for best in bounds.values()],
        },
        schema={"campaign": pl.String, "bound_ms": pl.Int64},
    )
    counts = ["vm_count", *OUTCOME_COUNTS, "vm_hit_count", "unavailable_ms", "set_out_ms", "no_guarantee_count"]
    of_stages = stage_rows.group_by("campaign").agg(
        (pl.col("end_ms").max() - pl.col("first_start_ms").min()).alias("length_ms"),
        pl.col("first_start_ms").min(),
        pl.col("last_end_ms", "set_down_ratio_max").max(),
        pl.col(counts).sum(),
        *(_sum_of_known(name) for name in ("pending_vm_ms", "quorum_lost_ms")),
    )
    # What no stage has alone: applications span regions.
    whole = ("application_out_ms", "quorum_lost_ms")
    of_whole = (
        files.scan("summary")
        .filter(pl.col("region") == "*", pl.col("figure").is_in(whole))
        .group_by("campaign")
        .agg(_sum_of_known("value", pl.col("figure") == name).cast(pl.Int64).alias(f"whole_{name}") for name in whole)
        .collect()
    )
    return (
        names.join(of_stages, on="campaign", how="left", maintain_order="left")
        .join(of_whole, on="campaign", how="left", maintain_order="left")
        .with_columns(
            pl.col(counts).fill_null(0),
            length_bound_ratio=pl.col("length_ms") / pl.col("bound_ms"),
            application_out_ms=pl.col("whole_application_out_ms"),
            quorum_lost_ms=pl.coalesce("whole_quorum_lost_ms", "quorum_lost_ms"),
        )
        .drop("bound_ms", *(f"whole_{name}" for name in whole))
    )


def _sum_of_known(name: str, where: pl.Expr | None = None) -> pl.Expr:
    """The sum of a column, where *where*; null, not 0, where it has no value."""
    values = pl.col(name) if where is None else pl.col(name).filter(where)
    return pl.when(values.count() > 0).then(values.sum()).alias(name)


def hours(files: RunFiles) -> pl.DataFrame:
    """One row a campaign and hour since scenario start in which impacts start: quiet hours have none.

    Of the VMs looked at, if they are not all: none where the run kept no events.
    """
    names = ("hourly_start_count", "hourly_unavailable_ms")
    if files.only:
        found = times(files, {}, ["campaign", "hour"])
        return found.select(
            "campaign", "hour", hourly_start_count="start_count", hourly_unavailable_ms="unavailable_ms"
        )
    return (
        files.scan("summary")
        .filter(pl.col("figure").is_in(names))
        .group_by("campaign", hour=pl.col("bin_start_ms") // HOUR_MS)
        .agg(pl.col("value").filter(pl.col("figure") == name).sum().cast(pl.Int64).alias(name) for name in names)
        .filter(pl.any_horizontal(pl.col(names) > 0))
        .sort("campaign", "hour")
        .collect()
    )


def times(files: RunFiles, columns: Mapping[str, str], keys: Sequence[str]) -> pl.DataFrame:
    """When the VMs looked at are hit, one row a group of *keys*, sorted by them; empty where the run kept no events.

    *keys* are `hour`, columns of STAGE, and *columns* (name here -> name in the fleet). Also `first_start_ms`,
    `last_end_ms`, `start_count`, `unavailable_ms` and `pending_vm_ms`, i64, the instants since scenario start.
    """
    start_ms = {each["name"]: int(each["start_ms"]) for each in files.campaigns if "start_ms" in each}
    sums = {
        "first_start_ms": pl.col("first_start_ms").min(),
        "last_end_ms": pl.col("last_end_ms").max(),
        **{name: pl.col(name).sum() for name in ("start_count", "unavailable_ms", "pending_vm_ms")},
    }
    fleet_types = {name: files.fleet_schema[column] for name, column in columns.items()}
    types = {"campaign": pl.String(), "iteration": pl.UInt8(), "region": pl.String()} | fleet_types
    order = [*keys, *sums]
    total = pl.DataFrame(schema={name: types.get(name, pl.Int64()) for name in order})
    born = {"created": "created"} if "created" in files.fleet_schema else {}
    pieces = []
    for part in files.parts("events") if files.has("events") else ():
        rows = _intervals(files, part.path)
        if columns or files.only or born:
            rows = rows.join(files.fleet(part.fleet_path, {**columns, **born}), on="vm_row")
        asked_ms = pl.lit(start_ms.get(part.campaign, 0), pl.Int64)
        since_ms = pl.max_horizontal(asked_ms, _ms_since_start(files, "created")) if born else asked_ms
        rows = rows.with_columns(
            *_named(part),
            hour=pl.col("start_ms") // HOUR_MS,
            first_start_ms="start_ms",
            last_end_ms="end_ms",
            start_count=pl.lit(1, pl.Int64),
            unavailable_ms=pl.col("end_ms") - pl.col("start_ms"),
            pending_vm_ms=pl.col("end_ms") - since_ms,
        )
        pieces.append(rows.group_by(keys).agg(**sums).select(order))
    for counted in _in_turn(files, "times", pieces):
        total = pl.concat([total, counted]).group_by(keys).agg(**sums).select(order)
    return total.with_columns(cs.categorical().cast(pl.String)).sort(keys)


def _intervals(files: RunFiles, path: Path) -> pl.LazyFrame:
    """`vm_row`, `start_ms` and `end_ms` of the events in *path*, since scenario start."""
    start_ms = pl.col("start_at").dt.epoch("ms") - files.start_ms_epoch
    return _scan(path).select("vm_row", start_ms=start_ms, end_ms=start_ms + pl.col("duration_ms").cast(pl.Int64))


def _ms_since_start(files: RunFiles, column: str) -> pl.Expr:
    return pl.col(column).dt.epoch("ms") - files.start_ms_epoch


def _named(part: Part) -> list[pl.Expr]:
    """The columns of STAGE, the same in every row of *part*."""
    return [
        pl.lit(part.campaign).alias("campaign"),
        pl.lit(part.iteration, pl.UInt8).alias("iteration"),
        pl.lit(part.region).alias("region"),
    ]


def _in_turn(files: RunFiles, step: str, pieces: Sequence[pl.LazyFrame]) -> Iterator[pl.DataFrame]:
    """What the lazy *pieces* give, PARTS_AT_ONCE at a time; whoever watches is told how far *step* is."""
    for first in range(0, len(pieces), PARTS_AT_ONCE):
        yield from pl.collect_all(pieces[first : first + PARTS_AT_ONCE])
        if files.progress is not None:
            vm_count = files.manifest["counts"]["vms"]
            files.progress(step, vm_count * min(first + PARTS_AT_ONCE, len(pieces)) // len(pieces), vm_count)


# Pauses: percentiles and groups


Tallies = Mapping[str, pl.Expr]
"""What is counted of VMs besides them and their pauses: a name that ends in `_count` -> whether a VM counts."""


def tallies(files: RunFiles, pause_bounds_ms: Iterable[int] = (), *, outcomes: bool = False) -> dict[str, pl.Expr]:
    """VMs paused longer than they stand, than each of *pause_bounds_ms*, and by outcome where *outcomes* are asked for.

    What the run cannot tell is left out.
    """
    of_vm: dict[str, pl.Expr] = {}
    table = _table_of(files)
    if files.tolerance is not None and table is not None:
        of_vm["over_tolerance_count"] = pl.col("paused_ms") > pl.col("tolerance_ms")
    for bound_ms in pause_bounds_ms:
        of_vm[f"paused_over_{bound_ms}_count"] = pl.col("paused_ms") > bound_ms
    if outcomes and table == "outcomes":
        words = pl.col("outcome").cast(pl.String)
        of_vm |= {f"{word}_count": words == word for word in schema.words(schema.Outcome)}
    return of_vm


def _table_of(files: RunFiles) -> str | None:
    """The table that VMs are counted from; None where the run kept neither."""
    return next((table for table in ("outcomes", "events") if files.has(table)), None)


def impacts(
    files: RunFiles, columns: Mapping[str, str], grains: Sequence[Sequence[str]], of_vm: Tallies | None = None
) -> pl.DataFrame:
    """VMs in scope counted by what *grains* name and by pause, so that `impact_by` of a grain is exact.

    A grain names columns of STAGE and of *columns* (name here -> name in the fleet). Also `paused_ms` (null:
    no event), `paused_ms_max`, `vm_count`, `unavailable_ms` and the counts of *of_vm*; from the outcomes, else the
    events.

    Counting each pause that occurs would take memory by the VM. So pauses are counted in narrow bins first,
    then, one by one, those in the bins that hold a percentile of a grain. Raise `InputError` where the run
    kept neither table and *columns*, or the VMs looked at, need one.
    """
    table, of_vm = _table_of(files), of_vm or {}
    if table is None:
        needed = next(iter([*columns.values(), *files.only]), None)
        if needed is not None:
            raise InputError(
                f"{files.path}: groups by '{needed}' need the outcomes or the events,"
                " got [outputs] with both false; without them only 'region' can be grouped by"
            )
        return _histogram(files).with_columns(
            (pl.when(each.fill_null(False)).then("vm_count").otherwise(0)).alias(name) for name, each in of_vm.items()
        )
    keys = list(dict.fromkeys(key for grain in grains for key in grain))
    binned = _counted(files, table, columns, [*keys, "bin"], of_vm)
    wide = [
        binned.join(_percentile_bins(binned, grain), on=[*grain, "bin"], how="semi", nulls_equal=True)
        for grain in grains
    ]
    split = pl.concat(wide).select(*keys, "bin").unique()
    if not split.is_empty():
        rest = binned.join(split, on=[*keys, "bin"], how="anti", nulls_equal=True)
        one_by_one = _counted(files, table, columns, [*keys, "bin", "paused_ms"], of_vm, split)
        binned = pl.concat([rest, one_by_one])
    return binned.drop("bin").with_columns(cs.categorical().cast(pl.String))


def _percentile_bins(binned: pl.DataFrame, grain: Sequence[str]) -> pl.DataFrame:
    """Groups of *grain* and their bins that hold a percentile and more than one value."""
    merged = (
        binned.lazy()
        .filter(pl.col("bin").is_not_null())
        .group_by(*grain, "bin")
        .agg(pl.col("vm_count").sum(), pl.col("paused_ms").min(), pl.col("paused_ms_max").max())
        .sort("bin")
    )
    columns = ("bin", "paused_ms", "paused_ms_max")
    return (
        merged.group_by(grain)
        .agg(
            pl.concat_list(_nearest_rank(pl.col(name), pl.col("vm_count"), percent) for percent in PERCENTILES).alias(
                name
            )
            for name in columns
        )
        .explode(columns)
        .filter(pl.col("paused_ms") < pl.col("paused_ms_max"))
        .select(*grain, "bin")
        .collect()
    )


def _nearest_rank(value: pl.Expr, count: pl.Expr, percent: int) -> pl.Expr:
    """The value at position ceil(*percent* n / 100); each ascending *value* stands *count* times."""
    position = (count.sum() * percent + 99) // 100
    return value.filter(count.cum_sum() >= position).first()


def _counted(
    files: RunFiles,
    table: str,
    columns: Mapping[str, str],
    keys: list[str],
    of_vm: Tallies,
    only: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """VMs in scope counted by *keys*, with the pauses' bounds; those that join *only*, where it is given."""
    sums = {
        "paused_ms": pl.col("paused_ms").min(),
        "paused_ms_max": pl.col("paused_ms_max").max(),
        **{name: pl.col(name).sum() for name in ("vm_count", "unavailable_ms", *of_vm)},
    }
    sums = {name: total for name, total in sums.items() if name not in keys}
    fleet_types = {name: files.fleet_schema[column] for name, column in columns.items()}
    types = {
        "campaign": pl.String(),
        "iteration": pl.UInt8(),
        "region": pl.String(),
        "bin": pl.Int32(),
    } | fleet_types
    order = [
        *(key for key in keys if key != "paused_ms"),
        "paused_ms",
        *(name for name in sums if name != "paused_ms"),
    ]
    total = pl.DataFrame(schema={name: types.get(name, pl.Int64()) for name in order})
    pieces = []
    for part in files.parts(table):
        rows = _impacts_of_part(files, part, table, columns).with_columns(
            each.fill_null(False).cast(pl.Int64).alias(name) for name, each in of_vm.items()
        )
        if only is not None:
            rows = rows.join(only.lazy(), on=only.columns, how="semi", nulls_equal=True)
        pieces.append(rows.group_by(keys).agg(**sums).select(order))
    for counted in _in_turn(files, "pauses", pieces):
        total = pl.concat([total, counted]).group_by(keys).agg(**sums).select(order)
    return total


def _impacts_of_part(files: RunFiles, part: Part, table: str, columns: Mapping[str, str]) -> pl.LazyFrame:
    """One row a VM in scope of *part*: what `_counted` counts by, and the sums of the VM alone."""
    rows = _scan(part.path)
    of_tolerance, tolerance_ms = files.tolerance or ({}, pl.lit(None, pl.Int64))
    given = {**columns, **of_tolerance}
    if table == "outcomes":
        hit = rows.select(
            "vm_row",
            "outcome",
            paused_ms=pl.when(pl.col("event_count") > 0).then(pl.col("paused_ms").cast(pl.Int64)),
            unavailable_ms=pl.col("paused_ms").cast(pl.Int64) + pl.col("down_ms"),
        )
        if given or files.only:
            hit = hit.join(files.fleet(part.fleet_path, given), on="vm_row")
    else:
        kind = pl.col("kind").cast(pl.String)
        paused = kind.is_in([Kind.FREEZE.name.lower(), Kind.LIVE_MIGRATION.name.lower()])
        duration_ms = pl.col("duration_ms").cast(pl.Int64)
        per_vm = rows.group_by("vm_row").agg(
            paused_ms=duration_ms.filter(paused).sum(), unavailable_ms=duration_ms.sum()
        )
        # Every VM that the campaign selects is in scope; one without an event is known to the fleet alone.
        where = next(each.get("where", {}) for each in files.campaigns if each["name"] == part.campaign)
        fleet = files.fleet(part.fleet_path, given, where)
        hit = fleet.join(per_vm, on="vm_row", how="left").with_columns(pl.col("unavailable_ms").fill_null(0))
    return hit.with_columns(
        *_named(part),
        bin=((pl.col("paused_ms") + 1).log(2) * BINS_AN_OCTAVE).floor().cast(pl.Int32),
        paused_ms_max=pl.col("paused_ms"),
        tolerance_ms=tolerance_ms,
        vm_count=pl.lit(1, pl.Int64),
    )


def _histogram(files: RunFiles) -> pl.DataFrame:
    """`impacts` by stage from the engine's histogram: a pause is its bin's lower bound, 1/64 low at most."""
    bins = (
        files.scan("summary")
        .filter(pl.col("figure") == "paused_ms_histogram")
        .select(
            *STAGE,
            paused_ms="bin_start_ms",
            paused_ms_max="bin_start_ms",
            vm_count=pl.col("value").cast(pl.Int64),
            unavailable_ms=pl.lit(0, pl.Int64),
        )
    )
    # One more row a stage makes its sums exact: the VMs without an event, and the unavailable time.
    rest = (
        stages(files)
        .lazy()
        .select(
            *STAGE,
            paused_ms=pl.lit(None, pl.Int64),
            paused_ms_max=pl.lit(None, pl.Int64),
            vm_count=pl.col("vm_count") - pl.col("vm_hit_count"),
            unavailable_ms="unavailable_ms",
        )
    )
    return pl.concat([bins, rest]).collect()


def impact_by(counted: pl.DataFrame, grain: Sequence[str]) -> pl.DataFrame:
    """Figures of the VMs *counted* by `impacts`, one row a group of *grain*, largest group first."""
    is_hit = pl.col("paused_ms").is_not_null()
    paused_ms, hit_count = pl.col("paused_ms").filter(is_hit), pl.col("vm_count").filter(is_hit)
    return (
        counted.lazy()
        .sort("paused_ms")
        .group_by(grain)
        .agg(
            (cs.ends_with("_count") | cs.by_name("unavailable_ms")).sum(),
            *(_nearest_rank(paused_ms, hit_count, each).alias(f"paused_ms_p{each}") for each in PERCENTILES),
            pl.col("paused_ms_max").max(),
            vm_hit_count=hit_count.sum(),
        )
        .sort("vm_count", *grain, descending=[True, *(False for _ in grain)])
        .collect()
    )


# Pauses that are not stood, and what helps


@dataclass(frozen=True, slots=True)
class Remedy:
    """One way to fewer VMs over their tolerance: how many it saves, whether only expectedly, and how to ask for it."""

    name: str
    sentence: str
    saved_count: float
    over_tolerance_count: float
    is_expected: bool = False
    toml: str | None = None


@dataclass(frozen=True, slots=True)
class Intolerance:
    """VMs of a campaign and workload (None: of those without one) that are paused longer than they stand."""

    campaign: str
    workload: str | None
    vm_count: int
    vm_hit_count: int
    over_tolerance_count: int
    tolerance_ms_min: int
    tolerance_ms_max: int
    left_out_count: int
    """VMs that stay without the update where the workload is left out: `where` leaves those without one out too."""
    remedies: tuple[Remedy, ...]


LIVE_MIGRATION_PAUSE_MS = 5_000
"""A live migration pauses a VM for typically 5 s at most (Azure: maintenance and updates, 2024 and 2026)."""
PUBLISHED_PAUSE_MS = (6_000, 9_000)
"""p50 and p99 of pauses "almost always below 10 s" (the same source; preset azure-2024)."""
PUBLISHED_PAUSE_MS_MAX = 10_000
_Z_P99 = 2.3263478740408408


def intolerances(files: RunFiles) -> list[Intolerance]:
    """Workloads of each campaign with VMs over their tolerance, most of them first, and what helps each.

    Empty where the run knows no tolerance, or kept nothing that VMs are counted from.
    """
    table = _table_of(files)
    if files.tolerance is None or table is None:
        return []
    columns = {name: name for name in ("workload", "size") if name in files.fleet_schema}
    fixed = [_text(size) for size in files.resolved.get("cannot_migrate_sizes", [])]
    size = pl.col("size").cast(pl.String) if "size" in columns else pl.lit(None, pl.String)
    keys = ["workload", "tolerance_ms", "can_migrate"]
    pieces = [
        _impacts_of_part(files, part, table, columns)
        .select(
            "campaign",
            (pl.col("workload") if "workload" in columns else pl.lit(None)).cast(pl.String).alias("workload"),
            "tolerance_ms",
            can_migrate=~size.is_in(fixed).fill_null(False),
            is_hit=pl.col("paused_ms").is_not_null(),
            is_over=(pl.col("paused_ms") > pl.col("tolerance_ms")).fill_null(False),
        )
        .group_by("campaign", *keys)
        .agg(pl.len().cast(pl.Int64).alias("vm_count"), pl.col("is_hit", "is_over").sum().cast(pl.Int64))
        for part in files.parts(table)
    ]
    counted = [piece for piece in _in_turn(files, "tolerance", pieces) if len(piece)]
    found = []
    for campaign in files.campaigns if counted else ():
        own = pl.concat(counted).filter(campaign=campaign["name"])
        scope = dict(own.group_by("workload").agg(pl.col("vm_count").sum()).sort("workload").rows())
        for (workload,), rows in own.group_by("workload"):
            over_count = int(rows["is_over"].sum())
            known = rows.filter(pl.col("tolerance_ms").is_not_null() & (pl.col("is_hit") > 0))
            if over_count:
                found.append(
                    Intolerance(
                        campaign=campaign["name"],
                        workload=workload,
                        vm_count=scope[workload],
                        vm_hit_count=int(rows["is_hit"].sum()),
                        over_tolerance_count=over_count,
                        tolerance_ms_min=int(min(known["tolerance_ms"])),
                        tolerance_ms_max=int(max(known["tolerance_ms"])),
                        left_out_count=sum(scope[each] for each in {workload, None} & scope.keys()),
                        remedies=tuple(_remedies(files, campaign, workload, known, scope)),
                    )
                )
    place = {each["name"]: number for number, each in enumerate(files.campaigns)}
    return sorted(found, key=lambda each: (place[each.campaign], -each.over_tolerance_count, each.workload or ""))


def _remedies(
    files: RunFiles, campaign: dict[str, Any], workload: str | None, rows: pl.DataFrame, scope: dict[str | None, int]
) -> Iterator[Remedy]:
    """What helps the VMs hit of *rows*: counts by what they stand. *scope*: VMs selected, by workload."""
    tolerance_ms, can_migrate = pl.col("tolerance_ms"), pl.col("can_migrate")
    over_count = int(rows["is_over"].sum())

    def after(
        name: str, sentence: str, still_over: pl.Expr, is_expected: bool = False, toml: str | None = None
    ) -> Remedy:
        over = float(rows.select(still_over.sum()).item())
        return Remedy(name, sentence, over_count - over, over, is_expected, toml)

    p50, p99 = (f"{value_ms // 1_000} s" for value_ms in PUBLISHED_PAUSE_MS)
    shares = [_published_share(value_ms) for value_ms in rows["tolerance_ms"]]
    yield after(
        "published_profile",
        f"pauses half below {p50}, one in a hundred above {p99}",
        pl.col("is_hit") * (1 - pl.Series(shares, dtype=pl.Float64)),
        is_expected=True,
        toml=f'length = {{ p50 = "{p50.replace(" ", "")}", p99 = "{p99.replace(" ", "")}" }}',
    )
    yield after(
        "published_maximum",
        f"pauses never above {PUBLISHED_PAUSE_MS_MAX // 1_000} s, all that long",
        pl.col("is_hit").filter(tolerance_ms < PUBLISHED_PAUSE_MS_MAX),
        toml=f'length = "{pause_key(PUBLISHED_PAUSE_MS_MAX)}"',
    )
    least_ms = int(rows.select(tolerance_ms.min()).item())
    if least_ms > 0:
        longest = f"no pause above {duration(least_ms)}: the longest that all of them stand"
        yield after("longest_pause", longest, pl.lit(0), toml=f'length = "{pause_key(least_ms)}"')
    fixed = "" if rows["can_migrate"].all() else "; some sizes cannot"
    yield after(
        "live_migration",
        f"live migration, with pauses of typically {LIVE_MIGRATION_PAUSE_MS // 1_000} s at most{fixed}",
        pl.when(can_migrate & (tolerance_ms < LIVE_MIGRATION_PAUSE_MS))
        .then("is_hit")
        .when(can_migrate)
        .then(0)
        .otherwise("is_over"),
        is_expected=True,
    )
    yield _leaving_out(files, campaign, workload, over_count, scope)
    yield Remedy(
        "self_service",
        "self-service: only maintenance that reboots VMs has it, a freeze has none",
        0,
        over_count,
    )


def _leaving_out(
    files: RunFiles, campaign: dict[str, Any], workload: str | None, over_count: int, scope: dict[str | None, int]
) -> Remedy:
    """Leaving *workload* out by `where`, which names those that stay in: VMs without workload go out with it."""
    kept = [name for name in scope if name is not None and name != workload]
    left_count = sum(scope[each] for each in {workload, None} & scope.keys())
    others = left_count - scope[workload]
    besides = f", {others:,} without workload among them" if others else ""
    sentence = f"leaving it out: {left_count:,} VMs stay without the update{besides}"
    toml = None
    if kept and not files.only:
        where = {**campaign.get("where", {}), "workload": kept}
        toml = (
            f"where = {{ {', '.join(f'{_toml_key(column)} = {_toml(values)}' for column, values in where.items())} }}"
        )
    return Remedy("leaving_out", sentence, over_count, 0, toml=toml)


def _toml_key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name)


def _toml(value: Any) -> str:
    """*value*, text, number, truth or list of them, as TOML; a list breaks into lines, as even inline tables may."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # JSON leaves that one as it is
    if not isinstance(value, list):
        return _text(value)
    lines = [""]
    for each in map(_toml, value):
        if lines[-1] and len(lines[-1]) + len(each) > _TOML_WIDTH:
            lines.append("")
        lines[-1] += f"{' ' if lines[-1] else ''}{each},"
    if len(lines) == 1:
        return f"[{lines[0].removesuffix(',')}]"
    return "\n".join(["[", *(f"  {line}" for line in lines), "]"])


_TOML_WIDTH = 64


def _published_share(tolerance_ms: int) -> float:
    """The share of pauses of the published profile, lognormal by its p50 and p99, that are *tolerance_ms* at most."""
    if tolerance_ms <= 0:
        return 0.0
    p50_ms, p99_ms = PUBLISHED_PAUSE_MS
    z = math.log(tolerance_ms / p50_ms) / math.log(p99_ms / p50_ms) * _Z_P99
    return (1 + math.erf(z / math.sqrt(2))) / 2


def pauses_over(counted: pl.DataFrame, pause_bounds_ms: Iterable[int]) -> pl.DataFrame:
    """`paused_over_ratio` by campaign and `pause` (a `pause_key`), from `impacts` *counted* with such tallies."""
    by_campaign = impact_by(counted, ["campaign"])
    return pl.concat(
        by_campaign.select(
            "campaign",
            pause=pl.lit(pause_key(bound_ms)),
            pause_ms=pl.lit(bound_ms, pl.Int64),
            paused_over_ratio=pl.when(pl.col("vm_hit_count") > 0).then(
                pl.col(f"paused_over_{bound_ms}_count") / pl.col("vm_hit_count")
            ),
        )
        for bound_ms in pause_bounds_ms
    ).sort("campaign", "pause_ms")


def pause_ms(text: str) -> int:
    """A length in ms from *text* as scenarios spell it: `25s`, `1.5min`; raise `InputError` for anything else."""
    units_ms = {"ms": 1, "s": 1_000, "min": 60_000, "h": HOUR_MS, "d": 24 * HOUR_MS}
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)(ms|s|min|h|d)", text.strip())
    value_ms = Fraction(match[1]) * units_ms[match[2]] if match else Fraction(-1)
    if not (0 <= value_ms <= schema.LENGTH_MS_MAX and value_ms.denominator == 1):
        raise InputError(f"timeout: must be a length up to 49 d in ms, s, min, h or d, as 25s, got '{text}'")
    return int(value_ms)


def pause_key(value_ms: int) -> str:
    """*value_ms* as a key of the grain `pause`: `25s`, `1500ms`."""
    return f"{value_ms // 1_000}s" if value_ms % 1_000 == 0 else f"{value_ms}ms"


# Sets and applications that are out


def application_outages(
    run: str | Path | RunFiles, resolved: Mapping[str, Any] | None = None, progress: Progress | None = None
) -> pl.DataFrame | None:
    """How long each application is out and without quorum: one row a campaign and application it hits, worst first.

    Swept exactly out of the events and the fleet's `application`, over all regions; a VM counts from `created` to
    `deleted`. Columns: `campaign`, `application`, `vm_count` (all it has), `vm_hit_count`, `first_start_ms`,
    `last_end_ms` (since scenario start), `application_out_ms` (all living VMs out), `quorum_lost_ms` (null without
    [quorum] by application), `application_down_ratio_max` and `month_out_ms_max` (the most of application_out_ms
    within a month of 30 d since scenario start). None where the fleet has no applications or no events were kept.

    *run* is the folder; with *resolved*, what resolved.toml says or will say, its manifest is not looked at. About
    INTERVALS_AT_ONCE impacts are in memory at a time, besides the rows found.
    """
    files = _files_of(run, resolved, progress)
    if "application" not in files.fleet_schema or not files.has("events"):
        return None
    found = [_APPLICATIONS]
    for campaign in files.campaigns:
        for rows in _applications(files, [campaign["name"]]):
            found.append(rows.select(pl.lit(campaign["name"]).alias("campaign"), *_APPLICATIONS.columns[1:]))
    place = {each["name"]: number for number, each in enumerate(files.campaigns)}
    worst = ["quorum_lost_ms", "application_out_ms", "application_down_ratio_max", "vm_count"]
    return pl.concat(found).sort(
        pl.col("campaign").replace_strict(place, return_dtype=pl.Int64),
        *worst,
        "application",
        descending=[False, *(True for _ in worst), False],
        nulls_last=True,
    )


def application_totals(
    run: str | Path | RunFiles, resolved: Mapping[str, Any] | None = None, progress: Progress | None = None
) -> dict[str, dict[str, int]]:
    """Campaign -> `application_out_ms` and, with [quorum] by application, `quorum_lost_ms`, summed over applications.

    As `application_outages`, of which no row is kept. Empty where that is None.
    """
    files = _files_of(run, resolved, progress)
    if "application" not in files.fleet_schema or not files.has("events"):
        return {}
    names = ["application_out_ms", *(["quorum_lost_ms"] if _min_up(files) is not None else [])]
    totals = {}
    for campaign in files.campaigns:
        sums = dict.fromkeys(names, 0)
        for rows in _applications(files, [campaign["name"]]):
            for name in names:
                sums[name] += int(rows[name].sum())
        totals[campaign["name"]] = sums
    return totals


_APPLICATIONS = pl.DataFrame(
    schema={
        "campaign": pl.String,
        "application": pl.String,
        **dict.fromkeys(("vm_count", "vm_hit_count", "first_start_ms", "last_end_ms"), pl.Int64),
        **dict.fromkeys(("application_out_ms", "quorum_lost_ms"), pl.Int64),
        "application_down_ratio_max": pl.Float64,
        "month_out_ms_max": pl.Int64,
    }
)


def _files_of(run: str | Path | RunFiles, resolved: Mapping[str, Any] | None, progress: Progress | None) -> RunFiles:
    if isinstance(run, RunFiles):
        return run
    return RunFiles.open(run) if resolved is None else RunFiles(Path(run), {}, dict(resolved))


def _min_up(files: RunFiles) -> str | int | float | None:
    """How many VMs of an application [quorum] asks for; None where it asks for none, or of sets."""
    quorum = files.resolved.get("quorum", {})
    return quorum["min_up"] if quorum.get("by") == "application" else None


def quorum_needed(min_up: str | int | float) -> pl.Expr:
    """How many VMs must be up of `living`: a majority, a count, or a share, rounded up."""
    if min_up == "majority":
        return pl.col("living") // 2 + 1
    if isinstance(min_up, float):
        ratio = Fraction(str(min_up))  # as the scenario spells it: 0.55 of 20 are 11, in floats a hair more
        return (pl.col("living").cast(pl.Int64) * ratio.numerator + (ratio.denominator - 1)) // ratio.denominator
    return pl.lit(int(min_up), pl.Int64)


def _applications(files: RunFiles, names: Collection[str]) -> Iterator[pl.DataFrame]:
    """The columns of `application_outages`, but for the campaign, of the campaigns *names* taken together."""
    events: dict[Path, list[Path]] = defaultdict(list)
    for part in files.parts("events"):
        if part.campaign in names:
            events[part.fleet_path].append(part.path)
    min_up = _min_up(files)
    lost = None if min_up is None else _is_lost(min_up)
    for fleets in _portions(files, events):
        rows_hit = [
            pl.concat(_intervals(files, each) for each in events[path]).join(
                rows.select("vm_row", "group"), on="vm_row"
            )
            for path, rows in fleets.items()
            if path in events
        ]
        if not rows_hit:
            continue
        hits = pl.concat(_in_turn(files, "applications", rows_hit))
        if hits.is_empty():
            continue
        hit_groups = hits.lazy().select("group").unique()
        lives = [_lives(files, rows.join(hit_groups, on="group", how="semi")) for rows in fleets.values()]
        vms = pl.concat(_in_turn(files, "applications", lives))
        # Both are in memory, so that the codes of words are the same in both; numbers sort three times as fast.
        words, code = vms.select(pl.col("group").unique()), pl.col("group").to_physical()
        hits, vms = hits.with_columns(code), vms.with_columns(code)
        spans = _out_spans(vms.lazy(), hits.lazy())
        span_ms = pl.col("end_ms") - pl.col("start_ms")
        out = spans.group_by("group").agg(
            application_out_ms=span_ms.filter(_IS_ALL_OUT).sum(),
            quorum_lost_ms=pl.lit(None, pl.Int64) if lost is None else span_ms.filter(lost).sum(),
            application_down_ratio_max=pl.col("down_ratio").max(),
        )
        hit = hits.group_by("group").agg(
            vm_hit_count=pl.col("vm_row").n_unique().cast(pl.Int64),
            first_start_ms=pl.col("start_ms").min(),
            last_end_ms=pl.col("end_ms").max(),
        )
        yield (
            hit.join(vms.group_by("group").agg(pl.col("vm_count").sum()), on="group", how="left")
            .join(out, on="group", how="left")
            .join(_most_in_a_month(spans.filter(_IS_ALL_OUT), "group"), on="group", how="left")
            .join(words.select(code, application=pl.col("group").cast(pl.String)), on="group", how="left")
            .with_columns(pl.col("month_out_ms_max").fill_null(0))
            .select(_APPLICATIONS.columns[1:])
        )


_IS_ALL_OUT = pl.col("out") == pl.col("living")


def _is_lost(min_up: str | int | float) -> pl.Expr:
    """Whether too few are up, while enough to be up are living."""
    needed, living = quorum_needed(min_up), pl.col("living")
    return (living >= needed) & (living - pl.col("out") < needed)


def _portions(files: RunFiles, events: Mapping[Path, list[Path]]) -> Iterator[dict[Path, pl.LazyFrame]]:
    """The VMs with an application, in portions of whole applications: fleet part -> `vm_row`, `group`, lifetimes.

    One portion where they fit in memory; else those of applications that are in one region, region by region, and
    the rest over all regions, each cut by a hash of the application where even that is too much.
    """
    lives = {name: name for name in ("created", "deleted") if name in files.fleet_schema}
    fleets = {
        path: files.fleet(path, {"group": "application", **lives}).filter(pl.col("group").is_not_null())
        for path in files.fleet_paths
    }
    counts: dict[Path, int] = defaultdict(int)
    for path in fleets:
        # Lifetimes are rows too.
        counted = [*events.get(path, []), *([path] if lives else [])]
        counts[path] = max(
            (each.item() for each in pl.collect_all([_scan(each).select(pl.len()) for each in counted])), default=0
        )
    if sum(counts.values()) <= INTERVALS_AT_ONCE:
        yield fleets
        return
    regions: dict[str, list[Path]] = defaultdict(list)
    for path in fleets:
        regions[path.parent.name].append(path)
    seen = []
    for paths in regions.values():
        seen.append(
            pl.concat(
                _in_turn(files, "applications", [fleets[path].select("group").unique() for path in paths])
            ).unique()
        )
    in_regions = pl.concat(seen).group_by("group").agg(region_count=pl.len())
    wide = in_regions.filter(pl.col("region_count") > 1).select("group").lazy()
    for paths in regions.values():
        narrow = {path: fleets[path].join(wide, on="group", how="anti") for path in paths}
        yield from _cut(narrow, sum(counts[path] for path in paths))
    if len(wide.collect()):
        everywhere = {path: rows.join(wide, on="group", how="semi") for path, rows in fleets.items()}
        sizes = pl.collect_all([rows.select(pl.len()) for rows in everywhere.values()])
        yield from _cut(everywhere, sum(size.item() for size in sizes))


def _cut(fleets: dict[Path, pl.LazyFrame], interval_count: int) -> Iterator[dict[Path, pl.LazyFrame]]:
    """*fleets* by a hash of their applications, so that about INTERVALS_AT_ONCE of *interval_count* are in each."""
    portion_count = -(-interval_count // INTERVALS_AT_ONCE)
    for portion in range(portion_count):
        is_here = pl.col("group").cast(pl.String).hash() % portion_count == portion
        yield {path: rows.filter(is_here) for path, rows in fleets.items()}


def _lives(files: RunFiles, rows: pl.LazyFrame) -> pl.LazyFrame:
    """`vm_count` of *rows* by `group`, `created_ms` and `deleted_ms` since scenario start (null: always, never)."""
    lives = {
        f"{name}_ms": _ms_since_start(files, name) if name in files.fleet_schema else pl.lit(None, pl.Int64)
        for name in ("created", "deleted")
    }
    return rows.select("group", **lives).group_by("group", *lives).agg(vm_count=pl.len().cast(pl.Int64))


def _out_spans(vms: pl.LazyFrame, hits: pl.LazyFrame) -> pl.DataFrame:
    """The spans in which VMs of a group are out: `group`, `start_ms`, `end_ms`, `out`, `living`, `down_ratio`.

    *vms* as `_lives` has them; *hits*: `group`, `start_ms`, `end_ms`, one row an impact.
    A sweep: the changes of both counts, summed in order of time; between two at one instant nothing lasts. Each group
    begins and ends with nobody, so one running sum serves them all.
    """
    none, one = pl.lit(0, pl.Int64), pl.lit(1, pl.Int64)
    living = pl.col("vm_count")
    always = vms.group_by("group").agg(
        living=living.filter(pl.col("created_ms").is_null()).sum(),
        ever=living.filter(pl.col("deleted_ms").is_null()).sum(),
    )
    changes = [
        hits.select("group", at_ms="start_ms", out=one, living=none),
        hits.select("group", at_ms="end_ms", out=-one, living=none),
        vms.drop_nulls("created_ms").select("group", at_ms="created_ms", out=none, living=living),
        vms.drop_nulls("deleted_ms").select("group", at_ms="deleted_ms", out=none, living=-living),
        always.select("group", at_ms=pl.lit(-schema.NEVER_MS, pl.Int64), out=none, living="living"),
        always.select("group", at_ms=pl.lit(schema.NEVER_MS, pl.Int64), out=none, living=-pl.col("ever")),
    ]
    return (
        pl.concat(changes)
        .sort("group", "at_ms")
        .select(
            "group",
            pl.col("out", "living").cum_sum(),
            start_ms="at_ms",
            end_ms=pl.col("at_ms").shift(-1),
        )
        .filter((pl.col("out") > 0) & (pl.col("start_ms") < pl.col("end_ms")))
        # Where Polars knows `living` to be the same all over, it would multiply by 1 / living: 3 of 5 is not 3 x 0.2.
        .with_columns(down_ratio=pl.map_batches(["out", "living"], _ratio, return_dtype=pl.Float64))
        .collect()
    )


def _ratio(both: Sequence[pl.Series]) -> pl.Series:
    """The first of *both* over the second, to the last bit."""
    part, whole = both
    return pl.Series(part.to_numpy() / whole.to_numpy())


def _most_in_a_month(spans: pl.DataFrame, key: str) -> pl.DataFrame:
    """`month_out_ms_max` by *key*: the most of the *spans* (`start_ms`, `end_ms`) within one month, cut exactly."""
    month = pl.col("month")
    return (
        spans.lazy()
        .with_columns(month=pl.int_ranges(pl.col("start_ms") // MONTH_MS, (pl.col("end_ms") - 1) // MONTH_MS + 1))
        .explode("month")
        .group_by(key, "month")
        .agg(
            out_ms=(
                pl.min_horizontal("end_ms", (month + 1) * MONTH_MS) - pl.max_horizontal("start_ms", month * MONTH_MS)
            ).sum()
        )
        .group_by(key)
        .agg(month_out_ms_max=pl.col("out_ms").max())
        .collect()
    )


def service_levels(files: RunFiles, campaign_rows: pl.DataFrame, applications: pl.DataFrame | None) -> pl.DataFrame:
    """How many miss each of SLA_COUNTS: one row a campaign and `of` (`vm`, `set`, `application`).

    Of several campaigns, `*` is all of them together. *campaign_rows* are those of `campaigns`, with pauses;
    *applications* is what `application_outages` found. Sets are whole, so they are left out where only some VMs are
    looked at; all are where the run kept no events.
    """
    names = [each["name"] for each in files.campaigns]
    views = {name: [name] for name in names} | ({"*": names} if len(names) > 1 else {})
    found = []
    for view, own in views.items():
        rows = campaign_rows.filter(pl.col("campaign").is_in(own))
        # Nobody is out for longer than the longest pauses of each campaign: mostly that alone is the answer.
        is_paused = all(each["kind"] in _PAUSING for each in files.campaigns if each["name"] in own)
        longest_ms = int(rows["paused_ms_max"].sum()) if is_paused else None
        months: dict[str, list[pl.Series]] = {}
        if files.has("events"):
            months["vm"] = [] if _is_short(longest_ms) else _months_of(files, own, "vm_row")
            if "set" in files.fleet_schema and not files.only:
                # Within its region no two stages are at work at once, so that campaigns add up.
                months["set"] = [] if _is_short(int(rows["set_out_ms"].sum())) else _months_of(files, own, "set")
        if applications is not None:
            if len(own) == 1:
                months["application"] = [applications.filter(campaign=own[0])["month_out_ms_max"]]
            elif _is_short(longest_ms) and not {"created", "deleted"} & set(files.fleet_schema):
                months["application"] = []
            else:
                months["application"] = [each["month_out_ms_max"] for each in _applications(files, own)]
        for of, each in months.items():
            missed = {name: sum(int((ms > allowed_ms).sum()) for ms in each) for name, allowed_ms in SLA_COUNTS.items()}
            found.append({"campaign": view, "of": of, **missed})
    return pl.DataFrame(found, schema={"campaign": pl.String, "of": pl.String, **dict.fromkeys(SLA_COUNTS, pl.Int64)})


_PAUSING = ("no_impact", "freeze", "live_migration")


def _is_short(value_ms: int | None) -> bool:
    """Whether *value_ms* out in all is within every service level."""
    return value_ms is not None and value_ms <= min(SLA_LINES.values())


def _months_of(files: RunFiles, names: Collection[str], key: str) -> list[pl.Series]:
    """The most each VM (*key* `vm_row`), or set, is out within a month by the campaigns *names*; one series a part.

    Neither is in two parts of the fleet.
    """
    events: dict[Path, list[pl.LazyFrame]] = defaultdict(list)
    for part in files.parts("events"):
        if part.campaign in names:
            events[part.fleet_path].append(_intervals(files, part.path))
    found = []
    lives = {name: name for name in ("created", "deleted") if name in files.fleet_schema}
    for fleet_path, pieces in events.items():
        hits = pl.concat(pieces)
        if key == "vm_row":
            if files.only:
                hits = hits.join(files.fleet(fleet_path, {}), on="vm_row", how="semi")
            spans = hits.collect()
        else:
            vms = files.fleet(fleet_path, {"group": key, **lives}).filter(pl.col("group").is_not_null())
            spans = _out_spans(_lives(files, vms), hits.join(vms.select("vm_row", "group"), on="vm_row"))
            spans = spans.filter(_IS_ALL_OUT)
        found.append(_most_in_a_month(spans, "group" if key != "vm_row" else key)["month_out_ms_max"])
    return found


# Why so long


@dataclass(frozen=True, slots=True)
class Link:
    """One stage of the chain that bounds a campaign's length: what released it, and what then took its time.

    `after` is the (campaign, region) whose end released the stage, None where none did, and `cause` one of CAUSES;
    `waited_ms` counts from when it was asked for, of a later wave from the campaign's start. Its region is free
    again from `free_ms` on: later than its last end where units waited for VMs that were deleted. Spread, work and
    gap are those of the set or single that ended last; they sum up to the stage.
    """

    campaign: str
    iteration: int
    region: str
    wave: int
    after: tuple[str, str] | None
    cause: str | None
    asked_ms: int
    start_ms: int
    end_ms: int
    free_ms: int
    waited_ms: int
    pair_lag_ms: int
    bake_ms: int
    spread_ms: int
    work_ms: int
    gap_ms: int
    set: int | str | None
    vm: int | str | None
    domain_count: int

    def sentence(self, campaign: str) -> str:
        """The link in words, in a chain of *campaign*: instants since scenario start, so that links add up."""
        subject = self.region if self.campaign == campaign else f"{self.campaign} in {self.region}"
        terms = [(self.spread_ms, "spread"), (self.work_ms, "work"), (self.gap_ms, "gap")]
        spent = [f"{duration(value_ms)} of {word}" for value_ms, word in terms if value_ms] or ["nothing"]
        listed = spent[0] if len(spent) == 1 else f"{', '.join(spent[:-1])} and {spent[-1]}"
        domains = f"{self.domain_count} domain{'s' if self.domain_count != 1 else ''}"
        what = f"single {self.vm}" if self.set is None else f"set {self.set} ({domains})"
        waiting_ms = self.free_ms - self.end_ms
        emptied = f", then {duration(waiting_ms)} until the last VM it waited for was deleted" if waiting_ms else ""
        return f"{subject} from {duration(self.start_ms)}, {self._cause()}: {listed} in {what}{emptied}"

    def _cause(self) -> str:
        if self.cause is None:
            if self.waited_ms:
                return f"{duration(self.waited_ms)} after it was asked for, for no stage of this run"
            return "as asked"
        if self.cause == "wave":
            former = f" with {self.after[1]}" if self.after else ""
            bake = f" and {duration(self.bake_ms)} of bake" if self.bake_ms else ""
            return f"after the wave before it ended{former}{bake}"
        assert self.after is not None, "a stage waits for a stage"
        campaign, region = self.after
        waited_for = [f"{region} (pair)"] if region != self.region else []
        waited_for += [f"campaign {campaign}"] if campaign != self.campaign else []
        lag = f" and {duration(self.pair_lag_ms)} of pair lag" if self.pair_lag_ms else ""
        return f"after {' of '.join(waited_for) or 'its earlier iteration'}{lag}"


@dataclass(frozen=True, slots=True)
class _Release:
    """What let a stage start when it did: one of CAUSES, the stage that ended if it is known, lag or bake after it."""

    cause: str | None = None
    by: dict[str, Any] | None = None
    after_ms: int = 0


def chain(files: RunFiles, stage_rows: pl.DataFrame, campaign: str) -> list[Link]:
    """The stages that led, one releasing the next, to the last end of *campaign*, in order of time.

    Found backwards from the stage that ended last: a stage that did not start when asked started when a region,
    its own or a paired one, was free again, plus lag; its own, as its `bottleneck`, where both fit. One that
    did was released by its wave: by the stage of a former wave that was free last, plus bake.
    """
    rows = stage_rows.drop_nulls("end_ms").to_dicts()
    own = [row for row in rows if row["campaign"] == campaign]
    stage = max(own, key=lambda row: (row["end_ms"], row["region"]), default=None)
    links: list[Link] = []
    while stage is not None:
        release = _released(files, rows, stage)
        vm, its_set = _last_of(files, stage)
        asked_ms = _campaign_start_ms(files, stage) if release.cause == "wave" else stage["asked_ms"]
        links.append(
            Link(
                campaign=stage["campaign"],
                iteration=stage["iteration"],
                region=stage["region"],
                wave=stage["wave"],
                after=(release.by["campaign"], release.by["region"]) if release.by else None,
                cause=release.cause,
                asked_ms=stage["asked_ms"],
                start_ms=stage["start_ms"],
                end_ms=stage["end_ms"],
                free_ms=stage["free_ms"],
                waited_ms=stage["start_ms"] - asked_ms,
                pair_lag_ms=release.after_ms if release.cause == "pair" else 0,
                bake_ms=release.after_ms if release.cause == "wave" else 0,
                spread_ms=stage["last_spread_ms"],
                work_ms=stage["last_work_ms"],
                gap_ms=stage["last_gap_ms"],
                set=its_set,
                vm=vm if its_set is None else None,
                domain_count=stage["last_domain_count"],
            )
        )
        stage = release.by
    return links[::-1]


def _released(files: RunFiles, rows: list[dict[str, Any]], stage: dict[str, Any]) -> _Release:
    """What released *stage*, one of *rows*, the stages that were at work."""
    of = {each["name"]: each for each in files.campaigns}
    if stage["start_ms"] == stage["asked_ms"]:
        if stage["wave"] == 1:
            return _Release()
        bake_ms = int(of[stage["campaign"]].get("bake_ms", 0))
        former = []
        for row in rows:
            # A wave between the two with nobody to hit was over at once: its bake passed all the same.
            baked_ms = bake_ms * (stage["wave"] - row["wave"])
            is_former = row["campaign"] == stage["campaign"] and row["wave"] < stage["wave"]
            if is_former and row["free_ms"] + baked_ms == stage["asked_ms"]:
                former.append((row["wave"], row["region"], row, baked_ms))
        _, _, by, baked_ms = max(former, key=lambda each: each[:2], default=(0, "", None, bake_ms))
        return _Release("wave", by, baked_ms)
    found = _Release()
    for row in rows:
        is_own = row["region"] == stage["region"]
        is_paired = (
            frozenset((row["region"], stage["region"])) in files.edges
            and {row["campaign"], stage["campaign"]} <= files.excluding
        )
        lag_ms = max(int(of[each["campaign"]]["pair_lag_ms"]) for each in (row, stage)) if is_paired else 0
        is_then = row["free_ms"] + lag_ms == stage["start_ms"] and row["start_ms"] < stage["start_ms"]
        if is_then and is_own:
            return _Release("campaign", row)
        if is_then and is_paired and found.by is None:
            found = _Release("pair", row, lag_ms)
    return found


def _campaign_start_ms(files: RunFiles, stage: dict[str, Any]) -> int:
    return int(next(each.get("start_ms", 0) for each in files.campaigns if each["name"] == stage["campaign"]))


def waits(files: RunFiles, stage_rows: pl.DataFrame) -> pl.DataFrame:
    """`waited_ms` of each campaign by `cause`, one of CAUSES, summed over its stages that were at work."""
    rows = stage_rows.drop_nulls("end_ms").to_dicts()
    waited_ms = {(each["name"], cause): 0 for each in files.campaigns for cause in CAUSES}
    for stage in rows:
        name, release = stage["campaign"], _released(files, rows, stage)
        if stage["wave"] > 1:
            waited_ms[name, "wave"] += stage["asked_ms"] - _campaign_start_ms(files, stage)
        if release.cause in ("pair", "campaign"):
            waited_ms[name, release.cause] += stage["start_ms"] - stage["asked_ms"]
        waited_ms[name, "spread"] += stage["last_spread_ms"]
        waited_ms[name, "gap"] += stage["last_gap_ms"]
    return pl.DataFrame(
        [(*key, value_ms) for key, value_ms in waited_ms.items()],
        schema={"campaign": pl.String, "cause": pl.String, "waited_ms": pl.Int64},
        orient="row",
    )


def _last_of(files: RunFiles, stage: dict[str, Any]) -> tuple[int | str | None, int | str | None]:
    """The user's `vm` and `set` at the stage's `last_vm_row`."""
    columns = ["vm", *(["set"] if "set" in files.fleet_schema else [])]
    folder = files.path / "fleet" / f"region={stage['region']}"
    for path in sorted(folder.glob("*.parquet")):
        found = _scan(path).filter(pl.col("vm_row") == stage["last_vm_row"]).select(columns).collect()
        if len(found):
            row = found.row(0, named=True)
            return row["vm"], row.get("set")
    return None, None


# Words for people


def duration(value_ms: float) -> str:
    """*value_ms* as people say it: `250 ms`, `30.0 s`, `9 min 30 s`, `25 h 20 min`, `1,870 d 3 h`."""
    whole_ms = round(value_ms)
    if whole_ms < 1_000:
        return f"{whole_ms} ms" if whole_ms else "0 s"
    if whole_ms < 59_950:
        return f"{whole_ms / 1_000:.1f} s"
    for larger, larger_s, smaller, smaller_s, stop_s in _SPANS:
        # Rounded before the units are chosen, so that 59 min 59.9 s is 1 h and not 59 min 60 s.
        rounded_s = round(whole_ms / 1_000 / smaller_s) * smaller_s
        if rounded_s < stop_s:
            first, rest_s = divmod(rounded_s, larger_s)
            return f"{first:,} {larger}" + (f" {rest_s // smaller_s} {smaller}" if rest_s else "")
    raise AssertionError("the last span has no end")


_SPANS: tuple[tuple[str, int, str, int, float], ...] = (
    ("min", 60, "s", 1, 3_600),
    ("h", 3_600, "min", 60, 100 * 3_600),
    ("d", 86_400, "h", 3_600, float("inf")),
)
"""Larger unit and its seconds, smaller unit and its seconds, and from how many seconds on it is too fine."""
