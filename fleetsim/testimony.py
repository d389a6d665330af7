"""What a run says of itself: its files as the manifest lists them, its parameters, and its calendar.

For strangers: it sees files only and shares no code with what wrote them. Pairs come from the CSV, parameters from
`resolved.toml`, times from the small tables. What is not as the manifest says is listed, and left out.
"""

import csv
import hashlib
import itertools
import json
import os
import re
import threading
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from polars import selectors

from fleetsim.errors import InputError, nearest_path
from fleetsim.schema import (
    EVENTS,
    FIRST_ITERATION,
    FLEET,
    NEVER_MS,
    NO_GUARANTEE,
    OUTCOMES,
    PREPARED,
    PREPARED_HOSTS,
    REPLICAS,
    SCHEMA_VERSION,
    STAGES,
    STEPS,
    SUMMARY,
    SUMMARY_FIGURES,
    Column,
    Effect,
    Kind,
    Outcome,
    Phase,
    effect_names,
    words,
)

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
STAGE = ["campaign", "iteration", "region"]
EVERYWHERE = "*"
"""The region of figures that are of a whole campaign."""
OUTCOME_COUNTS = [f"{outcome}_count" for outcome in words(Outcome)]
NOT_TOLD_BY_EVENTS = [name for name in SUMMARY_FIGURES if name.startswith("last_")]
"""Figures of `summary` about the walk that ended last: where several did, any of them will do."""
_TIMES = ["asked_ms", "start_ms", "end_ms", "free_ms"]
"""Figures of `summary` that tell when a stage is at work."""
WINDOWS = tuple(column.name for column in STAGES.columns if column.name.startswith(("notice", "self_", "scheduled_")))
"""Columns of `stages` that only kinds with windows fill."""
_LEFT_COUNTS = ["skipped_count", "overdue_count", "failed_count"]
"""VMs that have another iteration, as long as there is one (semantics.md 35)."""
_REBOOTS = ("reboot", "redeploy")
"""Kinds that exclude work in a paired region whatever `pair_exclusion` says."""
_TABLES = {
    "fleet": (*FLEET.columns, *PREPARED.columns),
    "events": EVENTS.columns,
    "outcomes": OUTCOMES.columns,
    "stages": STAGES.columns,
    "summary": SUMMARY.columns,
    "no_guarantee": NO_GUARANTEE.columns,
    "hosts": PREPARED_HOSTS.columns,
    "steps": STEPS.columns,
    "replicas": REPLICAS.columns,
}
_OUTSIDE_MANIFEST = {"manifest.json", "timings.json"}


@dataclass(frozen=True, slots=True)
class File:
    """A readable Parquet file of the run and the ranges of `vm_row` and `iteration` in it, both ends included."""

    path: str
    rows: int
    columns: tuple[str, ...]
    vm_row_min: int
    vm_row_max: int
    rows_digest: str  # of a fleet part, as its metadata says
    empty_columns: frozenset[str]  # with nothing but nulls, as the statistics tell
    iterations: frozenset[int] = frozenset()  # that its rows may be of

    @property
    def folder_region(self) -> str:
        """The region its folder says it is of."""
        found = re.search(r"(?:^|/)region=([^/]*)/", self.path)
        return found[1] if found else ""


Value = TypeVar("Value")


class lazily(Generic[Value]):  # noqa: N801 - it is read as a decorator
    """A property that is computed on first use and kept.

    functools.cached_property of Python 3.11 holds one lock for all objects of a class while it computes: two threads
    that look at two parts would take turns.
    """

    def __init__(self, compute: Callable[[Any], Value]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, subject: Any, owner: type | None = None) -> Value:
        if subject is None:
            return self  # type: ignore[return-value]  # asked of the class
        value = self._compute(subject)
        subject.__dict__[self._name] = value
        return value


@dataclass(slots=True)
class _LookedAt:
    """What is found of one file the manifest lists."""

    path: str
    table: str
    problems: list[dict[str, Any]] = field(default_factory=list)
    readable: set[str] = field(default_factory=set)
    file: File | None = None  # where it can be read

    def with_problem(self, problem: str, expected: Any = None, found: Any = None) -> "_LookedAt":
        self.problems.append({"path": self.path, "problem": problem, "expected": expected, "found": found})
        return self


