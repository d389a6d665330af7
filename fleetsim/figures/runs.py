"""The folder of a run as reports and notebooks meet it: its files, their tables joined to the fleet."""

import datetime
import json
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
import polars.selectors as cs

from fleetsim import schema
from fleetsim.errors import InputError, nearest, nearest_path
from fleetsim.progress import Progress
from fleetsim.schema import Effect
from fleetsim.storage import Url, local

PARTS_AT_ONCE = 4
"""Parts read side by side: enough to keep the disk busy, few enough to bound memory."""
_RESUME_HINT = "an interrupted run is finished by `fleetsim run ... --resume`"
_MANIFEST_KEYS = (
    *("fleetsim_version", "seed", "scenario_digest", "fleet_digest", "counts"),
    *("invented", "warnings", "run_digest", "parts"),
)


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
    def open(cls, run: str | Path | Url) -> "RunFiles":
        """The run in folder *run*; raise `InputError` unless it is finished and of a schema we read."""
        path = local(run)
        if not path.is_dir():
            found = "a file" if path.exists() else f"nothing there{nearest_path(path)}"
            raise InputError(f"{path}: must be the folder of a run, got {found}")
        if (path / "cases.parquet").is_file():
            raise InputError(
                f"{path}: must be the folder of a run, got a sweep: take one of its cases, {path}/case=00000"
            )
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
        return scanned(self.fleet_path).collect_schema()

    def narrowed(self, only: Mapping[str, Sequence[str]]) -> "RunFiles":
        """The same run, looked at through its VMs that have one of the values of each column of *only*.

        Raise `InputError` for an unknown column, or where no VM of the fleet is left.
        """
        self.check_columns("only", only)
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
            texts = pl.concat([scanned(path).select(_as_text(column, self.fleet_schema)) for path in self.fleet_paths])
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
            _as_text(column, self.fleet_schema).is_in([spelt(value) for value in values])
            for each in (self.only, where or {})
            for column, values in each.items()
        ]
        rows = scanned(path)
        return _given(rows.filter(pl.all_horizontal(wanted)) if wanted else rows, given)

    @cached_property
    def tolerance(self) -> tuple[dict[str, str], pl.Expr] | None:
        """The fleet columns that say how long a pause each VM stands, and the ms by them; None where nothing does."""
        return tolerance_by(self.resolved, self.fleet_schema)

    @cached_property
    def excluding(self) -> set[str]:
        """The campaigns of which a stage keeps paired regions out; two stages exclude each other if both do."""
        return {
            each["name"]
            for each in self.campaigns
            if each.get("pair_exclusion", "all") == "all" or each["kind"] in ("reboot", "redeploy")
        }

    @cached_property
    def last_iterations(self) -> dict[tuple[str, str], int]:
        """The last iteration of each campaign in each region."""
        last = self.scan("stages").group_by("campaign", "region").agg(pl.col("iteration").max()).collect()
        return {(campaign, region): iteration for campaign, region, iteration in last.rows()}

    @cached_property
    def edges(self) -> set[frozenset[str]]:
        """The pairs as undirected edges, whichever side lists them."""
        return edges((self.path / "pairs.csv").read_bytes())

    def has(self, table: str) -> bool:
        """Whether the run was asked to keep *table* (`events` or `outcomes`)."""
        return bool(self.resolved["outputs"][table])

    def scan(self, table: str) -> pl.LazyFrame:
        """One of the small tables of the run, words as strings."""
        return scanned(self.path / f"{table}.parquet").with_columns(cs.categorical().cast(pl.String))

    def parts(self, table: str) -> list[Part]:
        """Files of `events` or `outcomes`, by campaign in file order, iteration and vm_row.

        Campaign and iteration are the same in every row of a file, so its first row tells them, not its name; the
        name speaks for a file without rows alone. Raise `InputError` for a campaign the run does not have.
        """
        names = [campaign["name"] for campaign in self.campaigns]
        paths = sorted(self.path.glob(f"{table}/region=*/part-*.parquet"))
        told = [pl.col("campaign").cast(pl.String), pl.col("iteration", "vm_row")]
        first = pl.collect_all([scanned(path).select(told).head(1) for path in paths])
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

    def check_columns(self, option: str, columns: Iterable[str]) -> None:
        """Raise `InputError` naming each of *columns*, asked for as *option*, that the fleet does not have."""
        known = self.fleet_schema.names()
        if problems := [
            f"{option}: must be a column of the fleet, got '{column}'"
            + (nearest(column, known) or f"; known: {', '.join(known)}")
            for column in columns
            if column not in known
        ]:
            raise InputError(problems)


def tolerance_by(resolved: Mapping[str, Any], known: Collection[str]) -> tuple[dict[str, str], pl.Expr] | None:
    """`RunFiles.tolerance` of a run as *resolved* over a fleet with the columns *known*."""
    by_workload = {word: int(value_ms) for word, value_ms in resolved.get("tolerance_ms", {}).items()}
    columns = ["pause_max_ms"] if "pause_max_ms" in known else []
    told = [pl.col("pause_max_ms").cast(pl.Int64)] if columns else []
    if by_workload and "workload" in known:
        columns.append("workload")
        words = pl.col("workload").cast(pl.String)
        told.append(words.replace_strict(by_workload, default=None, return_dtype=pl.Int64))
    return ({name: name for name in columns}, pl.coalesce(told)) if told else None


