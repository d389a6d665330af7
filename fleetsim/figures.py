"""What a run is measured by: each figure defined once, and the queries that compute it from the run's folder.

A stranger to the engine: it meets a run only in its files. Figures of campaigns and stages come from the
engine's own aggregates, which `fleetsim verify` recomputes from the events. Exact percentiles and groups by
fleet column come from the outcomes, else the events, a few parts at a time: memory follows the part, not the
fleet.
"""

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
import polars.selectors as cs

from fleetsim import schema
from fleetsim.errors import InputError, nearest, nearest_path
from fleetsim.schema import Effect, Kind

HOUR_MS = 3_600_000
PERCENTILES = (50, 99)
BINS_AN_OCTAVE = 64
"""Bins in which pauses are counted first: a percentile's bin, about 1 % wide, holds few VMs or few values."""
PARTS_AT_ONCE = 4
"""Parts read side by side: enough to keep the disk busy, few enough to bound memory."""

STAGE = ("campaign", "iteration", "region")
"""What names a stage in every table."""
GRAINS = ("campaign", "stage", "hour", "by")
"""What a figure can be of; `by` stands for the fleet columns a reader asks for."""

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


FIGURES = {
    figure.name: figure
    for figure in (
        Figure("length_ms", "ms", "from the first unit's start to the last unit's end", ("campaign", "stage")),
        Figure(
            "length_bound_ratio",
            "ratio",
            "length_ms over the best lower bound: the longest set or single or, of a campaign, those of two"
            " paired regions one after the other, pair_lag between them",
            ("campaign", "stage"),
        ),
        Figure("vm_count", "VMs", "VMs in scope, hit or not", ("campaign", "stage", "by")),
        Figure("vm_hit_count", "VMs", "VMs in scope that have an event", ("campaign", "stage", "by")),
        Figure(
            "paused_ms_p50",
            "ms",
            "pause of a VM, summed over its events: at position ceil(0.50 n) of the n VMs with an event",
            ("campaign", "stage", "by"),
        ),
        Figure("paused_ms_p99", "ms", "as paused_ms_p50, at position ceil(0.99 n)", ("campaign", "stage", "by")),
        Figure(
            "paused_ms_max",
            "ms",
            "longest pause of a VM, summed over its events",
            ("campaign", "stage", "by"),
        ),
        Figure("unavailable_ms", "VM-ms", "time VMs were paused or down, summed", ("campaign", "stage", "by")),
        Figure(
            "set_down_ratio_max",
            "ratio",
            "largest share of one set out at once, over sets with two populated domains and more",
            ("campaign", "stage"),
        ),
        Figure("set_out_ms", "ms", "time in which all VMs of a set were out, summed", ("campaign", "stage")),
        Figure("no_guarantee_count", "sets", "sets not promised a VM that stays up", ("campaign", "stage")),
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
    def fleet_path(self) -> Path:
        """The first part of the prepared fleet: no fleet is empty."""
        return min(self.path.glob("fleet/region=*/*.parquet"))

    @cached_property
    def fleet_schema(self) -> pl.Schema:
        """Columns of the prepared fleet; every part has them."""
        return _scan(self.fleet_path).collect_schema()

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
        events.join(_given(fleet_path, given), on="vm_row", maintain_order="left") for events, fleet_path in pieces
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


def _given(fleet_path: Path, given: Mapping[str, str]) -> pl.LazyFrame:
    """`vm_row` and the columns *given* (new name -> name) of one part of the fleet."""
    return _scan(fleet_path).select("vm_row", **{new: pl.col(name) for new, name in given.items()})


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
    scope = files.scan("stages").select(
        *STAGE,
        "bottleneck",
        vm_count=pl.sum_horizontal(pl.col(f"{word}_count").cast(pl.Int64) for word in schema.words(schema.Outcome)),
    )
    no_guarantee = files.scan("no_guarantee").group_by("region").agg(no_guarantee_count=pl.len().cast(pl.Int64))
    return (
        scope.join(singles, on=STAGE, how="left")
        .join(no_guarantee, on="region", how="left")
        .with_columns(
            pl.col("no_guarantee_count").fill_null(0),
            length_ms=pl.col("end_ms") - pl.col("first_start_ms"),
        )
        .with_columns(length_bound_ratio=pl.col("length_ms") / pl.col("longest_ms"))
        .sort("start_ms", *STAGE)
        .collect()
    )


@dataclass(frozen=True, slots=True)
class Bound:
    """The best lower bound of a campaign's length: the longest set of a region, or of a pair in turn."""

    bound_ms: int
    regions: tuple[str, ...]
    pair_lag_ms: int

    def sentence(self) -> str:
        """The bound in words."""
        later = f", {duration(self.pair_lag_ms)} later," if self.pair_lag_ms else ""
        then = "".join(f", then{later} in its pair {region}" for region in self.regions[1:])
        return (
            f"no order takes less than {duration(self.bound_ms)}: the longest set or single in {self.regions[0]}{then}"
        )


def bound(files: RunFiles, stage_rows: pl.DataFrame, campaign: dict[str, Any]) -> Bound | None:
    """The largest lower bound of the length of *campaign*, the one that binds; None where nothing is hit.

    Two paired regions never work at once, so one's longest set, `pair_lag` and the other's follow each other.
    """
    longest_ms: dict[str, int] = dict(
        stage_rows.filter(pl.col("campaign") == campaign["name"])
        .drop_nulls("longest_ms")
        .group_by("region")
        .agg(pl.col("longest_ms").max())
        .sort("region")
        .rows()
    )
    bounds = [Bound(value_ms, (region,), 0) for region, value_ms in longest_ms.items()]
    for edge in sorted(sorted(edge) for edge in files.edges if edge <= longest_ms.keys()):
        lag_ms = int(campaign["pair_lag_ms"])
        bounds.append(Bound(sum(longest_ms[region] for region in edge) + lag_ms, tuple(edge), lag_ms))
    return max(bounds, key=lambda bound: bound.bound_ms, default=None)


def campaigns(files: RunFiles, stage_rows: pl.DataFrame) -> pl.DataFrame:
    """One row a campaign, in file order, with its figures; no VMs and no length where nothing is in scope."""
    bounds = {each["name"]: bound(files, stage_rows, each) for each in files.campaigns}
    names = pl.DataFrame(
        {
            "campaign": list(bounds),
            "bound_ms": [best.bound_ms if best else None for best in bounds.values()],
        },
        schema={"campaign": pl.String, "bound_ms": pl.Int64},
    )
    figures = stage_rows.group_by("campaign").agg(
        (pl.col("end_ms").max() - pl.col("first_start_ms").min()).alias("length_ms"),
        pl.col("vm_count", "vm_hit_count", "unavailable_ms", "set_out_ms", "no_guarantee_count").sum(),
        pl.col("set_down_ratio_max").max(),
    )
    return (
        names.join(figures, on="campaign", how="left", maintain_order="left")
        .with_columns(
            pl.col("vm_count", "vm_hit_count", "unavailable_ms", "set_out_ms", "no_guarantee_count").fill_null(0),
            length_bound_ratio=pl.col("length_ms") / pl.col("bound_ms"),
        )
        .drop("bound_ms")
    )


def hours(files: RunFiles) -> pl.DataFrame:
    """One row a campaign and hour since scenario start in which impacts start: quiet hours have none."""
    return (
        files.scan("summary")
        .filter(pl.col("figure").is_in(["hourly_start_count", "hourly_unavailable_ms"]))
        .group_by("campaign", hour=pl.col("bin_start_ms") // HOUR_MS)
        .agg(
            pl.col("value").filter(pl.col("figure") == name).sum().cast(pl.Int64).alias(name)
            for name in ("hourly_start_count", "hourly_unavailable_ms")
        )
        .filter((pl.col("hourly_start_count") > 0) | (pl.col("hourly_unavailable_ms") > 0))
        .sort("campaign", "hour")
        .collect()
    )


# Pauses: percentiles and groups


def impacts(files: RunFiles, columns: Mapping[str, str], grains: Sequence[Sequence[str]]) -> pl.DataFrame:
    """VMs in scope counted by what *grains* name and by pause, so that `impact_by` of a grain is exact.

    A grain names columns of STAGE and of *columns* (name here -> name in the fleet). Also `paused_ms` (null:
    no event), `paused_ms_max`, `vm_count`, `unavailable_ms`; from the outcomes, else the events.

    Counting each pause that occurs would take memory by the VM. So pauses are counted in narrow bins first,
    then, one by one, those in the bins that hold a percentile of a grain. Raise `InputError` where the run
    kept neither table and *columns* need one.
    """
    table = next((table for table in ("outcomes", "events") if files.has(table)), None)
    if table is None:
        if columns:
            raise InputError(
                f"{files.path}: groups by '{next(iter(columns.values()))}' need the outcomes or the events,"
                " got [outputs] with both false; without them only 'region' can be grouped by"
            )
        return _histogram(files)
    keys = list(dict.fromkeys(key for grain in grains for key in grain))
    binned = _counted(files, table, columns, [*keys, "bin"])
    wide = [
        binned.join(_percentile_bins(binned, grain), on=[*grain, "bin"], how="semi", nulls_equal=True)
        for grain in grains
    ]
    split = pl.concat(wide).select(*keys, "bin").unique()
    if not split.is_empty():
        rest = binned.join(split, on=[*keys, "bin"], how="anti", nulls_equal=True)
        one_by_one = _counted(files, table, columns, [*keys, "bin", "paused_ms"], split)
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
    files: RunFiles, table: str, columns: Mapping[str, str], keys: list[str], only: pl.DataFrame | None = None
) -> pl.DataFrame:
    """VMs in scope counted by *keys*, with the pauses' bounds; those that join *only*, where it is given."""
    sums = {
        "paused_ms": pl.col("paused_ms").min(),
        "paused_ms_max": pl.col("paused_ms_max").max(),
        "vm_count": pl.col("vm_count").sum(),
        "unavailable_ms": pl.col("unavailable_ms").sum(),
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
        "paused_ms_max",
        "vm_count",
        "unavailable_ms",
    ]
    total = pl.DataFrame(schema={name: types.get(name, pl.Int64()) for name in order})
    parts = files.parts(table)
    for first in range(0, len(parts), PARTS_AT_ONCE):
        rows = [_impacts_of_part(part, table, columns) for part in parts[first : first + PARTS_AT_ONCE]]
        if only is not None:
            rows = [row.join(only.lazy(), on=only.columns, how="semi", nulls_equal=True) for row in rows]
        counted = pl.collect_all([row.group_by(keys).agg(**sums).select(order) for row in rows])
        total = pl.concat([total, *counted]).group_by(keys).agg(**sums).select(order)
    return total


def _impacts_of_part(part: Part, table: str, columns: Mapping[str, str]) -> pl.LazyFrame:
    """One row a VM in scope of *part*: what `_counted` counts by, and the sums of the VM alone."""
    rows = _scan(part.path)
    fleet = _given(part.fleet_path, columns)
    if table == "outcomes":
        hit = rows.select(
            "vm_row",
            paused_ms=pl.when(pl.col("event_count") > 0).then(pl.col("paused_ms").cast(pl.Int64)),
            unavailable_ms=pl.col("paused_ms").cast(pl.Int64) + pl.col("down_ms"),
        )
        if columns:
            hit = hit.join(fleet, on="vm_row")
    else:
        kind = pl.col("kind").cast(pl.String)
        paused = kind.is_in([Kind.FREEZE.name.lower(), Kind.LIVE_MIGRATION.name.lower()])
        duration_ms = pl.col("duration_ms").cast(pl.Int64)
        per_vm = rows.group_by("vm_row").agg(
            paused_ms=duration_ms.filter(paused).sum(), unavailable_ms=duration_ms.sum()
        )
        # Every VM of a region in scope is in scope; one without an event is known to the fleet alone.
        hit = fleet.join(per_vm, on="vm_row", how="left").with_columns(pl.col("unavailable_ms").fill_null(0))
    return hit.with_columns(
        campaign=pl.lit(part.campaign),
        iteration=pl.lit(part.iteration, pl.UInt8),
        region=pl.lit(part.region),
        bin=((pl.col("paused_ms") + 1).log(2) * BINS_AN_OCTAVE).floor().cast(pl.Int32),
        paused_ms_max=pl.col("paused_ms"),
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
            pl.col("vm_count", "unavailable_ms").sum(),
            *(_nearest_rank(paused_ms, hit_count, each).alias(f"paused_ms_p{each}") for each in PERCENTILES),
            pl.col("paused_ms_max").max(),
            vm_hit_count=hit_count.sum(),
        )
        .sort("vm_count", *grain, descending=[True, *(False for _ in grain)])
        .collect()
    )


# Why so long


@dataclass(frozen=True, slots=True)
class Link:
    """One stage of the chain that bounds a campaign's length: what released it, and what then took its time.

    `after` is the (campaign, region) whose end released the stage, None where none did; `waited_ms` counts
    from when it was asked for. Spread, work and gap are those of the set or single that ended last; they sum
    up to the stage.
    """

    campaign: str
    iteration: int
    region: str
    after: tuple[str, str] | None
    asked_ms: int
    start_ms: int
    end_ms: int
    waited_ms: int
    pair_lag_ms: int
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
        return f"{subject} from {duration(self.start_ms)}, {self._cause()}: {listed} in {what}"

    def _cause(self) -> str:
        if self.waited_ms == 0:
            return "as asked"
        if self.after is None:
            return f"{duration(self.waited_ms)} after it was asked for, for no stage of this run"
        campaign, region = self.after
        waited_for = [f"{region} (pair)"] if region != self.region else []
        waited_for += [f"campaign {campaign}"] if campaign != self.campaign else []
        lag = f" and {duration(self.pair_lag_ms)} of pair lag" if self.pair_lag_ms else ""
        return f"after {' of '.join(waited_for) or 'its earlier iteration'}{lag}"


def chain(files: RunFiles, stage_rows: pl.DataFrame, campaign: str) -> list[Link]:
    """The stages that led, one releasing the next, to the last end of *campaign*, in order of time.

    Found backwards from the stage that ended last: a stage that did not start when asked started at the end,
    plus lag, of a stage in its own region or a paired one; of its own, as its `bottleneck`, where both fit.
    """
    rows = stage_rows.drop_nulls("end_ms").to_dicts()
    lag_ms = {each["name"]: int(each["pair_lag_ms"]) for each in files.campaigns}
    own = [row for row in rows if row["campaign"] == campaign]
    stage = max(own, key=lambda row: (row["end_ms"], row["region"]), default=None)
    links: list[Link] = []
    while stage is not None:
        released_by, after_lag_ms = None, 0
        if stage["start_ms"] > stage["asked_ms"]:
            for row in rows:
                is_own = row["region"] == stage["region"]
                is_paired = frozenset((row["region"], stage["region"])) in files.edges
                between_ms = max(lag_ms[row["campaign"]], lag_ms[stage["campaign"]]) if is_paired else 0
                if (is_paired or is_own) and (
                    row["end_ms"] + between_ms == stage["start_ms"] and row["start_ms"] < stage["start_ms"]
                ):
                    if is_own or released_by is None:
                        released_by, after_lag_ms = row, between_ms
                    if is_own:
                        break
        vm, its_set = _last_of(files, stage)
        links.append(
            Link(
                campaign=stage["campaign"],
                iteration=stage["iteration"],
                region=stage["region"],
                after=(released_by["campaign"], released_by["region"]) if released_by else None,
                asked_ms=stage["asked_ms"],
                start_ms=stage["start_ms"],
                end_ms=stage["end_ms"],
                waited_ms=stage["start_ms"] - stage["asked_ms"],
                pair_lag_ms=after_lag_ms,
                spread_ms=stage["last_spread_ms"],
                work_ms=stage["last_work_ms"],
                gap_ms=stage["last_gap_ms"],
                set=its_set,
                vm=vm if its_set is None else None,
                domain_count=stage["last_domain_count"],
            )
        )
        stage = released_by
    return links[::-1]


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