class Listing:
    """The files the manifest lists, compared with those that are there; unusable ones are left out."""

    def __init__(self, folder: Path, manifest: dict[str, Any], lacking: Mapping[str, str]) -> None:
        self.folder = folder
        self.manifest = manifest
        self.lacking = dict(lacking)
        self._problems: list[dict[str, Any]] = []
        self.tables: dict[str, list[File]] = {table: [] for table in _TABLES}
        self.readable = {"fleet", "events", "outcomes", "effects"} - set(lacking)
        self._unsorted: set[str] = set()
        self._campaigns: dict[str, tuple[str, ...]] = {}
        self._zones: dict[str, list[str]] = {}
        self.entry_count = len(manifest["parts"])
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for looked_at in pool.map(self._looked_at, manifest["parts"]):
                self._problems += looked_at.problems
                self.readable |= looked_at.readable
                if looked_at.file is not None:
                    self.tables[looked_at.table].append(looked_at.file)
        listed = {entry["path"] for entry in manifest["parts"]} | _OUTSIDE_MANIFEST
        there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        for path in sorted(there - listed):
            self._problem(path, "is not listed in manifest.json")
        for path in ("scenario.toml", "resolved.toml", "pairs.csv", "stages.parquet", "summary.parquet"):
            if path not in listed and PurePosixPath(path).stem not in lacking:
                self._problem(path, "is not listed in manifest.json")
        if manifest["run_digest"] != (digest := _run_digest(manifest["parts"])):
            self._problem("manifest.json", "run_digest is not that of its parts", manifest["run_digest"], digest)
        for files in self.tables.values():
            files.sort(key=lambda file: (file.vm_row_min, file.path))

    def _problem(self, path: str, problem: str, expected: Any = None, found: Any = None) -> None:
        self._problems.append({"path": path, "problem": problem, "expected": expected, "found": found})

    @property
    def problems(self) -> list[dict[str, Any]]:
        """What is wrong with the files as such, and what came up when their rows were read, file by file."""
        unsorted = [{"path": path, "problem": "vm_row does not rise"} for path in sorted(self._unsorted)]
        return self._problems + [{"expected": None, "found": None, **problem} for problem in unsorted]

    def _looked_at(self, entry: Mapping[str, Any]) -> "_LookedAt":
        """What is found of one file the manifest lists, on any thread."""
        path, rows, sha256 = entry["path"], entry["rows"], entry["sha256"]
        table = PurePosixPath(path).parts[0].removesuffix(".parquet")
        found, file = _LookedAt(path, table), self.folder / path
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            return found.with_problem("lies outside the run")
        if not file.is_file():
            return found.with_problem("is missing")
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != sha256:
            found.with_problem("has other bytes than the manifest says", sha256, digest)
        if not path.endswith(".parquet"):
            found.readable.add(PurePosixPath(path).stem)
            return found
        return (
            self._parquet_looked_at(found, rows)
            if table in self.tables
            else found.with_problem("is of no table of a run")
        )

    def _parquet_looked_at(self, found: "_LookedAt", rows: int | None) -> "_LookedAt":
        """Compare rows, columns and provenance; a file with a column absent, mistyped or empty is unread."""
        path, table = found.path, found.table
        try:
            metadata = pq.read_metadata(self.folder / path)
            schema = metadata.schema.to_arrow_schema()
        except (pa.ArrowException, OSError) as error:
            return found.with_problem(f"cannot be read as Parquet: {error}")
        if metadata.num_rows != rows:
            found.with_problem("has other rows than the manifest says", rows, metadata.num_rows)
        for key, expected in self._provenance(table):
            stated = (metadata.metadata or {}).get(f"fleetsim.{key}".encode())
            if stated is not None and stated.decode() != expected:
                found.with_problem(f"fleetsim.{key} is that of another run", expected, stated.decode())
        wrong = [problem for column in _TABLES[table] if (problem := _column_problem(column, schema, metadata))]
        for problem in wrong:
            found.with_problem(problem)
        if wrong:
            return found
        found.readable.add(table)
        low, high = _range_in(self.folder / path, metadata, "vm_row") if "vm_row" in schema.names else (0, -1)
        first, last = (0, -1)
        if table in ("events", "outcomes"):
            first, last = _range_in(self.folder / path, metadata, "iteration")
        rows_digest = (metadata.metadata or {}).get(b"fleetsim.rows_digest", b"").decode()
        empty = _empty_columns(metadata, schema) if table == "fleet" else frozenset[str]()
        iterations = frozenset(range(first, last + 1))
        file = File(path, metadata.num_rows, tuple(schema.names), low, high, rows_digest, empty, iterations)
        found.file = file
        if table in ("events", "outcomes") and len(met := self.campaigns(file)) > 1:
            found.with_problem("has rows of several campaigns", 1, ", ".join(sorted(met)))
        return found

    def _provenance(self, table: str) -> Iterator[tuple[str, str]]:
        """What the metadata of a file of *table* must say, where it says it."""
        if table == "fleet":
            return  # linked from the prepared fleet, which knows no scenario
        yield "seed", str(self.manifest["seed"])
        yield "scenario_digest", self.manifest["scenario_digest"]
        yield "fleet_digest", self.manifest["fleet_digest"]
        if table in ("events", "outcomes"):
            yield "effects", json.dumps(effect_names())

    def check_inputs(self, resolved: Mapping[str, Any]) -> None:
        """Compare *resolved*, and the inputs it tells the digests of, with the manifest and the files."""
        asked = {key: value for key, value in resolved.items() if key != "provenance"}
        canonical = json.dumps(
            asked, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=lambda value: value.isoformat()
        )
        stated = resolved.get("provenance", {})
        digest = self.manifest["scenario_digest"]
        compared = [
            ("seed is not the manifest's", self.manifest["seed"], resolved["seed"]),
            (
                "is not the scenario of the manifest's scenario_digest",
                digest,
                hashlib.sha256(canonical.encode()).hexdigest(),
            ),
            ("provenance.scenario_digest is not the manifest's", digest, stated.get("scenario_digest")),
            (
                "provenance.fleet_digest is not the manifest's",
                self.manifest["fleet_digest"],
                stated.get("fleet_digest"),
            ),
        ]
        if "pairs" in self.readable:
            pairs_digest = hashlib.sha256((self.folder / "pairs.csv").read_bytes()).hexdigest()
            compared.append(
                ("provenance.pairs_digest is not that of pairs.csv", pairs_digest, stated.get("pairs_digest"))
            )
        for problem, expected, found in compared:
            if found != expected:
                self._problem("resolved.toml", problem, expected, found)

    def check_plan(self, path: str, sha256: str) -> None:
        """Compare the customers' plan *path* with the digest that the scenario tells of it."""
        found = hashlib.sha256((self.folder / path).read_bytes()).hexdigest()
        if found != sha256:
            self._problem(path, "is not the plan that the scenario was asked with", sha256, found)

    def without(self, table: str) -> None:
        """Note that the scenario asks for no *table*."""
        self.readable.discard(table)
        self.lacking[table] = f"outputs.{table} = false"

    def why_not(self, table: str) -> str:
        suffix = {"resolved": ".toml", "pairs": ".csv"}.get(table, ".parquet")
        return self.lacking.get(table, f"{table}{suffix} is missing or unusable")

    def read(self, file: File, columns: Sequence[str]) -> pl.DataFrame:
        """The *columns* of one file; null where it has no such column."""
        there = [name for name in columns if name in file.columns]
        # Polars' own reader takes three times as long. ParquetFile sees no columns in the names of folders.
        with pq.ParquetFile(self.folder / file.path) as parquet:
            frame = pl.DataFrame(parquet.read(columns=there, use_threads=False))
        absent = [pl.lit(None).alias(name) for name in columns if name not in there]
        return frame.with_columns(absent).select(columns)

    def campaigns(self, file: File) -> tuple[str, ...]:
        """The campaigns *file* has rows of, as its rows say."""
        if file.path not in self._campaigns:
            with pq.ParquetFile(self.folder / file.path) as parquet:
                column = parquet.read(columns=["campaign"], use_threads=False)["campaign"]
            self._campaigns[file.path] = tuple(pc.unique(column).cast(pa.string()).to_pylist()) if file.rows else ()
        return self._campaigns[file.path]

    def zones_of(self, region: str) -> list[str]:
        """The zones of *region*, by name."""
        if region not in self._zones:
            zones: set[str] = set()
            for file in self.tables["fleet"]:
                if file.folder_region == region and "zone" in file.columns:
                    zones.update(self.read(file, ["zone"])["zone"].cast(pl.String).drop_nulls().unique())
            self._zones[region] = sorted(zones, key=str.encode)
        return self._zones[region]

    def hosts_of(self, region: str) -> pl.DataFrame | None:
        """The hosts of *region* by `host_row`, with what an inventory says of them; None where none does."""
        files = [file for file in self.tables["hosts"] if file.folder_region == region and "is_spare" in file.columns]
        if not files:
            return None
        columns = ["host_row", "cluster", "vcpus", "memory_gib", "is_spare"]
        return pl.concat([self.read(file, columns) for file in files]).sort("host_row")

    def campaigns_in(self, low: int, high: int) -> set[str]:
        """The campaigns that events or outcomes with `vm_row` in [low, high] may be of."""
        near = [
            file
            for table in ("events", "outcomes")
            for file in self.tables[table]
            if table in self.readable and file.vm_row_min <= high and low <= file.vm_row_max
        ]
        return {campaign for file in near for campaign in self.campaigns(file)}

    def read_range(
        self, table: str, low: int, high: int, columns: Sequence[str], campaign: str, but: frozenset[int] = frozenset()
    ) -> Iterator[tuple[str, pl.DataFrame]]:
        """The region of its folder, and rows of *table* and *campaign* with `vm_row` in [low, high], file by file.

        Rows of the iterations in *but* are left out.
        """
        for file in self.tables[table]:
            is_near = file.vm_row_min <= high and low <= file.vm_row_max and not file.iterations <= but
            if is_near and campaign in (met := self.campaigns(file)):
                frame = self.read(file, [*columns, "campaign"] if len(met) > 1 else columns)
                if len(met) > 1:
                    frame = frame.filter(pl.col("campaign").cast(pl.String) == campaign).drop("campaign")
                if file.iterations & but:
                    frame = frame.filter(~pl.col("iteration").is_in(list(but)))
                if not frame["vm_row"].is_sorted():
                    self._unsorted.add(file.path)
                if file.vm_row_min < low or high < file.vm_row_max:
                    frame = frame.filter(pl.col("vm_row").is_between(low, high))
                yield file.folder_region, frame


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of *folder*, once it is sure that this is a finished run of a schema we know."""
    path = folder / "manifest.json"
    if not path.is_file():
        if (folder / "resolved.toml").is_file():
            hint = "the run is unfinished; complete it with `fleetsim run ... --resume`"
            raise InputError(f"{folder}: must be a finished run, got no manifest.json; {hint}")
        found = "no manifest.json and no resolved.toml"
        if not folder.is_dir():
            found = "a file" if folder.exists() else f"nothing there{nearest_path(folder)}"
        raise InputError(f"{folder}: must be the folder of a run, got {found}")
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
    if not isinstance(manifest["parts"], list) or not all(map(_is_entry, manifest["parts"])):
        raise InputError(f"{path}: parts: must be a list, each with path, rows and sha256, got something else")
    return dict(manifest)


def _is_entry(part: Any) -> bool:
    return (
        isinstance(part, dict)
        and isinstance(part.get("path"), str)
        and isinstance(part.get("rows", ""), int | None)
        and isinstance(part.get("sha256"), str)
    )


def _run_digest(parts: Iterable[Mapping[str, Any]]) -> str:
    """The digest of the stages, events and outcomes among *parts*."""
    lines = sorted(
        f"{part['path']} {part['sha256']}\n"
        for part in parts
        if part["path"] == "stages.parquet" or part["path"].startswith(("events/", "outcomes/"))
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _column_problem(column: Column, schema: pa.Schema, metadata: pq.FileMetaData) -> str | None:
    """What is wrong with *column* in a file: absent, of another type, or empty where it may not be."""
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


def _empty_columns(metadata: pq.FileMetaData, schema: pa.Schema) -> frozenset[str]:
    """Columns that hold nothing but nulls, as far as statistics tell."""
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]

    def is_empty(at: int) -> bool:
        statistics = [(group.column(at).statistics, group.num_rows) for group in groups]
        return all(found is not None and found.null_count == rows for found, rows in statistics)

    return frozenset(name for at, name in enumerate(schema.names) if is_empty(at))


def _range_in(path: Path, metadata: pq.FileMetaData, column: str) -> tuple[int, int]:
    """Least and greatest value of *column* in a file, from its statistics or, where there are none, its rows."""
    at = metadata.schema.to_arrow_schema().get_field_index(column)
    groups = [metadata.row_group(group).column(at).statistics for group in range(metadata.num_row_groups)]
    if not metadata.num_rows:
        return 0, -1
    if all(group is not None and group.has_min_max for group in groups):
        return min(group.min for group in groups), max(group.max for group in groups)
    rows = pl.read_parquet(path, columns=[column], glob=False, hive_partitioning=False)[column]
    return int(rows.min()), int(rows.max())  # type: ignore[arg-type]


class _Names:
    """Words and their codes; a word not met before gets the next code."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        self._codes: dict[str, int] = {}
        self._lock = threading.Lock()
        for word in known:
            self.code(word)

    def code(self, word: str) -> int:
        with self._lock:  # parts are read on several threads
            return self._codes.setdefault(word, len(self._codes))

    def word(self, code: int) -> str:
        return list(self._codes)[code]

    def encode(self, series: pl.Series) -> pl.Series:
        """Codes (u16) of a text column without nulls."""
        met = [self.code(word) for word in series.unique().cast(pl.String).sort()]
        if not met:
            return pl.Series(series.name, dtype=pl.UInt16)
        if len(met) == 1:
            return pl.repeat(met[0], len(series), dtype=pl.UInt16, eager=True).alias(series.name)
        return series.cast(pl.String).replace_strict(self._codes, return_dtype=pl.UInt16)

    def decode(self, name: str) -> pl.Expr:
        return pl.col(name).replace_strict(
            list(self._codes.values()), list(self._codes), default=None, return_dtype=pl.String
        )