def edges(pairs: bytes) -> set[frozenset[str]]:
    """`RunFiles.edges` of what stands in `pairs.csv`."""
    rows = pl.read_csv(pairs, infer_schema=False).select("region", "paired_region").rows()
    return {frozenset(row) for row in rows if row[1] and row[0] != row[1]}


def scanned(path: Path) -> pl.LazyFrame:
    """Lazy frame of one Parquet file; `region` is a column of the file, not a guess from its folder."""
    return pl.scan_parquet(path, hive_partitioning=False, glob=False)


def read_events(run: str | Path | Url, columns: Sequence[str] = ()) -> pl.LazyFrame:
    """Lazy frame of the events of *run*, with the user's `vm`, `region` and the fleet *columns* asked for.

    One row an event, in order of campaign (as the scenario has them), iteration and `vm_row`. `end_at` is
    `start_at` + `duration_ms`, and each effect is a boolean (`memory_lost`, `temp_disk_lost`, `address_changed`,
    `host_changed`, `clock_synchronised`). Where VMs are on hosts `host_from` and `host_to` name them: the second is
    null where nobody knows, and the same unless the VM moved. A fleet column named as one of the events' is given as
    `fleet_<name>`.
    Raise `InputError` for an unknown column, or where the run kept no events.
    """
    files = RunFiles.open(run)
    wanted = [columns] if isinstance(columns, str) else list(columns)
    files.check_columns("columns", wanted)
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
    pieces = [(scanned(part.path), part.fleet_path) for part in files.parts("events")]
    if not pieces:
        pieces = [(pl.LazyFrame(schema=_EVENTS_SCHEMA), files.fleet_path)]
    joined = [
        events.join(_given(scanned(fleet_path), given), on="vm_row", maintain_order="left")
        for events, fleet_path in pieces
    ]
    rows, ends = pl.concat(joined), []
    if hosts := sorted((files.path / "hosts").rglob("*.parquet")):
        names = pl.concat([scanned(path).select("host_row", "host") for path in hosts])
        ends = [end for end in ("host_from", "host_to") if end in rows.collect_schema()]
        for end in ends:
            named = names.rename({"host_row": end, "host": f"{end}_name"})
            rows = rows.join(named, on=end, how="left", maintain_order="left")
    return rows.select(
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
        **{end: f"{end}_name" for end in ends},
    )


def _given(fleet: pl.LazyFrame, given: Mapping[str, str]) -> pl.LazyFrame:
    """`vm_row` and the columns *given* (new name -> name) of a part of the fleet."""
    return fleet.select("vm_row", **{new: pl.col(name) for new, name in given.items()})


def _as_text(column: str, types: pl.Schema) -> pl.Expr:
    """A fleet column as its values are typed: whole floats without their point, as sizes and counts often are."""
    text = pl.col(column).cast(pl.String)
    return text.str.strip_suffix(".0") if types[column].is_float() else text


def spelt(value: Any) -> str:
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
_EVENTS_SCHEMA = {column.name: _DTYPES[column.dtype] for column in schema.EVENTS.columns if column.is_required}


def intervals(files: RunFiles, path: Path) -> pl.LazyFrame:
    """`vm_row`, `start_ms` and `end_ms` of the impacts in *path*, or each of their tries, since scenario start."""
    return tries(files, path).drop("kind", "result")


def whole_impacts(files: RunFiles, part: Part) -> pl.LazyFrame:
    """The same of *part*, all tries of a VM as one, which follow one another; and whether it `has_failed`."""
    rows, has_failed = tries(files, part.path), pl.col("result").cast(pl.String) == "aborted"
    if part.campaign not in {each["name"] for each in files.campaigns if fails(each)}:
        return rows.select(pl.exclude("kind", "result"), has_failed=pl.lit(value=False))
    ends = pl.col("start_ms").min(), pl.col("end_ms").max()
    return rows.group_by("vm_row").agg(*ends, has_failed=has_failed.all())


def fails(campaign: Mapping[str, Any]) -> bool:
    """Whether tries of the platform may fail in *campaign*."""
    return bool(campaign.get("scheduled", {}).get("failure_ratio"))


def tries(files: RunFiles, path: Path) -> pl.LazyFrame:
    """The same as `intervals`, each with its `kind` and `result`."""
    start_ms = pl.col("start_at").dt.epoch("ms") - files.start_ms_epoch
    impacts = scanned(path).filter(pl.col("duration_ms") > 0)  # the rest are requests without one
    times = {"start_ms": start_ms, "end_ms": start_ms + pl.col("duration_ms").cast(pl.Int64)}
    return impacts.select("vm_row", "kind", "result", **times)


def ms_since_start(files: RunFiles, column: str) -> pl.Expr:
    return pl.col(column).dt.epoch("ms") - files.start_ms_epoch


def stage_columns(part: Part) -> list[pl.Expr]:
    """The columns of STAGE, the same in every row of *part*."""
    return [
        pl.lit(part.campaign).alias("campaign"),
        pl.lit(part.iteration, pl.UInt8).alias("iteration"),
        pl.lit(part.region).alias("region"),
    ]


def in_turn(
    files: RunFiles, step: str, pieces: Sequence[pl.LazyFrame], at_once: int = PARTS_AT_ONCE
) -> Iterator[pl.DataFrame]:
    """What the lazy *pieces* give, *at_once* at a time; whoever watches is told how far *step* is."""
    for first in range(0, len(pieces), at_once):
        yield from pl.collect_all(pieces[first : first + at_once])
        if files.progress is not None:
            vm_count = files.manifest["counts"]["vms"]
            files.progress(step, vm_count * min(first + at_once, len(pieces)) // len(pieces), vm_count)
