"""The verifier: reads a finished run as a stranger would and lists every broken rule.

It sees files only and shares no code with what wrote them: pairs come from the CSV, parameters from `resolved.toml`,
and it has its own idea of what an impact may leave behind. Nothing is stepped through time: each rule is one query
over sorted or grouped rows, and its rows are the offenders. The fleet is read part by part; what outlives a part is
one small aggregate a stage. Neither file names nor the order of rows are trusted.
"""

import csv
import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from fleetsim.errors import InputError
from fleetsim.schema import (
    EVENTS,
    FLEET,
    NO_GUARANTEE,
    OUTCOMES,
    PREPARED,
    SCHEMA_VERSION,
    STAGES,
    SUMMARY,
    UPDATE_DOMAIN_COUNT_MAX,
    Column,
    Effect,
    Outcome,
    effect_names,
    words,
)

OFFENDERS_SHOWN = 5
"""Offenders a result shows; all are counted."""

_HOUR_MS = 3_600_000
_STAGE = ["campaign", "iteration", "region"]
_MUST_KEEP = Effect.MEMORY_LOST | Effect.TEMP_DISK_LOST | Effect.ADDRESS_CHANGED | Effect.HOST_CHANGED
"""What no freeze may leave behind."""
_NO_DOMAIN = 255
"""Stands for a missing domain in arithmetic; no domain has this number (R31)."""
_FOLD = {  # how a figure of a stage is put together from those of its parts
    "set_down_ratio_max": "max",
    "longest_ms": "max",
    "end_ms": "max",
    "first_start_ms": "min",
}


@dataclass(frozen=True, slots=True)
class RuleResult:
    """What one rule found. `status` is kept, broken, or not checked, for the `reason` given."""

    rule: str
    sentence: str
    status: str
    row_count: int = 0
    offender_count: int = 0
    offenders: tuple[dict[str, Any], ...] = ()
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """All rules of one run, files and fleet first, then by number."""

    run: Path
    rules: tuple[RuleResult, ...]

    @property
    def ok(self) -> bool:
        return all(rule.status != "broken" for rule in self.rules)

    def to_dict(self) -> dict[str, Any]:
        """The verdict as plain values, for JSON."""
        shown = [
            {name: getattr(rule, name) for name in RuleResult.__slots__} | {"offenders": list(rule.offenders)}
            for rule in self.rules
        ]
        return {"run": str(self.run), "ok": self.ok, "rules": shown}


def verify(run: str | Path, *, progress: Callable[[int, int], None] | None = None) -> Verdict:
    """Check every rule of a finished *run* from its files alone.

    *progress* is called after each fleet part with the VMs looked at and the VMs in all. Raises `InputError` where
    *run* is no finished run of a schema this version knows.
    """
    folder = Path(run)
    listing = _Listing(folder, _read_manifest(folder))
    tally = _Tally(listing)
    claims = _Claims.read(listing) if "resolved" in listing.readable else None
    if claims is not None:
        whole = _Whole(claims, listing)
        parts = listing.tables["fleet"]
        vm_count = sum(file.rows for file in parts)
        done = 0
        for file in parts:
            part = _Part(claims, listing, file)
            tally.ask("part", part, part.named)
            whole.add(part)
            done += file.rows
            if progress is not None:
                progress(done, vm_count)
        tally.ask("run", whole, claims.named)
    return Verdict(folder, tally.results(claims))


# --- Rules as queries ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Query:
    """One query of a rule. Its rows are offenders; `over` names the frame it looks at."""

    rule: str
    sentence: str
    grain: str
    over: str
    needs: frozenset[str]
    offenders: Callable[[Any], pl.DataFrame]


_QUERIES: list[_Query] = []