@dataclass(frozen=True, slots=True)
class Quorum:
    """How many of the living VMs of a set or application must be up."""

    by: str
    min_up: str | int | float

    def need(self, living: Ints) -> Ints:
        if self.min_up == "majority":
            return living // 2 + 1
        if isinstance(self.min_up, int):
            return np.full_like(living, self.min_up)
        ratio = Fraction(str(self.min_up))  # as the scenario spells it, not as a float rounds it
        return -(-living * ratio.numerator // ratio.denominator)


@dataclass(frozen=True, slots=True)
class Cap:
    """How much of each region, zone or cluster may be at work at once."""

    per: str
    counts_hosts: bool
    most: int | Fraction  # a ratio of all that the fleet has there

    @staticmethod
    def read(given: Mapping[str, Any]) -> "Cap":
        (key,) = given.keys() - {"per"}
        of, unit = key.split("_")
        # As the scenario spells it, not as a float rounds it.
        return Cap(given["per"], of == "hosts", Fraction(str(given[key])) if unit == "ratio" else int(given[key]))

    def limit(self, base: Ints) -> Ints:
        if isinstance(self.most, int):
            return np.full_like(base, self.most)
        return np.maximum(1, base * self.most.numerator // self.most.denominator)


@dataclass(frozen=True, slots=True)
class Windows:
    """Spans of a campaign that needs a reboot, ms, and how often a VM has such windows until it is updated."""

    notice_ms: int
    self_service_ms: int
    gap_ms: int
    scheduled_ms: int
    iterations_max: int
    reschedule_delay_ms: int
    fails: bool  # some of the platform's tries
    retry_timeout_ms: int

    @staticmethod
    def read(given: Mapping[str, Any]) -> "Windows | None":
        if given["kind"] not in _REBOOTS:
            return None
        scheduled = given["scheduled"]
        # Runs of versions that knew no further iterations say nothing of them.
        again = given.get("iterations_max", 1), given.get("reschedule_delay_ms", 0)
        lengths_ms = given["self_service"]["length_ms"], scheduled["gap_ms"], scheduled["length_ms"]
        # Where no try fails nothing is said of tries.
        tries = scheduled.get("failure_ratio", 0) > 0, scheduled.get("retry_timeout_ms", 0)
        return Windows(given["notice_ms"], *lengths_ms, *again, *tries)

    @property
    def lead_ms(self) -> int:
        """From the notice to the opening of the scheduled window."""
        return max(self.notice_ms, self.self_service_ms + self.gap_ms)


@dataclass(frozen=True, slots=True)
class SelfService:
    """What customers may do in their window; `plan` has the requests they are to make: vm (text), start_ms."""

    plan: pl.DataFrame | None
    fails: bool
    retries: bool
    spare: Fraction
    recycle_ms: int

    @staticmethod
    def read(given: Mapping[str, Any], plan: pl.DataFrame | None) -> "SelfService | None":
        if given["kind"] not in _REBOOTS or not (given["self_service"]["uptake_ratio"] or plan is not None):
            return None
        keys = given["self_service"]
        # As the scenario spells it, not as a float rounds it.
        spare = Fraction(str(keys["spare_ratio"]))
        return SelfService(plan, keys["failure_ratio"] > 0, keys["retries"], spare, keys["recycle_ms"])


@dataclass(frozen=True, slots=True)
class Campaign:
    """The parameters of one campaign that rules ask for."""

    place: int
    name: str
    kind: str
    asked_ms: int  # its start
    waves: tuple[tuple[str, ...], ...]
    bake_ms: int
    where: Mapping[str, Sequence[Any]]
    work_ms: int
    gap_ms: int
    order: str
    walk_by: str
    is_in_step: bool
    cannot_freeze_sizes: tuple[str, ...]  # that are left alone
    reboot_sizes: tuple[str, ...]  # that a freeze reboots
    reboot_length_ms: tuple[int, int]  # of these, at the least and at the most
    spread_ms: int
    pair_order: str | tuple[str, ...]
    lag_ms: int
    excludes: bool  # over a pair, others that do so too
    length_ms_min: int
    length_ms_max: int
    families: tuple[tuple[tuple[str, ...], int, int], ...]  # sizes, length_ms_min, length_ms_max
    caps: tuple[Cap, ...]
    windows: Windows | None
    zones_take_turns: bool  # where there are some
    self_service: SelfService | None  # None: no customer acts

    @property
    def phase(self) -> str:
        """Of the platform's work."""
        return (Phase.PLATFORM if self.windows is None else Phase.SCHEDULED).name.lower()

    @property
    def kinds(self) -> tuple[str, ...]:
        """What may be done to a VM."""
        return (self.kind, Kind.REBOOT.name.lower()) if self.reboot_sizes else (self.kind,)

    @property
    def effects(self) -> Effect:
        """What an impact leaves behind at most, if it is of the campaign's kind."""
        return _EFFECTS[self.kind]

    @property
    def effects_least(self) -> Effect:
        """And at least: what a move costs besides depends on the VM."""
        return self.effects & MOVED if Effect.HOST_CHANGED in self.effects else self.effects

    @property
    def length_ms_longest(self) -> int:
        """What an impact takes at most."""
        others_ms = [longest_ms for _, _, longest_ms in self.families]
        return max(self.length_ms_max, *others_ms, self.reboot_length_ms[1])

    @property
    def retried_ms(self) -> int:
        """How long after its start a VM may be tried again."""
        return self.windows.retry_timeout_ms if self.windows is not None and self.windows.fails else 0

    @property
    def scheduled_ms(self) -> int | None:
        """How long the scheduled window is; None without windows."""
        return None if self.windows is None else self.windows.scheduled_ms

    @staticmethod
    def read(place: int, given: Mapping[str, Any], plan: pl.DataFrame | None) -> "Campaign":
        length = given["length"]
        order = given["pair_order"]
        cannot_freeze = () if given["kind"] in _REBOOTS else tuple(given["cannot_freeze_sizes"])
        are_rebooted = given["kind"] not in _REBOOTS and given.get("cannot_freeze") == Kind.REBOOT.name.lower()
        reboot = given["reboot_length"] if are_rebooted else {"length_ms_min": 0, "length_ms_max": 0}
        return Campaign(
            place=place,
            name=given["name"],
            kind=given["kind"],
            asked_ms=given["start_ms"],
            waves=tuple(tuple(wave) for wave in given["waves"]),
            bake_ms=given["bake_ms"],
            where=dict(given["where"]),
            work_ms=given["work_ms"],
            gap_ms=given["update_domain_gap_ms"],
            order=given["update_domain_order"],
            walk_by=given["walk_by"],
            is_in_step=given["sets_in_step"],
            cannot_freeze_sizes=() if are_rebooted else cannot_freeze,
            reboot_sizes=cannot_freeze if are_rebooted else (),
            reboot_length_ms=(reboot["length_ms_min"], reboot["length_ms_max"]),
            spread_ms=given["spread_ms"],
            pair_order=order if isinstance(order, str) else tuple(order),
            lag_ms=given["pair_lag_ms"],
            excludes=given["pair_exclusion"] == "all" or given["kind"] in _REBOOTS,
            length_ms_min=length["length_ms_min"],
            length_ms_max=length["length_ms_max"],
            families=tuple(
                (tuple(family["sizes"]), family["length_ms_min"], family["length_ms_max"])
                for family in length["by_family"]
            ),
            caps=tuple(map(Cap.read, given.get("caps", []))),
            windows=Windows.read(given),
            zones_take_turns=given.get("one_zone_at_a_time", False),
            self_service=SelfService.read(given, plan),
        )


MOVED = Effect.MEMORY_LOST | Effect.HOST_CHANGED
"""What every start on another host does."""
_EFFECTS = {
    Kind.NO_IMPACT.name.lower(): Effect(0),
    Kind.FREEZE.name.lower(): Effect.CLOCK_SYNCHRONISED,
    Kind.REBOOT.name.lower(): Effect.MEMORY_LOST,
    Kind.REDEPLOY.name.lower(): MOVED | Effect.TEMP_DISK_LOST | Effect.ADDRESS_CHANGED,
}
IMPACTS = [kind for kind, effects in _EFFECTS.items() if effects]
"""Kinds with an impact that this version knows the rules of."""


@dataclass(frozen=True)
class Testimony:
    """What the run says of itself: parameters, pairs and small tables, campaigns and regions as codes."""

    campaign_names: _Names
    region_names: _Names
    identity: pl.DataType  # of sets, in this run
    start_epoch_ms: int
    horizon_ms: int | None
    quorum: Quorum | None
    has_outcomes: bool
    campaigns: tuple[Campaign, ...]
    scope: pl.DataFrame  # STAGE, wave: the stages there must be
    neighbours: pl.DataFrame  # region, neighbour: undirected, each edge both ways
    stages: pl.DataFrame
    summary: pl.DataFrame
    no_guarantee: pl.DataFrame
    first_event_ms: Mapping[tuple[int, int, int], int]  # STAGE -> first start, where no summary tells
    has_lifetimes: bool

    @staticmethod
    def read(listing: Listing) -> "Testimony":
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
            listing.check_inputs(resolved)
            campaigns = tuple(
                Campaign.read(place, given, _plan(listing, place, given, start_epoch_ms))
                for place, given in enumerate(resolved["campaign"])
            )
            regions = [campaign["regions"] for campaign in resolved["campaign"]]
            quorum = Quorum(resolved["quorum"]["by"], resolved["quorum"]["min_up"]) if "quorum" in resolved else None
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: must be a resolved scenario, got none or a bad value of {error}") from error
        known = list(_EFFECTS)
        if others := sorted({campaign.kind for campaign in campaigns} - set(known)):
            rule = "one of " + ", ".join(f"'{kind}'" for kind in known)
            raise InputError(f"{path}: campaign.kind: must be {rule} in this version, got '{others[0]}'")
        campaign_names = _Names(campaign.name for campaign in campaigns)
        region_names = _Names([EVERYWHERE, *sorted({region for names in regions for region in names})])
        waves = [
            {region: number for number, wave in enumerate(campaign.waves, 1) for region in wave}
            for campaign in campaigns
        ]
        neighbours = [
            (region_names.code(one), region_names.code(other))
            for edge in _pairs(listing)
            for one, other in (edge, edge[::-1])
        ]
        identity = _identity(listing)

        def small(table: str, declared: Sequence[Column]) -> pl.DataFrame:
            columns = [column.name for column in declared]
            frames = [listing.read(file, columns) for file in listing.tables[table]]
            frame = pl.concat(frames) if frames else pl.DataFrame(schema=small_types(declared))
            return frame.with_columns(selectors.categorical().cast(pl.String)).with_columns(
                names.encode(frame[column])
                for column, names in (("campaign", campaign_names), ("region", region_names))
                if column in columns
            )

        stages = small("stages", STAGES.columns).with_columns(
            (pl.col(f"{name}_at").dt.epoch("ms") - start_epoch_ms).alias(f"{name}_ms")
            for name in ("first_start", "last_end", *(name.removesuffix("_at") for name in WINDOWS))
        )
        first_event_ms = {}
        if "summary" not in listing.readable:
            first_event_ms = _first_events(listing, start_epoch_ms, campaign_names, region_names)
        come_back = _come_back(stages, campaigns) if len(stages) else first_event_ms.keys()
        scope = [
            (code, iteration, region_names.code(region), waves[code].get(region, 1))
            for code, names in enumerate(regions)
            for region in names
            for iteration in _iterations(code, region_names.code(region), come_back)
        ]
        return Testimony(
            campaign_names,
            region_names,
            identity,
            start_epoch_ms,
            resolved.get("horizon_ms"),
            quorum,
            "outcomes" in listing.readable,
            campaigns,
            pl.DataFrame(scope, schema={**STAGE_TYPES, "wave": pl.UInt16}, orient="row"),
            pl.DataFrame(neighbours, schema={"region": pl.UInt16, "neighbour": pl.UInt16}, orient="row").unique(),
            stages,
            small("summary", SUMMARY.columns).cast({"bin_start_ms": pl.Int64, "value": pl.Float64}),
            small("no_guarantee", NO_GUARANTEE.columns).cast({"set": identity, "reason": pl.String}),
            first_event_ms,
            any({"created", "deleted"} & set(file.columns) for file in listing.tables["fleet"]),
        )

    @lazily
    def parameters(self) -> pl.DataFrame:
        """One row a campaign: what queries over stages ask of it."""
        names = ["name", "asked_ms", "lag_ms", "excludes", "spread_ms", "gap_ms", "scheduled_ms"]
        rows = [[getattr(campaign, name) for name in names] for campaign in self.campaigns]
        types = [pl.String, pl.Int64, pl.Int64, pl.Boolean, pl.Int64, pl.Int64, pl.Int64]
        frame = pl.DataFrame(rows, schema=dict(zip(names, types, strict=True)), orient="row")
        return frame.with_row_index("campaign").cast({"campaign": pl.UInt16})

    def of_campaign(self, frame: pl.DataFrame, *columns: str) -> pl.DataFrame:
        """*frame* with parameters of each row's campaign; rows of unknown campaigns have none."""
        return frame.join(self.parameters.select("campaign", *columns), on="campaign", how="left")

    @lazily
    def stage_times(self) -> pl.DataFrame:
        """When each stage was asked for and is at work, by the summary: STAGE, _TIMES; null where not told."""
        value = pl.col("value").cast(pl.Int64, strict=False)  # no number: null here, and a figure R74 finds
        return (
            self.summary.filter(pl.col("region") != self.region_names.code(EVERYWHERE))
            .group_by(STAGE)
            .agg(value.filter(pl.col("figure") == name).first().alias(name) for name in _TIMES)
            .sort(STAGE)
        )

    @lazily
    def calendar(self) -> "_Calendar":
        return _Calendar(self)

    @lazily
    def last_walks(self) -> pl.DataFrame:
        """What the summary says of the walk that ended last in each stage: STAGE, last_* as in SUMMARY_FIGURES."""
        told = self.summary.group_by(STAGE).agg(
            # Told twice is not told.
            pl.when((pl.col("figure") == name).sum() == 1)
            .then(pl.col("value").filter(pl.col("figure") == name).first())
            .alias(name)
            for name in NOT_TOLD_BY_EVENTS
        )
        # Where nobody was hit nothing ended.
        return self.stage_times.filter(pl.col("end_ms").is_not_null()).join(told, on=STAGE, how="left")

    def steps(self, listing: "Listing") -> pl.DataFrame:
        """Rows of `steps`: STAGE, unit_row, start_ms, end_ms, waited_for, waited_row, waited_ms, is_single."""
        names = [
            "campaign",
            "iteration",
            "unit_row",
            "start_at",
            "duration_ms",
            "waited_for",
            "waited_row",
            "waited_ms",
            "host_row",
            "domain",
        ]
        frames = [pl.DataFrame(schema=_STEP_TYPES)]
        for file in listing.tables["steps"]:
            rows = listing.read(file, names)
            start_ms = rows["start_at"].dt.epoch("ms") - self.start_epoch_ms
            frames.append(
                rows.with_columns(
                    self.campaign_names.encode(rows["campaign"]),
                    pl.col("unit_row", "waited_row").cast(pl.Int64),
                    pl.col("iteration").cast(pl.UInt8),
                    region=pl.lit(self.region_names.code(file.folder_region), pl.UInt16),
                    start_ms=start_ms,
                    end_ms=start_ms + rows["duration_ms"],
                    waited_for=rows["waited_for"].cast(pl.String),
                    is_single=pl.all_horizontal(pl.col("host_row", "domain").is_null()),
                ).select(frames[0].columns)
            )
        return pl.concat(frames)

    def last_vm_row(self, campaign: int, iteration: int, region: int) -> float | None:
        """First row of the walk the summary says ended last in one stage."""
        return self._last_vm_rows.get((campaign, iteration, region))

    @lazily
    def _last_vm_rows(self) -> dict[tuple[int, int, int], float]:
        rows = self.last_walks.filter(pl.col("last_vm_row").is_not_null())
        return {row[:3]: row[3] for row in rows.select(*STAGE, "last_vm_row").rows()}

    def named(self, offenders: pl.DataFrame) -> pl.DataFrame:
        """*offenders* with the user's names of campaigns and regions."""
        names = {
            "campaign": self.campaign_names,
            "region": self.region_names,
            "folder_region": self.region_names,
        }
        return offenders.with_columns(
            names[stem].decode(column)
            for column in offenders.columns
            if (stem := column.removesuffix("_other")) in names
        )


STAGE_TYPES = {"campaign": pl.UInt16, "iteration": pl.UInt8, "region": pl.UInt16}
_STEP_TYPES = {
    **STAGE_TYPES,
    **dict.fromkeys(("unit_row", "start_ms", "end_ms"), pl.Int64),
    "waited_for": pl.String,
    **dict.fromkeys(("waited_row", "waited_ms"), pl.Int64),
    "is_single": pl.Boolean,
}
FIGURE_TYPES = {**STAGE_TYPES, "figure": pl.String, "bin_start_ms": pl.Int64, "value": pl.Float64}


def small_types(declared: Sequence[Column]) -> dict[str, Any]:
    """Types of a table that has no usable file."""
    types = {"u8": pl.UInt8, "u16": pl.UInt16, "u32": pl.UInt32, "instant": pl.Datetime("ms", "UTC")}
    return {column.name: types.get(column.dtype, pl.String) for column in declared}


def _epoch_ms(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)


def _pairs(listing: Listing) -> set[tuple[str, str]]:
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


def _plan(listing: Listing, place: int, given: Mapping[str, Any], start_epoch_ms: int) -> pl.DataFrame | None:
    """The requests that customers of a campaign are to make by their own plan, if they have one: vm, start_ms."""
    asked = given["self_service"].get("requests") if given["kind"] in _REBOOTS else None
    if asked is None:
        return None
    name = f"requests-c{place:03}"
    path = listing.folder / f"{name}.csv"
    rows: list[tuple[str, int]] = []
    if name in listing.readable:
        listing.check_plan(path.name, asked["sha256"])
        with path.open(encoding="utf-8", newline="") as stream:
            rows = [
                (row["vm"], _epoch_ms(datetime.fromisoformat(row["at"].strip())) - start_epoch_ms)
                for row in csv.DictReader(stream)
            ]
    return pl.DataFrame(rows, schema={"vm": pl.String, "start_ms": pl.Int64}, orient="row")


def _identity(listing: Listing) -> pl.DataType:
    """The type of set ids: int64 if every file that has any says so, else string."""
    stored = (
        pl.read_parquet_schema(listing.folder / file.path).get("set", pl.Null())
        for table in ("fleet", "no_guarantee")
        for file in listing.tables[table]
    )
    return pl.Int64() if all(dtype in (pl.Int64, pl.Null) for dtype in stored) else pl.String()


def _come_back(stages: pl.DataFrame, campaigns: Sequence[Campaign]) -> set[tuple[int, int, int]]:
    """The stages of VMs that earlier iterations have left without an update, by what *stages* counts of these."""
    left = stages.filter(pl.sum_horizontal(_LEFT_COUNTS) > 0).drop_nulls("scheduled_start_ms")
    found = set()
    for place, iteration, region in left.select(STAGE).rows():
        windows = campaigns[place].windows if place < len(campaigns) else None
        if windows is not None and iteration < windows.iterations_max:
            found.add((place, iteration + 1, region))
    return found


def _iterations(place: int, region: int, come_back: Collection[tuple[int, int, int]]) -> Iterator[int]:
    """The iterations of a campaign in a region: the first, and as many as follow."""
    yield FIRST_ITERATION
    for iteration in itertools.count(FIRST_ITERATION + 1):
        if (place, iteration, region) not in come_back:
            return
        yield iteration


def _first_events(
    listing: Listing, start_epoch_ms: int, campaign_names: _Names, region_names: _Names
) -> dict[tuple[int, int, int], int]:
    """When the first impact of each stage starts, ms: all that is known of stages without a summary."""
    if "events" not in listing.readable:
        return {}
    starts: dict[tuple[int, int, int], int] = {}
    for part in listing.tables["fleet"]:
        region = listing.read(part, ["region"])["region"].cast(pl.String).head(1).to_list()
        for campaign in listing.campaigns_in(part.vm_row_min, part.vm_row_max) if region else ():
            columns = ["vm_row", "iteration", "start_at"]
            for _, frame in listing.read_range("events", part.vm_row_min, part.vm_row_max, columns, campaign):
                first = frame.group_by("iteration").agg(pl.col("start_at").dt.epoch("ms").min() - start_epoch_ms)
                for iteration, start_ms in first.rows():
                    key = campaign_names.code(campaign), iteration, region_names.code(region[0])
                    starts[key] = min(start_ms, starts.get(key, NEVER_MS))
    return starts


@dataclass(frozen=True, slots=True)
class Stage:
    """One iteration of a campaign in a region, as the run's small tables tell it. Times in ms since scenario.start."""

    campaign: Campaign
    iteration: int
    region: int
    region_name: str
    wave: int
    asked_ms: int
    start_ms: int | None  # None: it never started
    end_ms: int | None
    free_ms: int | None
    overdue_count: int
    rank: int
    is_told: bool  # by the summary: else `start_ms` is that of the first impact, or the earliest there could be
    has_window: bool = False  # the table of stages tells when it opened: that is `start_ms`
    tries_ms: tuple[int, ...] = (0,)  # when it started, or may have been found never to
    given_up_ms: int | None = None  # when, had all it could hit been deleted meanwhile, it was too late for it

    @property
    def key(self) -> tuple[int, int, int]:
        return self.campaign.place, self.iteration, self.region

    @property
    def judged_ms(self) -> int:
        """When it started, or was found never to at the earliest."""
        return self.tries_ms[0]

    @property
    def turn(self) -> tuple[int, int, int, int, str]:
        """Where it stands among stages tried at one instant (semantics.md 24)."""
        return self.asked_ms, self.campaign.place, self.iteration, self.rank, self.region_name

    @property
    def until_ms(self) -> int | None:
        """When its scheduled window ends; None where it has none, or nothing tells."""
        if self.start_ms is None or not self.has_window:
            return None
        return self.start_ms + (self.campaign.scheduled_ms or 0)

    @property
    def known_ms(self) -> int:
        """From when on others had to keep clear of it: its announcement or, without windows, its start."""
        assert self.start_ms is not None
        return self.asked_ms if self.has_window else self.start_ms

    @property
    def ends_ms(self) -> int:
        """When its region is free again; where that is not told, when its last unit ended."""
        if self.until_ms is not None:
            return self.until_ms
        return next(ms for ms in (self.free_ms, self.end_ms, self.start_ms, self.asked_ms) if ms is not None)


class _Calendar:
    """The stages there must be, and when each of them could first have started (semantics.md 22-26)."""

    def __init__(self, testimony: Testimony) -> None:
        neighbours: dict[int, set[int]] = {}
        for region, neighbour in testimony.neighbours.rows():
            neighbours.setdefault(region, set()).add(neighbour)
        self._near = neighbours
        # Regions in which customers of a campaign act: others may have to wait there for what these have started.
        self._with_customers = {
            (campaign.place, region)
            for campaign in testimony.campaigns
            if campaign.self_service is not None
            for region in testimony.scope.filter(pl.col("campaign") == campaign.place)["region"].unique().to_list()
        }
        self._has_lifetimes = testimony.has_lifetimes
        self.stages = self._read(testimony)
        started = [stage for stage in self.stages.values() if stage.start_ms is not None]
        self._started: dict[int, list[Stage]] = {}
        for stage in started:
            self._started.setdefault(stage.region, []).append(stage)
        for key, stage in self.stages.items():
            given_up_ms = None
            tries_ms: tuple[int, ...] = (stage.asked_ms,)
            if stage.start_ms is not None:
                tries_ms = (stage.start_ms,)
            elif stage.overdue_count:  # when it could have started, or would have been announced
                tries_ms = self.tries_ms(stage) if stage.campaign.windows is None else tries_ms
            else:
                # Nobody was there to hit when it was asked for; or nobody was left when it was its turn, too late.
                horizon_ms = NEVER_MS if testimony.horizon_ms is None else testimony.horizon_ms
                given_up_ms = min((ms for ms in self.tries_ms(stage) if ms > horizon_ms), default=None)
            self.stages[key] = replace(stage, tries_ms=tries_ms, given_up_ms=given_up_ms)

    @staticmethod
    def _read(testimony: Testimony) -> dict[tuple[int, int, int], Stage]:
        times = {tuple(row[:3]): row[3:] for row in testimony.stage_times.select(*STAGE, *_TIMES).rows()}
        counted = testimony.stages.select(
            *STAGE, "overdue_count", vm_count=pl.sum_horizontal(pl.col(OUTCOME_COUNTS).cast(pl.Int64))
        )
        counts = {tuple(row[:3]): row[3:] for row in counted.rows()}
        opens = testimony.stages.select(*STAGE, "scheduled_start_ms").drop_nulls()
        windows_ms = {tuple(row[:3]): row[3] for row in opens.rows()}
        stages = {}
        for campaign in testimony.campaigns:
            scope = testimony.scope.filter(pl.col("campaign") == campaign.place).rows()
            vm_counts = {
                testimony.region_names.word(row[2]): counts.get(row[:3], (0, 0))[1]
                for row in scope
                if row[1] == FIRST_ITERATION
            }
            ranks = _ranks(campaign.pair_order, vm_counts)
            for place, iteration, region, wave in scope:
                stage = place, iteration, region
                asked_ms, start_ms, end_ms, free_ms = times.get(stage, (None,) * 4)
                is_told = len(testimony.summary) > 0
                if not is_told:
                    # Without a horizon every stage takes place; with one, who was not hit may be overdue.
                    earliest_ms = campaign.asked_ms if testimony.horizon_ms is None else None
                    start_ms = testimony.first_event_ms.get(stage, earliest_ms)
                if campaign.windows is not None:
                    start_ms = windows_ms.get(stage, start_ms)
                name = testimony.region_names.word(region)
                stages[stage] = Stage(
                    campaign,
                    iteration,
                    region,
                    name,
                    wave,
                    campaign.asked_ms if asked_ms is None else asked_ms,
                    start_ms,
                    end_ms,
                    free_ms,
                    int(counts.get(stage, (0, 0))[0]),
                    ranks[name],
                    is_told,
                    campaign.windows is not None and stage in windows_ms,
                )
        return stages

    def first_ms(self, stage: Stage) -> int:
        """The first instant from which nothing that was at work kept *stage* out."""
        return self.tries_ms(stage)[0]

    def tries_ms(self, stage: Stage) -> tuple[int, ...]:
        """That and, of a stage that never started, the later instants at which it was tried if windows kept it out."""
        neighbours = self._near.get(stage.region, set()) if stage.campaign.excludes else set()
        others = [
            (other, 0 if region == stage.region else max(other.campaign.lag_ms, stage.campaign.lag_ms))
            for region in {stage.region, *neighbours}
            for other in self._started.get(region, ())
            if other.key != stage.key and (region == stage.region or other.campaign.excludes)
        ]
        if stage.campaign.windows is not None:
            return (self._first_window_ms(stage, stage.campaign.windows, others),)
        tries_ms: list[int] = []
        at_ms = stage.asked_ms
        while True:
            known = [(other, lag_ms) for other, lag_ms in others if self._is_before(other, stage, at_ms)]
            until_ms = [
                other.ends_ms + lag_ms
                for other, lag_ms in known
                if at_ms < other.ends_ms + lag_ms and (other.start_ms or 0) <= at_ms
            ]
            if until_ms:
                at_ms = max(until_ms)
                continue
            opens_ms = [(other.start_ms or 0) - lag_ms for other, lag_ms in known if (other.start_ms or 0) > at_ms]
            later_ms = [other.ends_ms + lag_ms for other, lag_ms in known if other.ends_ms + lag_ms > at_ms]
            is_last = not opens_ms or not later_ms
            if is_last or stage.start_ms is None or self._would_fit(stage, at_ms, min(opens_ms)):
                tries_ms.append(at_ms)
            if is_last or (tries_ms and stage.start_ms is not None):
                return tuple(tries_ms)
            at_ms = min(later_ms)

    def _would_fit(self, stage: Stage, at_ms: int, until_ms: int) -> bool:
        """Whether *stage*, had it started at *at_ms*, would surely have been over by *until_ms*."""
        assert stage.start_ms is not None
        if stage.start_ms <= at_ms:
            return True
        # Draws do not depend on when it starts: only who comes and goes does, and who is being moved.
        is_met = any(place != stage.key[0] and region == stage.region for place, region in self._with_customers)
        return not self._has_lifetimes and not is_met and at_ms + stage.ends_ms - stage.start_ms <= until_ms

    def _first_window_ms(self, stage: Stage, windows: Windows, others: list[tuple[Stage, int]]) -> int:
        """The first instant at which the scheduled window of *stage* overlaps nothing known when it is announced."""
        busy = [
            ((other.start_ms or 0) - lag_ms, other.ends_ms + lag_ms)
            for other, lag_ms in others
            if self._is_before(other, stage, stage.asked_ms)
        ]
        first_ms = stage.asked_ms + windows.lead_ms
        return min(
            opens_ms
            for opens_ms in (first_ms, *(end_ms for _, end_ms in busy))
            if opens_ms >= first_ms
            and all(end_ms <= opens_ms or opens_ms + windows.scheduled_ms <= start_ms for start_ms, end_ms in busy)
        )

    @staticmethod
    def _is_before(other: Stage, stage: Stage, at_ms: int) -> bool:
        """Whether *other* had been started, or announced, when *stage* was tried at *at_ms*."""
        if other.known_ms != at_ms:
            return other.known_ms < at_ms
        # Within a campaign a wave may be released by the one before being over at once. No other campaign gets in
        # between: whose stages are tried first has all its waves of an instant tried first.
        if other.campaign.place == stage.campaign.place and other.iteration == stage.iteration == FIRST_ITERATION:
            return (other.wave, other.turn) < (stage.wave, stage.turn)
        return other.turn < stage.turn

    @lazily
    def _release_ms(self) -> dict[tuple[int, int], int]:
        """When each wave of each campaign is released, by the ends of the one before it: (place, wave) -> ms."""
        over_ms: dict[tuple[int, int], int] = {}
        firsts = [stage for stage in self.stages.values() if stage.iteration == FIRST_ITERATION]
        for stage in firsts:
            wave = stage.campaign.place, stage.wave
            stage_over_ms = stage.judged_ms if stage.start_ms is None else stage.ends_ms
            # Which of these it was, only its VMs tell: the next wave says it as well.
            for over_at_ms in (*stage.tries_ms[1:], *(() if stage.given_up_ms is None else (stage.given_up_ms,))):
                baked_ms = over_at_ms + stage.campaign.bake_ms
                is_next = any(
                    (other.campaign.place, other.wave, other.asked_ms) == (wave[0], wave[1] + 1, baked_ms)
                    for other in firsts
                )
                stage_over_ms = over_at_ms if is_next else stage_over_ms
            over_ms[wave] = max(stage_over_ms, over_ms.get(wave, stage_over_ms))
        released: dict[tuple[int, int], int] = {}
        for campaign in {stage.campaign.place: stage.campaign for stage in self.stages.values()}.values():
            at_ms = campaign.asked_ms
            for number in range(1, len(campaign.waves) + 1):
                released[campaign.place, number] = at_ms
                at_ms = over_ms.get((campaign.place, number), at_ms) + campaign.bake_ms
        return released

    def _due_ms(self, stage: Stage) -> int:
        """When *stage* is to be asked for: with its wave or, of those who come back, a while after their window."""
        if stage.iteration == FIRST_ITERATION:
            return self._release_ms.get((stage.campaign.place, stage.wave), stage.campaign.asked_ms)
        before = self.stages[stage.campaign.place, stage.iteration - 1, stage.region]
        assert stage.campaign.windows is not None
        return before.ends_ms + stage.campaign.windows.reschedule_delay_ms

    @lazily
    def frame(self) -> pl.DataFrame:
        """One row a stage: STAGE, wave, asked_ms, release_ms, start_ms, first_ms, free_ms, overdue_count."""
        rows = [
            (
                *stage.key,
                stage.wave,
                stage.asked_ms,
                self._due_ms(stage),
                stage.start_ms,
                self.first_ms(stage),
                stage.free_ms,
                stage.overdue_count,
            )
            for stage in self.stages.values()
        ]
        times = ["asked_ms", "release_ms", "start_ms", "first_ms", "free_ms", "overdue_count"]
        types = {**STAGE_TYPES, "wave": pl.UInt16, **dict.fromkeys(times, pl.Int64)}
        return pl.DataFrame(rows, schema=types, orient="row")


def _ranks(pair_order: str | tuple[str, ...], vm_counts: Mapping[str, int]) -> dict[str, int]:
    """The place of each region by `pair_order`."""
    listed = pair_order if isinstance(pair_order, tuple) else ()
    sign = {"fewest_vms_first": 1, "most_vms_first": -1}.get(str(pair_order), 0)

    def turn(region: str) -> tuple[int, int, str]:
        place = listed.index(region) if region in listed else len(listed)
        return place, sign * vm_counts[region], region

    return {region: rank for rank, region in enumerate(sorted(vm_counts, key=turn))}