def _rule(
    rule: str, grain: str, *, over: str, needs: str = ""
) -> Callable[[Callable[[Any], pl.DataFrame]], Callable[[Any], pl.DataFrame]]:
    """Register a query of *rule*, asked of each fleet part or once of the run; its docstring opens with the sentence.

    Where a rule has several queries the first one's sentence is the rule's.
    """

    def register(query: Callable[[Any], pl.DataFrame]) -> Callable[[Any], pl.DataFrame]:
        sentence = (query.__doc__ or "").strip().splitlines()[0].removesuffix(".")
        _QUERIES.append(_Query(rule, sentence, grain, over, frozenset(["fleet", *needs.split()]), query))
        return query

    return register


class _Tally:
    """Counts, and keeps the first offenders of, every rule."""

    def __init__(self, listing: "_Listing") -> None:
        self._listing = listing
        self._rows: dict[str, int] = {}
        self._counts: dict[str, int] = {}
        self._shown: dict[str, list[dict[str, Any]]] = {}
        self._add("files", listing.entry_count, len(listing.problems), listing.problems)

    def ask(self, grain: str, subject: Any, named: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
        """Put every query of *grain* whose tables are readable to *subject*."""
        for query in _QUERIES:
            if query.grain == grain and query.needs <= self._listing.readable:
                offenders = query.offenders(subject)
                shown = named(_first(offenders)).to_dicts() if len(offenders) else []
                self._add(query.rule, len(getattr(subject, query.over)), len(offenders), shown)

    def _add(self, rule: str, rows: int, count: int, shown: Iterable[Mapping[str, Any]]) -> None:
        self._rows[rule] = self._rows.get(rule, 0) + rows
        self._counts[rule] = self._counts.get(rule, 0) + count
        kept = self._shown.setdefault(rule, [])
        kept.extend(dict(row) for row in list(shown)[: OFFENDERS_SHOWN - len(kept)])

    def results(self, claims: "_Claims | None") -> tuple[RuleResult, ...]:
        found = [self._result("files", _FILES_SENTENCE, None)]
        queries: dict[str, list[_Query]] = {}
        for query in _QUERIES:
            queries.setdefault(query.rule, []).append(query)
        for rule, asked in sorted(queries.items(), key=lambda item: int(item[0].strip("Rflet") or 0)):
            lacking = frozenset.intersection(*(query.needs - self._listing.readable for query in asked))
            if claims is None:
                lacking = frozenset(["resolved"])
            reason = self._listing.why_not(min(lacking)) if lacking else None
            found.append(self._result(rule, asked[0].sentence, reason))
        return tuple(found)

    def _result(self, rule: str, sentence: str, reason: str | None) -> RuleResult:
        if reason is not None:
            return RuleResult(rule, sentence, "not checked", reason=reason)
        count = self._counts.get(rule, 0)
        shown = tuple(self._shown.get(rule, ()))
        return RuleResult(
            rule, sentence, "broken" if count else "kept", self._rows.get(rule, 0), count, shown
        )


def _first(offenders: pl.DataFrame) -> pl.DataFrame:
    """The first few of *offenders*, the same ones at every reading: grouping leaves rows in no order."""
    order = ["campaign", "iteration", "region", "walk_row", "unit_row", "vm_row", "start_ms", "figure", "path"]
    by = [name for name in order if name in offenders.columns]
    return (offenders.sort(*by, nulls_last=True) if by else offenders).head(OFFENDERS_SHOWN)


# --- Files -----------------------------------------------------------------------------------------------------------

_FILES_SENTENCE = "Every file is the one the manifest lists: there, of its table, and with the same bytes"
_TABLES = {
    "fleet": (*FLEET.columns, PREPARED["vm_row"]),
    "events": EVENTS.columns,
    "outcomes": OUTCOMES.columns,
    "stages": STAGES.columns,
    "summary": SUMMARY.columns,
    "no_guarantee": NO_GUARANTEE.columns,
}
_OUTSIDE_MANIFEST = {"manifest.json", "timings.json"}


@dataclass(frozen=True, slots=True)
class _File:
    """A readable Parquet file of the run and the range of `vm_row` in it, both ends included."""

    path: str
    rows: int
    vm_row_min: int = 0
    vm_row_max: int = -1

    @property
    def folder_region(self) -> str:
        """The region its folder says it is of."""
        found = re.search(r"(?:^|/)region=([^/]*)/", self.path)
        return found[1] if found else ""


class _Listing:
    """The files the manifest lists, compared with those that are there; unusable ones are left out."""

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder = folder
        self.manifest = manifest
        self.problems: list[dict[str, Any]] = []
        self.tables: dict[str, list[_File]] = {table: [] for table in _TABLES}
        self.readable = {"fleet", "events", "outcomes"}
        self._lacking: dict[str, str] = {}
        self.entry_count = len(manifest["parts"])
        for entry in manifest["parts"]:
            self._check(entry["path"], entry["rows"], entry["sha256"])
        listed = {entry["path"] for entry in manifest["parts"]} | _OUTSIDE_MANIFEST
        there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        for path in sorted(there - listed):
            self._problem(path, "is not listed in manifest.json")
        for path in ("scenario.toml", "resolved.toml", "pairs.csv", "stages.parquet", "summary.parquet"):
            if path not in listed:
                self._problem(path, "is not listed in manifest.json")
        if manifest["run_digest"] != (digest := _run_digest(manifest["parts"])):
            self._problem("manifest.json", "run_digest is not that of its parts", manifest["run_digest"], digest)
        for files in self.tables.values():
            files.sort(key=lambda file: (file.vm_row_min, file.path))

    def _problem(self, path: str, problem: str, expected: Any = None, found: Any = None) -> None:
        self.problems.append({"path": path, "problem": problem, "expected": expected, "found": found})

    def _check(self, path: str, rows: int | None, sha256: str) -> None:
        file = self.folder / path
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            return self._problem(path, "lies outside the run")
        if not file.is_file():
            return self._problem(path, "is missing")
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != sha256:
            self._problem(path, "has other bytes than the manifest says", sha256, digest)
        table = PurePosixPath(path).parts[0].removesuffix(".parquet")
        if not path.endswith(".parquet"):
            self.readable.add(PurePosixPath(path).stem)
        elif table not in self.tables:
            self._problem(path, "is of no table of a run")
        else:
            self._check_parquet(path, table, rows)
        return None

    def _check_parquet(self, path: str, table: str, rows: int | None) -> None:
        """Compare rows, columns and provenance; a file with a column missing, mistyped or empty is not read."""
        try:
            metadata = pq.read_metadata(self.folder / path)
            schema = metadata.schema.to_arrow_schema()
        except (pa.ArrowException, OSError) as error:
            return self._problem(path, f"cannot be read as Parquet: {error}")
        if metadata.num_rows != rows:
            self._problem(path, "has other rows than the manifest says", rows, metadata.num_rows)
        for key, expected in self._provenance(table):
            found = (schema.metadata or {}).get(f"fleetsim.{key}".encode())
            if found is not None and found.decode() != expected:
                self._problem(path, f"fleetsim.{key} is that of another run", expected, found.decode())
        wrong = [
            *(_column_problem(column, schema, metadata) for column in _TABLES[table]),
        ]
        if any(wrong):
            for problem in filter(None, wrong):
                self._problem(path, problem)
            return None
        self.readable.add(table)
        low, high = _vm_row_range(self.folder / path, metadata) if "vm_row" in schema.names else (0, -1)
        self.tables[table].append(_File(path, metadata.num_rows, low, high))
        return None

    def _provenance(self, table: str) -> Iterator[tuple[str, str]]:
        """What the metadata of a file of *table* must say, where it says it."""
        if table == "fleet":
            return  # linked from the prepared fleet, which knows no scenario
        yield "seed", str(self.manifest["seed"])
        yield "scenario_digest", self.manifest["scenario_digest"]
        yield "fleet_digest", self.manifest["fleet_digest"]
        if table in ("events", "outcomes"):
            yield "effects", json.dumps(effect_names())

    def without(self, table: str) -> None:
        """Note that the scenario asks for no *table*."""
        self.readable.discard(table)
        self._lacking[table] = f"outputs.{table} = false"

    def why_not(self, table: str) -> str:
        suffix = {"resolved": ".toml", "pairs": ".csv"}.get(table, ".parquet")
        return self._lacking.get(table, f"{table}{suffix} is missing or unusable")

    def read(self, table: str, file: _File, columns: Sequence[str]) -> pl.DataFrame:
        """The *columns* of one file that it has; null where a column is absent."""
        path = self.folder / file.path
        there = [name for name in columns if name in pq.read_schema(path).names]
        frame = pl.read_parquet(path, columns=there, glob=False, hive_partitioning=False)
        absent = [pl.lit(None).alias(name) for name in columns if name not in there]
        return frame.with_columns(absent).select(columns)

    def read_range(self, table: str, low: int, high: int, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Rows of *table* with `vm_row` in [low, high], file by file, with the region of each file's folder."""
        for file in self.tables[table]:
            if file.vm_row_min <= high and low <= file.vm_row_max:
                frame = self.read(table, file, columns)
                if file.vm_row_min < low or high < file.vm_row_max:
                    frame = frame.filter(pl.col("vm_row").is_between(low, high))
                yield frame.with_columns(folder_region=pl.lit(file.folder_region))


def _read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of *folder*, once it is sure that this is a finished run of a schema we know."""
    path = folder / "manifest.json"
    if not path.is_file():
        if (folder / "resolved.toml").is_file():
            hint = "the run is unfinished; complete it with `fleetsim run ... --resume`"
            raise InputError(f"{folder}: must be a finished run, got no manifest.json; {hint}")
        raise InputError(f"{folder}: must be a run folder, got no manifest.json and no resolved.toml")
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: must be JSON, got {error}") from error
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if not isinstance(version, int):
        raise InputError(f"{path}: schema_version: must be a whole number, got {version!r}")
    if version > SCHEMA_VERSION:
        hint = "read it with the fleetsim that wrote it, or a later one"
        raise InputError(f"{path}: schema_version: must be at most {SCHEMA_VERSION}, got {version}; {hint}")
    needed = ("seed", "scenario_digest", "fleet_digest", "run_digest", "parts", "counts")
    if missing := [key for key in needed if key not in manifest]:
        raise InputError(f"{path}: must have the key(s) {', '.join(missing)}, got none")
    return dict(manifest)


def _run_digest(parts: Iterable[Mapping[str, Any]]) -> str:
    """The digest of the stages, events and outcomes among *parts*."""
    lines = sorted(
        f"{part['path']} {part['sha256']}\n"
        for part in parts
        if part["path"] == "stages.parquet" or part["path"].startswith(("events/", "outcomes/"))
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _column_problem(column: Column, schema: pa.Schema, metadata: pq.FileMetaData) -> str | None:
    """What is wrong with *column* in a file, if anything: absent, of another type, or empty where it may not be."""
    if column.name not in schema.names:
        return f"lacks the column '{column.name}'" if column.is_required else None
    found = schema.field(column.name)
    stored = found.type.value_type if pa.types.is_dictionary(found.type) else found.type
    is_text = pa.types.is_string(stored) or pa.types.is_large_string(stored)
    fits = {
        "identity": is_text or pa.types.is_int64(stored),
        "text": is_text,
        "code": is_text,
        "bool": pa.types.is_boolean(stored),
        "u8": stored == pa.uint8(),
        "u16": stored == pa.uint16(),
        "u32": stored == pa.uint32(),
        "i64": stored == pa.int64(),
        "f64": stored == pa.float64(),
        "instant": stored == pa.timestamp("ms", "UTC"),
    }
    if not fits[column.dtype] and not (column.is_nullable and pa.types.is_null(stored)):
        return f"column '{column.name}' must be {column.dtype}, got {found.type}"
    if found.nullable and not column.is_nullable:
        # A column without nulls is as good as one that cannot have any; without statistics nobody knows.
        at = schema.get_field_index(column.name)
        groups = [metadata.row_group(group).column(at).statistics for group in range(metadata.num_row_groups)]
        if any(group is None or group.null_count != 0 for group in groups):
            return f"column '{column.name}' may not be empty"
    return None


def _vm_row_range(path: Path, metadata: pq.FileMetaData) -> tuple[int, int]:
    """Least and greatest `vm_row` of a file, from its statistics or, where there are none, its rows."""
    at = metadata.schema.to_arrow_schema().get_field_index("vm_row")
    groups = [metadata.row_group(group).column(at).statistics for group in range(metadata.num_row_groups)]
    if not metadata.num_rows:
        return 0, -1
    if all(group is not None and group.has_min_max for group in groups):
        return min(group.min for group in groups), max(group.max for group in groups)
    rows = pl.read_parquet(path, columns=["vm_row"], glob=False, hive_partitioning=False)["vm_row"]
    return int(rows.min()), int(rows.max())  # type: ignore[arg-type]


# --- What the run says of itself -------------------------------------------------------------------------------------


class _Names:
    """Words and their codes; a word not met before gets the next code."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        self._codes: dict[str, int] = {}
        for word in known:
            self.code(word)

    def code(self, word: str) -> int:
        return self._codes.setdefault(word, len(self._codes))

    def encode(self, series: pl.Series) -> pl.Series:
        """Codes (u16) of a text column without nulls."""
        met = [self.code(word) for word in series.unique().cast(pl.String).sort()]
        if len(met) == 1:
            return pl.repeat(met[0], len(series), dtype=pl.UInt16, eager=True).alias(series.name)
        return series.cast(pl.String).replace_strict(self._codes, return_dtype=pl.UInt16)

    def decode(self, name: str) -> pl.Expr:
        return pl.col(name).replace_strict(
            list(self._codes.values()), list(self._codes), default=None, return_dtype=pl.String
        )


@dataclass(frozen=True)
class _Claims:
    """What the run says of itself: parameters, pairs, and its small tables, with codes for campaigns and regions."""

    campaign_names: _Names
    region_names: _Names
    identity: pl.DataType  # of sets, in this run
    start_epoch_ms: int
    campaigns: pl.DataFrame  # one row a campaign: its parameters
    scope: pl.DataFrame  # campaign, iteration, region: the stages there must be
    neighbours: pl.DataFrame  # region, neighbour: undirected, each edge both ways
    stages: pl.DataFrame
    summary: pl.DataFrame
    no_guarantee: pl.DataFrame

    @staticmethod
    def read(listing: _Listing) -> "_Claims":
        path = listing.folder / "resolved.toml"
        try:
            resolved = tomllib.loads(path.read_text("utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: must be TOML, got {error}") from error
        try:
            start_epoch_ms = _epoch_ms(resolved["start"])
            for table in ("events", "outcomes"):
                if not resolved["outputs"][table]:
                    listing.without(table)
            campaigns = [_campaign(campaign) for campaign in resolved["campaign"]]
            regions = [campaign["regions"] for campaign in resolved["campaign"]]
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: must be a resolved scenario, got none or a bad value of {error}") from error
        if others := sorted({campaign["kind"] for campaign in campaigns} - {"freeze"}):
            raise InputError(f"{path}: campaign.kind: must be 'freeze' in this version, got '{others[0]}'")
        campaign_names = _Names(campaign["name"] for campaign in campaigns)
        region_names = _Names(sorted({region for names in regions for region in names}))
        scope = [
            (code, 1, region_names.code(region)) for code, names in enumerate(regions) for region in names
        ]
        neighbours = [
            (region_names.code(one), region_names.code(other))
            for edge in _pairs(listing)
            for one, other in (edge, edge[::-1])
        ]
        identity = _identity(listing)

        def small(table: str, declared: Sequence[Column]) -> pl.DataFrame:
            columns = [column.name for column in declared]
            frames = [listing.read(table, file, columns) for file in listing.tables[table]]
            frame = pl.concat(frames) if frames else pl.DataFrame(schema=dict.fromkeys(columns, pl.String))
            return frame.with_columns(
                names.encode(frame[column])
                for column, names in (("campaign", campaign_names), ("region", region_names))
                if column in columns
            )

        return _Claims(
            campaign_names,
            region_names,
            identity,
            start_epoch_ms,
            pl.DataFrame(campaigns).with_row_index("campaign").cast({"campaign": pl.UInt16}),
            pl.DataFrame(scope, schema=_STAGE_TYPES, orient="row"),
            pl.DataFrame(neighbours, schema={"region": pl.UInt16, "neighbour": pl.UInt16}, orient="row").unique(),
            _with_ms(small("stages", STAGES.columns), start_epoch_ms),
            small("summary", SUMMARY.columns).cast({"bin_start_ms": pl.Int64, "value": pl.Float64}),
            small("no_guarantee", NO_GUARANTEE.columns).cast({"set": identity, "reason": pl.String}),
        )

    def of_campaign(self, frame: pl.DataFrame, *columns: str) -> pl.DataFrame:
        """*frame* with parameters of each row's campaign; rows of unknown campaigns have none."""
        return frame.join(self.campaigns.select("campaign", *columns), on="campaign", how="left")

    def named(self, offenders: pl.DataFrame) -> pl.DataFrame:
        """*offenders* with the user's names of campaigns and regions."""
        names = {"campaign": self.campaign_names, "region": self.region_names, "folder_region": self.region_names}
        return offenders.with_columns(
            names[stem].decode(column)
            for column in offenders.columns
            if (stem := column.removesuffix("_other")) in names
        )


_STAGE_TYPES = {"campaign": pl.UInt16, "iteration": pl.UInt8, "region": pl.UInt16}


def _epoch_ms(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)


def _campaign(given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of one campaign that rules ask for, flat."""
    length = given["length"]
    plain = ("name", "kind", "start_ms", "work_ms", "update_domain_gap_ms", "update_domain_order", "pair_lag_ms")
    return {key: given[key] for key in plain} | {key: length[key] for key in ("length_ms_min", "length_ms_max")}


def _pairs(listing: _Listing) -> set[tuple[str, str]]:
    """The edges `pairs.csv` lists, as listed."""
    if "pairs" not in listing.readable:
        return set()
    path = listing.folder / "pairs.csv"
    with path.open(encoding="utf-8", newline="") as stream:
        rows = csv.DictReader(stream)
        if not {"region", "paired_region"} <= set(rows.fieldnames or ()):
            raise InputError(f"{path}: must have the columns region and paired_region, got {rows.fieldnames}")
        edges = {(row["region"], row["paired_region"]) for row in rows if row["paired_region"]}
    return {(one, other) for one, other in edges if one != other}


def _identity(listing: _Listing) -> pl.DataType:
    """The type of set ids: int64 if every file that has any says so, else string."""
    stored = (
        pl.read_parquet_schema(listing.folder / file.path).get("set", pl.Null())
        for table in ("fleet", "no_guarantee")
        for file in listing.tables[table]
    )
    return pl.Int64() if all(dtype in (pl.Int64, pl.Null) for dtype in stored) else pl.String()


def _with_ms(frame: pl.DataFrame, start_epoch_ms: int) -> pl.DataFrame:
    """*frame* with `_ms` since the scenario's start for its `_at` columns."""
    return frame.with_columns(
        (pl.col(name).dt.epoch("ms") - start_epoch_ms).alias(name.removesuffix("_at") + "_ms")
        for name in ("start_at", "first_start_at", "last_end_at")
        if name in frame.columns and isinstance(frame.schema[name], pl.Datetime)
    )


# --- A fleet part, seen from several sides ---------------------------------------------------------------------------


class _Part:
    """One fleet part and everything that happened to its VMs in all campaigns. Frames are made when first asked for.

    A walk is a set or a single; a unit is a (set, update domain) or a single; a visit is what starts in a unit at one
    instant. All three are numbered within the part: units and walks of sets first, then singles.
    """

    def __init__(self, claims: _Claims, listing: _Listing, file: _File) -> None:
        self.claims = claims
        self.path = file.path
        self.has_outcomes = "outcomes" in listing.readable
        self.range = (file.vm_row_min, file.vm_row_max)
        fleet = listing.read("fleet", file, ["vm_row", "vm", "region", "set", "update_domain"])
        self.fleet_rows = fleet.with_columns(
            claims.region_names.encode(fleet["region"]),
            pl.col("set").cast(claims.identity),
            pl.col("update_domain").cast(pl.UInt8),
            folder_region=pl.lit(claims.region_names.code(file.folder_region), pl.UInt16),
        )
        self.all_events = self._happened(listing, "events", _EVENT_COLUMNS)
        self.all_outcomes = self._happened(listing, "outcomes", _OUTCOME_COLUMNS)

    def _happened(self, listing: _Listing, table: str, columns: Sequence[str]) -> pl.DataFrame:
        """Rows of *table* about this part's range of VMs, from whichever files have them."""
        if table not in listing.readable:
            return pl.DataFrame()
        frames = [
            _with_ms(frame, self.claims.start_epoch_ms).with_columns(
                self.claims.campaign_names.encode(frame["campaign"]),
                self.claims.region_names.encode(frame["folder_region"]),
            )
            for frame in listing.read_range(table, *self.range, columns)
        ]
        return pl.concat(frames, how="vertical_relaxed") if frames else _EMPTY[table]

    @cached_property
    def domains(self) -> pl.DataFrame:
        """Populated update domains: unit_row, walk_row, region, set, update_domain, vm_count, in vm_row order."""
        domains = (
            self.fleet_rows.filter(pl.col("set").is_not_null())
            .group_by("region", "set", "update_domain")
            .agg(vm_count=pl.len(), vm_row=pl.col("vm_row").min())
            .sort("vm_row")
            .with_row_index("unit_row")
        )
        sets = domains.group_by("region", "set", maintain_order=True).agg().with_row_index("walk_row")
        return domains.join(sets, on=["region", "set"], how="left", maintain_order="left")

    @cached_property
    def sets(self) -> pl.DataFrame:
        """Sets: walk_row (their position), region, set, vm_count, domain_count."""
        return (
            self.domains.group_by("walk_row", "region", "set")
            .agg(vm_count=pl.col("vm_count").sum(), domain_count=pl.len())
            .sort("walk_row")
        )

    @cached_property
    def vms(self) -> pl.DataFrame:
        """The fleet rows with unit_row and walk_row; a single has no domain."""
        keys = ["region", "set", "update_domain"]
        placed = self.domains.select(*keys, "unit_row", "walk_row")
        in_sets = self.fleet_rows.filter(pl.col("set").is_not_null())
        singles = self.fleet_rows.filter(pl.col("set").is_null())
        place = pl.int_range(pl.len(), dtype=pl.UInt32)
        return pl.concat(
            [
                in_sets.join(placed, on=keys, how="left", nulls_equal=True),
                singles.with_columns(
                    update_domain=pl.lit(None, pl.UInt8),
                    unit_row=place + len(self.domains),
                    walk_row=place + len(self.sets),
                ),
            ]
        ).unique("vm_row", keep="first" if self.has_repeated_rows else "any", maintain_order=False) if (
            self.has_repeated_rows
        ) else pl.concat([])

    @cached_property
    def has_repeated_rows(self) -> bool:
        return bool(self.fleet_rows["vm_row"].is_duplicated().any())
