"""The verifier: reads a finished run as a stranger would and lists every broken rule.

It sees files only and shares no code with what wrote them: pairs come from the CSV, parameters from
`resolved.toml`, and it has its own idea of what an impact may leave behind. Nothing is stepped through time:
each rule is one query over sorted or grouped rows, and its rows are the offenders. The fleet is read part by
part; what outlives a part is one small aggregate a stage and 8 bytes a VM. File names do not count.
"""

import csv
import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from polars import selectors

from fleetsim.errors import InputError, nearest_path
from fleetsim.schema import (
    EVENTS,
    FLEET,
    NO_GUARANTEE,
    OUTCOMES,
    PREPARED,
    SCHEMA_VERSION,
    STAGES,
    SUMMARY,
    SUMMARY_FIGURES,
    UPDATE_DOMAIN_COUNT_MAX,
    Column,
    Effect,
    Outcome,
    effect_names,
    words,
)

if TYPE_CHECKING:
    from rich.console import Console

OFFENDERS_SHOWN = 5
"""Offenders a result shows; all are counted."""

_HOUR_MS = 3_600_000
_STAGE = ["campaign", "iteration", "region"]
_OUTCOME_COUNTS = [f"{outcome}_count" for outcome in words(Outcome)]
_NO_DOMAIN = 255
"""Stands for a missing domain in arithmetic; no domain has this number (R31)."""
_NOT_TOLD_BY_EVENTS = [name for name in SUMMARY_FIGURES if name.startswith("last_")]
"""Figures of `summary` about the walk that ended last: where several did, any of them will do."""
_WINDOWS = ["notice_at", *(f"{phase}_{end}_at" for phase in ("self_service", "scheduled") for end in ("start", "end"))]
"""Columns of `stages` that only kinds with windows fill."""
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

    def render(self, console: "Console", *, brief: bool = False) -> None:
        """Print each rule with the rows it looked at, and the first offenders; *brief*: broken rules only."""
        from rich.table import Table
        from rich.text import Text

        told = [rule for rule in self.rules if rule.status == "broken" or not brief]
        colours = {"kept": "green", "broken": "bold red", "not checked": "yellow"}
        if told:
            grid = Table("rule", "", "rows", "what must hold", box=None, header_style="bold")
            grid.columns[2].justify = "right"
            for rule in told:
                found = f" ({rule.reason})" if rule.reason else ""
                status = Text(rule.status, colours[rule.status])
                grid.add_row(Text(rule.rule), status, f"{rule.row_count:,}", Text(rule.sentence + found))
                for offender in rule.offenders:
                    grid.add_row(
                        "", "", "", Text(", ".join(f"{key}={value}" for key, value in offender.items()), "red")
                    )
                if (more := rule.offender_count - len(rule.offenders)) > 0:
                    grid.add_row("", "", "", Text(f"and {more:,} more", "red"))
            console.print(grid)
        counts = {status: sum(rule.status == status for rule in self.rules) for status in colours}
        said = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        verdict = "every rule that could be checked is kept" if self.ok else "the run breaks the plan"
        console.print(Text(f"{self.run}: {verdict} ({said})", "bold green" if self.ok else "bold red"))


def verify(run: str | Path, *, progress: Callable[[str, int, int], None] | None = None) -> Verdict:
    """Check every rule of a finished *run* from its files alone.

    *progress* is called after each fleet part with "verify", the VMs looked at and the VMs in all. Raises
    `InputError` where *run* is no finished run of a schema this version knows.
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
                progress("verify", done, vm_count)
        tally.ask("run", whole, claims.named)
    return Verdict(folder, tally.results(claims))


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
    """Register a query of *rule*, asked of each fleet part or once of the run.

    Its docstring opens with the sentence; where a rule has several queries, the first one's is the rule's.
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
        listing = self._listing
        self._add("files", listing.entry_count, len(listing.problems), listing.problems)
        found = [self._result("files", _FILES_SENTENCE, None)]
        queries: dict[str, list[_Query]] = {}
        for query in _QUERIES:
            queries.setdefault(query.rule, []).append(query)
        for rule, asked in sorted(queries.items(), key=lambda item: _number(item[0])):
            lacking = frozenset(["resolved"]) if claims is None else asked[0].needs - self._listing.readable
            reason = self._listing.why_not(min(lacking)) if lacking else None
            found.append(self._result(rule, asked[0].sentence, reason))
        return tuple(found)

    def _result(self, rule: str, sentence: str, reason: str | None) -> RuleResult:
        if reason is not None:
            return RuleResult(rule, sentence, "not checked", reason=reason)
        count = self._counts.get(rule, 0)
        shown = tuple(self._shown.get(rule, ()))
        return RuleResult(rule, sentence, "broken" if count else "kept", self._rows.get(rule, 0), count, shown)


def _number(rule: str) -> int:
    """Where *rule* stands in the verdict: `fleet`, which is about the input, before the numbered ones."""
    return int(rule[1:]) if rule[1:].isdigit() else 0


def _first(offenders: pl.DataFrame) -> pl.DataFrame:
    """The first few of *offenders*, the same ones at every reading: grouping leaves rows in no order."""
    order = [
        "campaign",
        "iteration",
        "region",
        "walk_row",
        "unit_row",
        "vm_row",
        "start_ms",
        "figure",
        "path",
    ]
    by = [name for name in order if name in offenders.columns]
    return (offenders.sort(*by, nulls_last=True) if by else offenders).head(OFFENDERS_SHOWN)


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
    columns: tuple[str, ...]
    vm_row_min: int
    vm_row_max: int
    rows_digest: str  # of a fleet part, as its metadata says

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
        self._unsorted: set[str] = set()
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
        """Compare rows, columns and provenance; a file with a column absent, mistyped or empty is unread."""
        try:
            metadata = pq.read_metadata(self.folder / path)
            schema = metadata.schema.to_arrow_schema()
        except (pa.ArrowException, OSError) as error:
            return self._problem(path, f"cannot be read as Parquet: {error}")
        if metadata.num_rows != rows:
            self._problem(path, "has other rows than the manifest says", rows, metadata.num_rows)
        for key, expected in self._provenance(table):
            found = (metadata.metadata or {}).get(f"fleetsim.{key}".encode())
            if found is not None and found.decode() != expected:
                self._problem(path, f"fleetsim.{key} is that of another run", expected, found.decode())
        wrong = [found for column in _TABLES[table] if (found := _column_problem(column, schema, metadata))]
        for problem in wrong:
            self._problem(path, problem)
        if wrong:
            return None
        self.readable.add(table)
        low, high = _vm_row_range(self.folder / path, metadata) if "vm_row" in schema.names else (0, -1)
        rows_digest = (metadata.metadata or {}).get(b"fleetsim.rows_digest", b"").decode()
        self.tables[table].append(_File(path, metadata.num_rows, tuple(schema.names), low, high, rows_digest))
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

    def without(self, table: str) -> None:
        """Note that the scenario asks for no *table*."""
        self.readable.discard(table)
        self._lacking[table] = f"outputs.{table} = false"

    def why_not(self, table: str) -> str:
        suffix = {"resolved": ".toml", "pairs": ".csv"}.get(table, ".parquet")
        return self._lacking.get(table, f"{table}{suffix} is missing or unusable")

    def read(self, file: _File, columns: Sequence[str]) -> pl.DataFrame:
        """The *columns* of one file; null where it has no such column."""
        there = [name for name in columns if name in file.columns]
        frame = pl.read_parquet(self.folder / file.path, columns=there, glob=False, hive_partitioning=False)
        absent = [pl.lit(None).alias(name) for name in columns if name not in there]
        return frame.with_columns(absent).select(columns)

    def read_range(self, table: str, low: int, high: int, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Rows of *table* with `vm_row` in [low, high], file by file, and the region of its folder."""
        for file in self.tables[table]:
            if file.vm_row_min <= high and low <= file.vm_row_max:
                frame = self.read(file, columns)
                if file.path not in self._unsorted and not frame["vm_row"].is_sorted():
                    self._unsorted.add(file.path)
                    self._problem(file.path, "vm_row does not rise")
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
        if not met:
            return pl.Series(series.name, dtype=pl.UInt16)
        if len(met) == 1:
            return pl.repeat(met[0], len(series), dtype=pl.UInt16, eager=True).alias(series.name)
        return series.cast(pl.String).replace_strict(self._codes, return_dtype=pl.UInt16)

    def decode(self, name: str) -> pl.Expr:
        return pl.col(name).replace_strict(
            list(self._codes.values()), list(self._codes), default=None, return_dtype=pl.String
        )


@dataclass(frozen=True)
class _Claims:
    """What the run says of itself: parameters, pairs and small tables, campaigns and regions as codes."""

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
            listing.check_inputs(resolved)
            campaigns = [_campaign(campaign) for campaign in resolved["campaign"]]
            regions = [campaign["regions"] for campaign in resolved["campaign"]]
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: must be a resolved scenario, got none or a bad value of {error}") from error
        if others := sorted({campaign["kind"] for campaign in campaigns} - {"freeze"}):
            raise InputError(f"{path}: campaign.kind: must be 'freeze' in this version, got '{others[0]}'")
        campaign_names = _Names(campaign["name"] for campaign in campaigns)
        region_names = _Names(sorted({region for names in regions for region in names}))
        scope = [(code, 1, region_names.code(region)) for code, names in enumerate(regions) for region in names]
        neighbours = [
            (region_names.code(one), region_names.code(other))
            for edge in _pairs(listing)
            for one, other in (edge, edge[::-1])
        ]
        identity = _identity(listing)

        def small(table: str, declared: Sequence[Column]) -> pl.DataFrame:
            columns = [column.name for column in declared]
            frames = [listing.read(file, columns) for file in listing.tables[table]]
            frame = pl.concat(frames) if frames else pl.DataFrame(schema=_small_types(declared))
            return frame.with_columns(selectors.categorical().cast(pl.String)).with_columns(
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
            small("stages", STAGES.columns).with_columns(
                (pl.col(f"{name}_at").dt.epoch("ms") - start_epoch_ms).alias(f"{name}_ms")
                for name in ("first_start", "last_end")
            ),
            small("summary", SUMMARY.columns).cast({"bin_start_ms": pl.Int64, "value": pl.Float64}),
            small("no_guarantee", NO_GUARANTEE.columns).cast({"set": identity, "reason": pl.String}),
        )

    @cached_property
    def stage_times(self) -> pl.DataFrame:
        """When each stage is at work, by the summary: _STAGE, start_ms, end_ms."""
        value = pl.col("value").cast(pl.Int64, strict=False)  # no number: null here, and a figure R74 finds
        at_work = self.summary.group_by(_STAGE).agg(
            start_ms=value.filter(pl.col("figure") == "start_ms").first(),
            end_ms=value.filter(pl.col("figure") == "end_ms").first(),
        )
        return self.stages.select(_STAGE).unique().join(at_work, on=_STAGE, how="left")

    @cached_property
    def last_walks(self) -> pl.DataFrame:
        """What the summary says of the walk that ended last in each stage: _STAGE, last_* as in SUMMARY_FIGURES."""
        told = self.summary.group_by(_STAGE).agg(
            # Told twice is not told.
            pl.when((pl.col("figure") == name).sum() == 1)
            .then(pl.col("value").filter(pl.col("figure") == name).first())
            .alias(name)
            for name in _NOT_TOLD_BY_EVENTS
        )
        return self.stage_times.join(told, on=_STAGE, how="left")

    def of_campaign(self, frame: pl.DataFrame, *columns: str) -> pl.DataFrame:
        """*frame* with parameters of each row's campaign; rows of unknown campaigns have none."""
        return frame.join(self.campaigns.select("campaign", *columns), on="campaign", how="left")

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


_STAGE_TYPES = {"campaign": pl.UInt16, "iteration": pl.UInt8, "region": pl.UInt16}
_FIGURE_TYPES = {**_STAGE_TYPES, "figure": pl.String, "bin_start_ms": pl.Int64, "value": pl.Float64}


def _small_types(declared: Sequence[Column]) -> dict[str, Any]:
    """Types of a table that has no usable file."""
    types = {"u8": pl.UInt8, "u16": pl.UInt16, "u32": pl.UInt32, "instant": pl.Datetime("ms", "UTC")}
    return {column.name: types.get(column.dtype, pl.String) for column in declared}


def _epoch_ms(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)


def _campaign(given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of one campaign that rules ask for, flat."""
    length = given["length"]
    return {
        "name": given["name"],
        "kind": given["kind"],
        "asked_ms": given["start_ms"],
        "work_ms": given["work_ms"],
        "gap_ms": given["update_domain_gap_ms"],
        "order": given["update_domain_order"],
        "spread_ms": given["spread_ms"],
        "lag_ms": given["pair_lag_ms"],
        "length_ms_min": length["length_ms_min"],
        "length_ms_max": length["length_ms_max"],
    }


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


_FLEET_COLUMNS = ["vm_row", "vm", "region", "set", "update_domain"]
_EVENT_TYPES = {
    "campaign": pl.UInt16,
    "phase": pl.String,
    "kind": pl.String,
    "result": pl.String,
    "iteration": pl.UInt8,
    "vm_row": pl.UInt32,
    "start_at": pl.Datetime("ms", "UTC"),
    "duration_ms": pl.UInt32,
    "effects": pl.UInt8,
}
_OUTCOME_TYPES = {
    "campaign": pl.UInt16,
    "iteration": pl.UInt8,
    "vm_row": pl.UInt32,
    "outcome": pl.String,
    "reason": pl.String,
    "paused_ms": pl.UInt32,
    "down_ms": pl.UInt32,
    "event_count": pl.UInt32,
    "effects": pl.UInt8,
}


_KEY = ((pl.col("campaign").cast(pl.Int64) * 256 + pl.col("iteration")) * 2**32 + pl.col("vm_row")).alias("key")
"""Campaign, iteration and vm_row in one number: joins by it take half the time."""


class _Part:
    """One fleet part and all that happened to its VMs, in all campaigns; frames are made on first use.

    A walk is a set or a single; a unit is a (set, update domain) or a single; a visit is what starts in a
    unit at one instant. Units and walks are numbered within the part from 0, those of sets first.
    """

    def __init__(self, claims: _Claims, listing: _Listing, file: _File) -> None:
        self.claims = claims
        self.path = file.path
        self._listing = listing
        self._range = (file.vm_row_min, file.vm_row_max)
        fleet = listing.read(file, _FLEET_COLUMNS)
        self.fleet = fleet.with_columns(
            claims.region_names.encode(fleet["region"]),
            pl.col("set").cast(claims.identity),
            pl.col("update_domain").cast(pl.UInt8),
            folder_region=pl.lit(claims.region_names.code(file.folder_region), pl.UInt16),
        )

    def _happened(self, table: str, types: Mapping[str, Any]) -> pl.DataFrame:
        """Rows of *table* within this part's range of VMs, from whichever files have them."""
        frames = [
            frame.with_columns(
                self.claims.campaign_names.encode(frame["campaign"]),
                self.claims.region_names.encode(frame["folder_region"]),
            )
            for frame in self._listing.read_range(table, *self._range, list(types))
        ]
        return pl.concat(frames) if frames else pl.DataFrame(schema={**types, "folder_region": pl.UInt16})

    @cached_property
    def domains(self) -> pl.DataFrame:
        """Populated update domains: unit_row, walk_row, region, set, update_domain, vm_count."""
        domains = (
            self.fleet.filter(pl.col("set").is_not_null())
            .group_by("region", "set", "update_domain")
            .agg(vm_count=pl.len(), first_vm_row=pl.col("vm_row").min())
            .sort("first_vm_row")
        )
        sets = domains.select("region", "set").unique(maintain_order=True).with_row_index("walk_row")
        return domains.join(sets, on=["region", "set"], maintain_order="left").with_row_index("unit_row")

    @cached_property
    def sets(self) -> pl.DataFrame:
        """Sets: walk_row, region, set, vm_count, domain_count."""
        by_set = self.domains.group_by("walk_row", "region", "set")
        return by_set.agg(vm_count=pl.col("vm_count").sum(), domain_count=pl.len()).sort("walk_row")

    @cached_property
    def singles(self) -> pl.DataFrame:
        """Singles: the fleet's columns with unit_row and walk_row; a single has no domain."""
        place = pl.int_range(pl.len(), dtype=pl.UInt32)
        return self.fleet.filter(pl.col("set").is_null()).with_columns(
            update_domain=pl.lit(None, pl.UInt8),
            unit_row=place + len(self.domains),
            walk_row=place + len(self.sets),
        )

    @cached_property
    def vms(self) -> pl.DataFrame:
        """The fleet, each `vm_row` once, with unit_row and walk_row."""
        keys = ["region", "set", "update_domain"]
        placed = self.fleet.join(
            self.domains.select(*keys, "unit_row", "walk_row"), on=keys, nulls_equal=True
        )  # singles fall out: their set is null, which no domain has
        vms = pl.concat([placed, self.singles])
        return vms.unique("vm_row") if vms["vm_row"].is_duplicated().any() else vms

    @cached_property
    def units(self) -> pl.DataFrame:
        """Units: unit_row, walk_row, region, update_domain, vm_count; vm_row of a single."""
        columns = ["unit_row", "walk_row", "region", "update_domain", "vm_count", "vm_row"]
        return pl.concat(
            [
                self.domains.with_columns(vm_row=pl.lit(None, pl.UInt32)).select(columns),
                self.singles.with_columns(vm_count=pl.lit(1, pl.UInt32)).select(columns),
            ]
        )

    @cached_property
    def all_events(self) -> pl.DataFrame:
        """Every event with a `vm_row` in this part's range, and the place of its VM, null where none."""
        start_ms = pl.col("start_at").dt.epoch("ms") - self.claims.start_epoch_ms
        return (
            self._happened("events", _EVENT_TYPES)
            # As 64 bits, for sums of lengths keep the type of what they add up.
            .with_columns(pl.col("duration_ms").cast(pl.Int64), start_ms=start_ms)
            .with_columns(end_ms=pl.col("start_ms") + pl.col("duration_ms"))
            .drop("start_at")
            .join(
                self.vms.select("vm_row", "region", "update_domain", "unit_row", "walk_row"),
                on="vm_row",
                how="left",
            )
        )

    @cached_property
    def events(self) -> pl.DataFrame:
        """Events of known VMs and campaigns: the impacts all other frames are made of."""
        known = pl.col("region").is_not_null() & (pl.col("campaign") < len(self.claims.campaigns))
        return self.all_events.filter(known)

    @cached_property
    def outcomes(self) -> pl.DataFrame:
        """Every outcome with a `vm_row` in this part's range, and its key."""
        return self._happened("outcomes", _OUTCOME_TYPES).with_columns(_KEY)

    @cached_property
    def hits(self) -> pl.DataFrame:
        """Per campaign, iteration and VM hit: region, event_count, paused_ms, effects (union), key."""
        by_vm = self.events.group_by("campaign", "iteration", "vm_row")
        return by_vm.agg(
            pl.col("region").first(),
            event_count=pl.len(),
            paused_ms=pl.col("duration_ms").sum(),
            effects=pl.col("effects").bitwise_or(),
        ).with_columns(_KEY)

    @cached_property
    def visits(self) -> pl.DataFrame:
        """What starts in a unit at one instant: hit_count, impact_end_ms; end_ms, which counts `work` too."""
        visits = self.events.group_by("campaign", "iteration", "unit_row", "start_ms").agg(
            impact_end_ms=pl.col("end_ms").max(), hit_count=pl.len()
        )
        place = self.units[visits["unit_row"]].select("walk_row", "region", "update_domain")
        work_end_ms = pl.col("start_ms") + pl.col("work_ms")
        return self.claims.of_campaign(
            pl.concat([visits, place], how="horizontal"), "work_ms", "gap_ms", "order"
        ).with_columns(end_ms=pl.max_horizontal("impact_end_ms", work_end_ms))

    @cached_property
    def set_visits(self) -> pl.DataFrame:
        """Visits of sets; a missing domain is _NO_DOMAIN."""
        visits = self.visits.filter(pl.col("walk_row") < len(self.sets))
        return visits.with_columns(pl.col("update_domain").fill_null(_NO_DOMAIN))

    @cached_property
    def spans(self) -> pl.DataFrame:
        """Per campaign, iteration and walk: region, first_start_ms, end_ms, is_set."""
        by_walk = self.visits.group_by("campaign", "iteration", "walk_row")
        return by_walk.agg(
            pl.col("region").first(), first_start_ms=pl.col("start_ms").min(), end_ms=pl.col("end_ms").max()
        ).with_columns(is_set=pl.col("walk_row") < len(self.sets))

    @cached_property
    def last_walks(self) -> pl.DataFrame:
        """Spans of the walks here that the summary says ended last, by first `vm_row`, with their domain_count."""
        low, high = self._range
        told = self.claims.last_walks.filter(pl.col("last_vm_row").is_between(low, high))
        vms = self.vms.select("walk_row", pl.col("vm_row").cast(pl.Float64))
        walks = vms.filter(pl.col("vm_row").is_in(told["last_vm_row"].implode())).select("walk_row").unique()
        firsts = vms.join(walks, on="walk_row", how="semi").group_by("walk_row").agg(last_vm_row=pl.col("vm_row").min())
        return (
            self.spans.join(firsts, on="walk_row")
            .join(told.select(*_STAGE, "last_vm_row"), on=[*_STAGE, "last_vm_row"], how="semi")
            .join(self.sets.select("walk_row", "domain_count"), on="walk_row", how="left")
            .select(*_STAGE, "first_start_ms", "end_ms", pl.col("domain_count").fill_null(1))
        )

    @cached_property
    def constant_spans(self) -> pl.DataFrame:
        """Spans of sets in campaigns of one length for all, with what R77 needs of set and campaign."""
        length = ["length_ms_min", "length_ms_max"]
        spans = self.claims.of_campaign(self.spans.filter("is_set"), "work_ms", "gap_ms", *length)
        of_set = self.sets.select("walk_row", "domain_count")
        return spans.filter(pl.col(length[0]) == pl.col(length[1])).join(of_set, on="walk_row", how="left")

    @cached_property
    def sweep(self) -> pl.DataFrame:
        """Starts and ends of impacts, set by set in time, with the VMs then down.

        `down` counts them, `domain_sum` adds up their domains and `domain_square_sum` the squares of these.
        """
        columns = ["campaign", "iteration", "region", "walk_row", "update_domain"]
        starts = self.set_visits.select(*columns, at_ms="start_ms", change=pl.col("hit_count").cast(pl.Int64))
        ends = self.events.filter(pl.col("walk_row") < len(self.sets)).select(
            *columns, at_ms="end_ms", change=pl.lit(-1, pl.Int64)
        )
        domain = pl.col("update_domain").fill_null(_NO_DOMAIN).cast(pl.Int64)
        # Sums run on over all sets: each set's changes add up to nothing, so every set begins at 0 again.
        swept = (
            pl.concat([starts, ends.with_columns(pl.col("update_domain").fill_null(_NO_DOMAIN))])
            .sort("walk_row", "at_ms", "change")
            .with_columns(
                down=pl.col("change").cum_sum(),
                domain_sum=(pl.col("change") * domain).cum_sum(),
                domain_square_sum=(pl.col("change") * domain * domain).cum_sum(),
                next_ms=pl.col("at_ms").shift(-1),
            )
        )
        return pl.concat([swept, self.sets[swept["walk_row"]].select("vm_count", "domain_count")], how="horizontal")

    @cached_property
    def listed(self) -> pl.DataFrame:
        """Sets of this part that no_guarantee.parquet lists."""
        return self.claims.no_guarantee.join(self.sets, on=["region", "set"], how="semi")

    def figures(self) -> pl.DataFrame:
        """This part's share of the figures of `summary` and the counts of `stages`: _FIGURE_TYPES."""
        all_out = pl.col("down") >= pl.col("vm_count")
        walked = self.sweep.filter(pl.col("domain_count") >= 2)
        return pl.concat(
            [
                _per_stage(
                    self.events,
                    unavailable_ms=pl.col("duration_ms").sum(),
                ),
                _per_stage(
                    self.hits,
                    vm_hit_count=pl.len(),
                ),
                _per_stage(
                    self.spans,
                    first_start_ms=pl.col("first_start_ms").min(),
                    end_ms=pl.col("end_ms").max(),
                    set_count=pl.col("is_set").sum(),
                    single_count=pl.col("is_set").not_().sum(),
                    longest_ms=(pl.col("end_ms") - pl.col("first_start_ms")).max(),
                ),
                _per_stage(
                    self.sweep,
                    set_out_ms=(pl.col("next_ms") - pl.col("at_ms")).filter(all_out).sum(),
                ),
                _per_stage(
                    walked,
                    set_down_ratio_max=(pl.col("down") / pl.col("vm_count")).max(),
                ),
                _per_stage(
                    self.events,
                    bin_start_ms=pl.col("start_ms") // _HOUR_MS * _HOUR_MS,
                    hourly_start_count=pl.len(),
                    hourly_unavailable_ms=pl.col("duration_ms").sum(),
                ),
                _per_stage(
                    self.hits,
                    bin_start_ms=_histogram_bin_ms(pl.col("paused_ms")),
                    paused_ms_histogram=pl.len(),
                ),
                self._outcome_counts(),
            ]
        )

    def _outcome_counts(self) -> pl.DataFrame:
        """`<outcome>_count` of each stage, from the outcomes or, where there are none, from who was hit."""
        if "outcomes" not in self._listing.readable:
            return _per_stage(self.hits, updated_count=pl.len())
        counts = (
            self.outcomes.join(self.vms.select("vm_row", "region"), on="vm_row")
            .group_by(*_STAGE, "outcome")
            .agg(value=pl.len().cast(pl.Float64))
        )
        figure = pl.col("outcome").cast(pl.String) + "_count"
        return counts.select(*_STAGE, figure=figure, bin_start_ms=pl.lit(None, pl.Int64), value="value")

    def named(self, offenders: pl.DataFrame) -> pl.DataFrame:
        """*offenders* with the user's own names instead of rows and codes."""
        for frame, key in ((self.sets, "walk_row"), (self.vms, "vm_row")):
            if key in offenders.columns:
                named = ("region", "set", "update_domain", "vm")
                absent = [name for name in named if name in frame.columns and name not in offenders.columns]
                offenders = offenders.join(frame.select(key, *absent), on=key, how="left")
        first = ["campaign", "iteration", "region", "set", "update_domain", "vm", "vm_row"]
        shown = [name for name in first if name in offenders.columns]
        others = [name for name in offenders.columns if name not in (*first, "unit_row", "walk_row")]
        return self.claims.named(offenders.select(*shown, *others))


def _per_stage(frame: pl.DataFrame, bin_start_ms: pl.Expr | None = None, **figures: pl.Expr) -> pl.DataFrame:
    """*figures* of each stage (and bin) of *frame*, one row each: _STAGE, figure, bin_start_ms, value."""
    bins = pl.lit(None, pl.Int64) if bin_start_ms is None else bin_start_ms.cast(pl.Int64)
    return (
        frame.group_by(*_STAGE, bins.alias("bin_start_ms"))
        .agg(figure.cast(pl.Float64).alias(name) for name, figure in figures.items())
        .unpivot(index=[*_STAGE, "bin_start_ms"], variable_name="figure", value_name="value")
        .select(*_STAGE, "figure", "bin_start_ms", "value")
    )


def _histogram_bin_ms(value_ms: pl.Expr) -> pl.Expr:
    """Lower bound of the bin of *value_ms*: the value with all but its seven leading bits cleared."""
    bits = 64 - value_ms.cast(pl.UInt64).bitwise_leading_zeros().cast(pl.Int64)
    width_ms = pl.lit(2, pl.Int64).pow(pl.max_horizontal(bits - 7, 0))
    return value_ms.cast(pl.Int64) // width_ms * width_ms


def _fingerprints(vm: pl.Series) -> pl.Series:
    """64 bits of each VM, the same in every part: those of a whole number are the number itself."""
    return vm.reinterpret(signed=False) if vm.dtype == pl.Int64 else vm.cast(pl.String).hash()


class _Whole:
    """The run once its parts went by: aggregates per stage, and what no part accounts for."""

    def __init__(self, claims: _Claims, listing: _Listing) -> None:
        self.claims = claims
        self._listing = listing
        self._figures: list[pl.DataFrame] = []
        self._last_walks: list[pl.DataFrame] = []
        self._set_ranges: list[tuple[int, Any, Any, str]] = []
        self._seen = dict.fromkeys(("events", "outcomes"), 0)
        self._found = dict.fromkeys(("vms", "sets", "singles"), 0)
        self.listed_left = claims.no_guarantee
        self.fleet_files = listing.tables["fleet"]
        # All that grows with the fleet: 8 bytes a VM, for a VM may be repeated in any two parts.
        self._vm_prints: npt.NDArray[np.uint64] = np.empty(sum(file.rows for file in self.fleet_files), np.uint64)

    @property
    def summary(self) -> pl.DataFrame:
        return self.claims.summary

    @property
    def stages(self) -> pl.DataFrame:
        return self.claims.stages

    @cached_property
    def fleet_digest(self) -> pl.DataFrame:
        """The manifest's digest of the fleet beside that of the parts' rows, as their metadata tell it."""
        rows_digests = "".join(file.rows_digest for file in self.fleet_files if file.rows)
        try:
            found = hashlib.sha256(bytes.fromhex(rows_digests)).hexdigest()
        except ValueError:
            found = "none"
        return pl.DataFrame({"expected": [str(self._listing.manifest["fleet_digest"])], "found": [found]})

    @cached_property
    def repeated_vms(self) -> pl.DataFrame:
        """Rows of the fleet whose `vm` others have too: vm, vm_row, path. Exact where two fingerprints agree."""
        prints = self._vm_prints[: self._found["vms"]]
        prints.sort()
        suspects = pl.Series(np.unique(prints[1:][prints[1:] == prints[:-1]]))
        frames = [pl.DataFrame(schema={"vm": pl.String, "vm_row": pl.UInt32, "path": pl.String})]
        for file in self.fleet_files if len(suspects) else ():
            rows = self._listing.read(file, ["vm", "vm_row"])
            rows = rows.filter(_fingerprints(rows["vm"]).is_in(suspects.implode()))
            frames.append(rows.select(pl.col("vm").cast(pl.String), "vm_row", path=pl.lit(file.path)))
        return pl.concat(frames).filter(pl.col("vm").is_duplicated())

    def add(self, part: _Part) -> None:
        """Keep of *part* what rules about the whole run ask for."""
        readable = self._listing.readable
        if "events" in readable:
            self._seen["events"] += len(part.all_events)
            self._figures.append(part.figures())
            self._last_walks.append(part.last_walks)
        if "outcomes" in readable:
            self._seen["outcomes"] += len(part.outcomes)
        end = self._found["vms"] + len(part.fleet)
        self._vm_prints[self._found["vms"] : end] = _fingerprints(part.fleet["vm"]).to_numpy()
        self._found["vms"] = end
        self._found["sets"] += len(part.sets)
        self._found["singles"] += len(part.singles)
        ranges = part.sets.group_by("region").agg(low=pl.col("set").min(), high=pl.col("set").max())
        self._set_ranges += [(*row, part.path) for row in ranges.rows()]
        self.listed_left = self.listed_left.join(part.sets, on=["region", "set"], how="anti")

    @cached_property
    def figures(self) -> pl.DataFrame:
        """Figures of each stage, folded over the parts: _STAGE, figure, bin_start_ms, value."""
        if not self._figures:
            return pl.DataFrame(schema=_FIGURE_TYPES)
        value, fold = pl.col("value"), pl.col("figure").replace_strict(_FOLD, default="sum")
        return (
            pl.concat(self._figures)
            .group_by(*_STAGE, "figure", "bin_start_ms")
            .agg(sum=value.sum(), max=value.max(), min=value.min())
            .select(
                *_STAGE,
                "figure",
                "bin_start_ms",
                value=pl.when(fold == "max").then("max").when(fold == "min").then("min").otherwise("sum"),
            )
        )

    @cached_property
    def last_walks(self) -> pl.DataFrame:
        """What the summary says of the walk that ended last in each stage, and that walk, null where it is none."""
        walks = pl.concat(self._last_walks) if self._last_walks else None
        told = self.claims.of_campaign(self.claims.last_walks, "gap_ms")
        return told.join(walks, on=_STAGE, how="left", suffix="_walk") if walks is not None else told.head(0)

    def figure(self, name: str) -> pl.DataFrame:
        """One single-valued figure as a column of its name, a row a stage."""
        return self.figures.filter(pl.col("figure") == name).select(*_STAGE, pl.col("value").cast(pl.Int64).alias(name))

    @cached_property
    def meetings(self) -> pl.DataFrame:
        """Two stages of one region or of neighbours, the earlier first; by stage times and by event times."""
        by_events = self.figure("first_start_ms").join(self.figure("end_ms"), on=_STAGE)
        spans = pl.concat(
            [
                self.claims.stage_times.with_columns(seen=pl.lit("stages")),
                by_events.rename({"first_start_ms": "start_ms"}).with_columns(seen=pl.lit("events")),
            ]
        )
        spans = self.claims.of_campaign(spans, "lag_ms").sort("start_ms", "end_ms", *_STAGE).with_row_index("place")
        regions = spans.select("region", neighbour="region").unique()
        near = pl.concat([regions, self.claims.neighbours]).unique()
        return (
            spans.join(near, on="region")
            .join(spans, left_on=["seen", "neighbour"], right_on=["seen", "region"], suffix="_other")
            .filter(pl.col("place") < pl.col("place_other"))
            .rename({"neighbour": "region_other"})
            .drop("place", "place_other")
        )

    @cached_property
    def lagged_meetings(self) -> pl.DataFrame:
        """Meetings of neighbours of which at least one's campaign asks for a lag: `lag_ms` is the larger."""
        return self.meetings.with_columns(lag_ms=pl.max_horizontal("lag_ms", "lag_ms_other")).filter(
            pl.col("region") != pl.col("region_other"), pl.col("lag_ms") > 0
        )

    @cached_property
    def bounds(self) -> pl.DataFrame:
        """What each campaign's length cannot be below: its longest walk, and its longest pair of them."""
        longest = self.figure("longest_ms").drop("iteration").rename({"longest_ms": "bound_ms"})
        one = longest.with_columns(bound=pl.lit("longest walk"), region_other=pl.lit(None, pl.UInt16))
        edges = longest.join(self.claims.neighbours.rename({"neighbour": "region_other"}), on="region")
        two = (
            self.claims.of_campaign(edges, "lag_ms")
            .join(
                longest,
                left_on=["campaign", "region_other"],
                right_on=["campaign", "region"],
                suffix="_other",
            )
            .filter(pl.col("region") < pl.col("region_other"))
            .with_columns(
                bound_ms=pl.col("bound_ms") + pl.col("bound_ms_other") + pl.col("lag_ms"),
                bound=pl.lit("longest pair"),
            )
            .select(one.columns)
        )
        lengths = self.claims.stage_times.group_by("campaign").agg(
            length_ms=pl.col("end_ms").max() - pl.col("start_ms").min()
        )
        return pl.concat([one, two]).join(lengths, on="campaign", how="left")

    @cached_property
    def fleet_ranges(self) -> pl.DataFrame:
        """Files of the fleet in vm_row order, with their range."""
        return pl.DataFrame(
            [(file.path, file.rows, file.vm_row_min, file.vm_row_max) for file in self.fleet_files],
            schema={"path": pl.String, "rows": pl.Int64, "low": pl.Int64, "high": pl.Int64},
            orient="row",
        )

    @cached_property
    def divided_sets(self) -> pl.DataFrame:
        """Sets that two parts of the fleet have VMs of; looked for where the ranges of their sets overlap."""
        frames = [pl.DataFrame(schema={"region": pl.UInt16, "set": self.claims.identity, "path": pl.String})]
        ranges = sorted(self._set_ranges, key=lambda item: (item[0], item[1]))
        for place, (region, _, high, path) in enumerate(ranges):
            for other_region, other_low, _, other_path in ranges[place + 1 :]:
                if other_region != region or other_low > high:
                    break
                shared = self._sets_in(path, region).join(self._sets_in(other_path, region), on="set", how="semi")
                frames.append(
                    shared.select(region=pl.lit(region, pl.UInt16), set="set", path=pl.lit(f"{path}, {other_path}"))
                )
        return pl.concat(frames)

    def _sets_in(self, path: str, region: int) -> pl.DataFrame:
        file = next(file for file in self.fleet_files if file.path == path)
        return _Part(self.claims, self._listing, file).sets.filter(pl.col("region") == region).select("set")

    def _strays(self, table: str) -> pl.DataFrame:
        """Rows of *table* whose `vm_row` lies in no part of the fleet: path, campaign, vm_row."""
        files = self._listing.tables[table]
        frames = [pl.DataFrame(schema={"path": pl.String, "campaign": pl.UInt16, "vm_row": pl.UInt32})]
        if sum(file.rows for file in files) != self._seen[table]:
            inside = [pl.col("vm_row").is_between(file.vm_row_min, file.vm_row_max) for file in self.fleet_files]
            for file in files:
                rows = self._listing.read(file, ["campaign", "vm_row"])
                rows = rows.with_columns(self.claims.campaign_names.encode(rows["campaign"]), path=pl.lit(file.path))
                frames.append(rows.filter(~pl.any_horizontal(*inside, False)).select(frames[0].columns))
        return pl.concat(frames)

    @cached_property
    def stray_events(self) -> pl.DataFrame:
        return self._strays("events")

    @cached_property
    def stray_outcomes(self) -> pl.DataFrame:
        return self._strays("outcomes")

    @cached_property
    def counts(self) -> pl.DataFrame:
        """The manifest's counts beside those of the files: figure, expected, value."""
        found = self._found | {
            table: sum(file.rows for file in self._listing.tables[table]) for table in ("events", "outcomes", "stages")
        }
        claimed = self._listing.manifest["counts"]
        return pl.DataFrame(
            [(name, expected, claimed.get(name)) for name, expected in found.items()],
            schema={"figure": pl.String, "expected": pl.Int64, "value": pl.Int64},
            orient="row",
        )

    @cached_property
    def stage_claims(self) -> pl.DataFrame:
        """What `stages` says, one row a stage and figure: _FIGURE_TYPES."""
        stages = self.claims.stages
        told = [name for name in stages.columns if name.endswith(("_count", "_ms"))]
        return stages.unpivot(on=told, index=_STAGE, variable_name="figure").select(
            *_STAGE, "figure", pl.lit(None, pl.Int64).alias("bin_start_ms"), pl.col("value").cast(pl.Float64)
        )


@_rule("fleet", "part", over="fleet")
def _fleet_rows(part: _Part) -> pl.DataFrame:
    """The fleet is whole: vm_row counts VMs from 0, a set lies in one part, a part in its region's folder."""
    repeated = pl.col("vm_row").is_duplicated()
    misplaced = pl.col("region") != pl.col("folder_region")
    return part.fleet.filter(repeated | misplaced).select("vm_row", "region", "folder_region")


@_rule("fleet", "run", over="fleet_ranges")
def _fleet_gaps(whole: _Whole) -> pl.DataFrame:
    """Parts of the fleet follow one another without a gap."""
    expected = pl.col("high").shift(1, fill_value=-1) + 1
    return (
        whole.fleet_ranges.filter(pl.col("rows") > 0)
        .with_columns(expected_vm_row=expected, expected_rows=pl.col("high") - pl.col("low") + 1)
        .filter((pl.col("low") != pl.col("expected_vm_row")) | (pl.col("rows") != pl.col("expected_rows")))
    )


@_rule("fleet", "run", over="divided_sets")
def _fleet_divided(whole: _Whole) -> pl.DataFrame:
    """No set is divided over two parts of the fleet."""
    return whole.divided_sets


@_rule("fleet", "run", over="fleet_digest")
def _fleet_asked_for(whole: _Whole) -> pl.DataFrame:
    """The fleet is the one the manifest names by its digest."""
    problem = pl.lit("fleet_digest is not that of its parts")
    return whole.fleet_digest.filter(pl.col("found") != pl.col("expected")).with_columns(problem=problem)


@_rule("fleet", "run", over="fleet_ranges")
def _fleet_vms_differ(whole: _Whole) -> pl.DataFrame:
    """No VM is there twice."""
    return whole.repeated_vms.with_columns(problem=pl.lit("vm is there twice"))


@_rule("R31", "part", over="fleet")
def _domains_in_range(part: _Part) -> pl.DataFrame:
    """Every VM of a set has an update domain from 0 to 19, so a set has at most 20."""
    domain = pl.col("update_domain")
    outside = domain.is_null() | (domain >= UPDATE_DOMAIN_COUNT_MAX)
    return part.fleet.filter(pl.col("set").is_not_null() & outside).select("vm_row")


@_rule("R4", "part", over="all_events", needs="events stages summary")
def _inside_stage(part: _Part) -> pl.DataFrame:
    """Every event is of a VM of the fleet, and of its campaign, region and stage."""
    events = part.all_events.join(part.claims.stage_times, on=_STAGE, how="left", suffix="_stage")
    events = part.claims.of_campaign(events, "asked_ms", "name")
    is_freeze = (pl.col("phase") == "platform") & (pl.col("kind") == "freeze") & (pl.col("result") == "completed")
    problem = (
        pl.when(pl.col("region").is_null())
        .then(pl.lit("no such VM"))
        .when(pl.col("name").is_null())
        .then(pl.lit("no such campaign"))
        .when(~is_freeze)
        .then(pl.lit("is no completed freeze by the platform"))
        .when(pl.col("folder_region") != pl.col("region"))
        .then(pl.lit("lies in another region's folder"))
        .when(pl.col("start_ms_stage").is_null())
        .then(pl.lit("its campaign has no stage there"))
        .when(pl.col("start_ms") < pl.max_horizontal("start_ms_stage", "asked_ms"))
        .then(pl.lit("starts before its stage"))
        .when(pl.col("end_ms") > pl.col("end_ms_stage"))
        .then(pl.lit("ends after its stage"))
    )
    shown = ["vm_row", *_STAGE, "start_ms", "end_ms", "start_ms_stage", "end_ms_stage", "folder_region"]
    return events.with_columns(problem=problem).filter(pl.col("problem").is_not_null()).select(*shown, "problem")


@_rule("R4", "part", over="spans", needs="events stages summary")
def _starts_within_spread(part: _Part) -> pl.DataFrame:
    """A set or single first starts within `spread` of its stage's start."""
    spans = part.spans.join(part.claims.stage_times, on=_STAGE, suffix="_stage")
    after_ms = pl.col("start_ms") + pl.max_horizontal("spread_ms", 1)
    late = part.claims.of_campaign(spans, "spread_ms").filter(pl.col("first_start_ms") >= after_ms)
    return late.select(*_STAGE, "walk_row", "first_start_ms", start_ms_stage="start_ms", spread_ms="spread_ms")


@_rule("R4", "run", over="stages", needs="events stages summary")
def _stages_sound(whole: _Whole) -> pl.DataFrame:
    """A stage starts when it was asked for or later; freezes know neither windows nor waves."""
    stages = whole.stages.join(whole.claims.stage_times, on=_STAGE, how="left")
    stages = whole.claims.of_campaign(stages, "asked_ms")
    problem = (
        pl.when(pl.col("start_ms") < pl.col("asked_ms"))
        .then(pl.lit("starts before it was asked for"))
        .when(pl.any_horizontal(pl.col(_WINDOWS).is_not_null()))
        .then(pl.lit("has a window"))
        .when(pl.col("wave") != 1)
        .then(pl.lit("is of another wave than the first"))
    )
    shown = [*_STAGE, "start_ms", "asked_ms", "wave", *_WINDOWS]
    return stages.with_columns(problem=problem).filter(pl.col("problem").is_not_null()).select(*shown, "problem")


@_rule("R4", "run", over="stray_events", needs="events stages summary")
def _stray_events(whole: _Whole) -> pl.DataFrame:
    """No event is of a VM beyond the fleet."""
    return whole.stray_events.with_columns(problem=pl.lit("no such VM"))


@_rule("R5", "part", over="outcomes", needs="outcomes")
def _one_outcome(part: _Part) -> pl.DataFrame:
    """Every VM in scope ends an iteration in exactly one outcome: without windows `updated`, for no reason."""
    who = ["campaign", "iteration", "vm_row"]
    expected = part.vms.join(part.claims.scope, on="region").with_columns(_KEY).select(*who, "key", expected=1)
    found = (
        part.outcomes.with_columns(is_other=(pl.col("outcome") != "updated") | (pl.col("reason") != "none"))
        .group_by("key")
        .agg(pl.col(*who, "outcome", "reason").first(), pl.col("is_other").any(), found=pl.len())
    )
    both = expected.join(found, on="key", how="full", suffix="_found")
    counts = [pl.col(name).fill_null(0) for name in ("expected", "found")]
    return (
        both.filter((counts[0] != counts[1]) | pl.col("is_other"))
        .with_columns(pl.coalesce(name, f"{name}_found").alias(name) for name in who)
        .select(*who, "outcome", "reason", *counts)
    )


@_rule("R5", "run", over="stray_outcomes", needs="outcomes")
def _stray_outcomes(whole: _Whole) -> pl.DataFrame:
    """No outcome is of a VM beyond the fleet."""
    return whole.stray_outcomes.with_columns(problem=pl.lit("no such VM"))


@_rule("R6", "part", over="hits", needs="events")
def _updated_once(part: _Part) -> pl.DataFrame:
    """A VM is updated at most once in an iteration."""
    return part.hits.filter(pl.col("event_count") > 1).select(*_STAGE, "vm_row", "event_count")


_WALK = ["campaign", "iteration", "walk_row"]


def _before(by: Sequence[str], column: str) -> pl.Expr:
    """*column* of the row before, where that is of the same *by*, else null."""
    is_same = pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in by)
    return pl.when(is_same).then(pl.col(column).shift(1))


def _in_turn(
    visits: pl.DataFrame, clear_ms: pl.Expr, by: Sequence[str], is_off: Callable[[pl.Expr], pl.Expr]
) -> pl.DataFrame:
    """Visits whose start is off the latest *clear_ms* of earlier visits of the same *by*.

    The result has that instant as `clear_ms` and the domain it is of as `update_domain_before`. Only where
    some visit is off its predecessor can one be off an earlier visit: the few such *by* get the exact look.
    """
    visits = visits.with_columns(clear_ms=clear_ms).sort(*by, "start_ms", "update_domain")
    suspects = visits.filter(is_off(_before(by, "clear_ms"))).select(by).unique()
    latest = (pl.col("clear_ms") * 256 + pl.col("update_domain")).cum_max().shift(1).over(by)
    return (
        visits.join(suspects, on=by, how="semi", maintain_order="left")
        .with_columns(latest=latest)
        .with_columns(clear_ms=pl.col("latest") // 256, update_domain_before=pl.col("latest") % 256)
        .filter(is_off(pl.col("clear_ms")))
        .select(*_STAGE, "walk_row", "update_domain", "start_ms", "update_domain_before", "clear_ms")
    )


def _too_close(visits: pl.DataFrame, clear_ms: pl.Expr, by: Sequence[str]) -> pl.DataFrame:
    """Visits that start while an earlier visit of *by*, in another domain, is not yet clear.

    One that is hidden by a visit of its own domain that lasts longer is not listed, but that visit is.
    """
    early = _in_turn(visits, clear_ms, by, lambda cleared_ms: pl.col("start_ms") < cleared_ms)
    return early.filter(pl.col("update_domain") != pl.col("update_domain_before"))


@_rule("R26", "part", over="set_visits", needs="events")
def _one_domain_at_work(part: _Part) -> pl.DataFrame:
    """Of a set, at most one update domain has platform work in progress at any instant."""
    return _too_close(part.set_visits, pl.col("end_ms"), ["walk_row"])


@_rule("R27", "part", over="set_visits", needs="events")
def _all_back(part: _Part) -> pl.DataFrame:
    """All VMs of an update domain are back before the next domain of the set starts."""
    return _too_close(part.set_visits, pl.col("impact_end_ms"), _WALK)


@_rule("R28", "part", over="set_visits", needs="events")
def _gap_kept(part: _Part) -> pl.DataFrame:
    """Between two update domains of a set lies at least the gap asked for."""
    return _too_close(part.set_visits, pl.col("end_ms") + pl.col("gap_ms"), _WALK)


@_rule("R29", "part", over="units", needs="events")
def _visited_once(part: _Part) -> pl.DataFrame:
    """Every update domain and single in scope is visited once in an iteration, all its VMs together."""
    unit = ["campaign", "iteration", "unit_row"]
    visited = part.visits.group_by(unit).agg(visit_count=pl.len(), vm_hit_count=pl.col("hit_count").sum())
    expected = part.units.join(part.claims.scope, on="region").join(visited, on=unit, how="left")
    return expected.with_columns(pl.col("visit_count", "vm_hit_count").fill_null(0)).filter(
        (pl.col("visit_count") != 1) | (pl.col("vm_hit_count") != pl.col("vm_count"))
    )


@_rule("R30", "part", over="sets", needs="events")
def _order_kept(part: _Part) -> pl.DataFrame:
    """A set walks a permutation of its populated update domains, in the order asked for."""
    visits = part.set_visits.join(part.units.select("unit_row", "vm_count"), on="unit_row", how="left")
    rank = (
        pl.when(pl.col("order") == "sequential")
        .then(pl.col("update_domain").cast(pl.Int64))
        .when(pl.col("order") == "largest_first")
        .then(pl.col("update_domain") - pl.col("vm_count").cast(pl.Int64) * 256)
    )
    walked = (
        visits.with_columns(rank=rank)
        .sort(*_WALK, "start_ms", "update_domain")
        .with_columns(is_out_of_order=(pl.col("rank") < _before(_WALK, "rank")).fill_null(False))
        .group_by(_WALK, maintain_order=True)
        .agg(
            pl.col("is_out_of_order").any(),
            visit_count=pl.len(),
            visited_count=pl.col("update_domain").n_unique(),
            visited=pl.col("update_domain"),
        )
    )
    expected = part.sets.join(part.claims.scope, on="region").join(walked, on=_WALK, how="left")
    visit_count, visited_count = pl.col("visit_count").fill_null(0), pl.col("visited_count").fill_null(0)
    is_permutation = (visit_count == pl.col("domain_count")) & (visited_count == pl.col("domain_count"))
    return part.claims.of_campaign(expected.filter(~is_permutation | pl.col("is_out_of_order")), "order").select(
        *_STAGE, "walk_row", "order", "visited", "domain_count"
    )


@_rule("R40", "part", over="set_visits", needs="events")
def _no_time_lost(part: _Part) -> pl.DataFrame:
    """The next domain of a set starts as soon as the gap is over: an empty one costs neither time nor gap."""
    clear_ms = pl.col("end_ms") + pl.col("gap_ms")
    return _in_turn(part.set_visits, clear_ms, _WALK, lambda cleared_ms: pl.col("start_ms") > cleared_ms)


@_rule("R34", "part", over="sweep", needs="events")
def _one_vm_up(part: _Part) -> pl.DataFrame:
    """A set with two or more populated update domains has a VM up at every instant."""
    return part.sweep.filter(
        pl.col("change") > 0, pl.col("domain_count") >= 2, pl.col("down") >= pl.col("vm_count")
    ).select(*_STAGE, "walk_row", "at_ms", "down", "vm_count")


@_rule("R35", "part", over="sweep", needs="events")
def _one_domain_down(part: _Part) -> pl.DataFrame:
    """Of a set, VMs of at most one update domain are down at any instant."""
    # Numbers are all equal just if their count times the sum of squares is the square of their sum.
    domains_differ = pl.col("down") * pl.col("domain_square_sum") != pl.col("domain_sum") ** 2
    return part.sweep.filter(pl.col("change") > 0, domains_differ).select(
        *_STAGE, "walk_row", "update_domain", "at_ms", "down"
    )


@_rule("R38", "part", over="sets", needs="no_guarantee")
def _no_guarantee_listed(part: _Part) -> pl.DataFrame:
    """Sets in scope of one VM or one populated update domain, and no others, are listed as no_guarantee."""
    reason = (
        pl.when(pl.col("vm_count") == 1)
        .then(pl.lit("one_vm"))
        .when(pl.col("domain_count") == 1)
        .then(pl.lit("one_domain"))
    )
    in_scope = part.sets.join(part.claims.scope, on="region", how="semi").with_columns(reason_expected=reason)
    expected = in_scope.filter(pl.col("reason_expected").is_not_null()).select("region", "set", "reason_expected")
    listed = part.listed.group_by("region", "set").agg(pl.col("reason").first(), row_count=pl.len())
    return expected.join(listed, on=["region", "set"], how="full", coalesce=True).filter(
        pl.col("reason").ne_missing(pl.col("reason_expected")) | (pl.col("row_count") > 1)
    )


@_rule("R38", "run", over="listed_left", needs="no_guarantee")
def _no_guarantee_strays(whole: _Whole) -> pl.DataFrame:
    """No set is listed as without guarantee that the fleet does not have."""
    return whole.listed_left.with_columns(problem=pl.lit("no such set"))


@_rule("R41", "part", over="all_events", needs="events")
def _keeps_state(part: _Part) -> pl.DataFrame:
    """A freeze keeps memory, host, temporary disk and addresses."""
    lost = part.all_events.filter(pl.col("effects") & ~int(Effect.CLOCK_SYNCHRONISED) & 0xFF != 0)
    return lost.select("campaign", "iteration", "vm_row", "start_ms", "effects")


@_rule("R42", "part", over="events", needs="events")
def _length_in_bounds(part: _Part) -> pl.DataFrame:
    """Every impact is as long as its campaign's length allows."""
    events = part.claims.of_campaign(part.events, "length_ms_min", "length_ms_max")
    inside = pl.col("duration_ms").is_between(pl.max_horizontal("length_ms_min", 1), "length_ms_max")
    return events.filter(~inside).select(*_STAGE, "vm_row", "start_ms", "duration_ms", "length_ms_min", "length_ms_max")


@_rule("R43", "part", over="all_events", needs="events")
def _clock_synchronised(part: _Part) -> pl.DataFrame:
    """The clock is synchronised when a frozen VM resumes."""
    late = part.all_events.filter(pl.col("effects") & int(Effect.CLOCK_SYNCHRONISED) == 0)
    return late.select("campaign", "iteration", "vm_row", "start_ms", "effects")


@_rule("R48", "part", over="events", needs="events")
def _no_overlap(part: _Part) -> pl.DataFrame:
    """Impacts of one VM never overlap, over all campaigns."""
    # If any two overlap then so do two that follow one another.
    several = part.events if part.events["vm_row"].is_duplicated().any() else part.events.head(0)
    return (
        several.select(*_STAGE, "vm_row", "start_ms", "end_ms")
        .sort("vm_row", "start_ms", "end_ms")
        .with_columns(end_ms_before=pl.col("end_ms").shift(1), vm_row_before=pl.col("vm_row").shift(1))
        .filter(pl.col("vm_row") == pl.col("vm_row_before"), pl.col("start_ms") < pl.col("end_ms_before"))
        .drop("vm_row_before")
    )


@_rule("R49", "run", over="meetings", needs="events stages summary pairs")
def _pairs_apart(whole: _Whole) -> pl.DataFrame:
    """Two regions of a pair are never at work together, nor two stages in one region, over all campaigns."""
    return whole.meetings.filter(pl.col("start_ms_other") < pl.col("end_ms")).drop("lag_ms", "lag_ms_other")


@_rule("R54", "run", over="lagged_meetings", needs="events stages summary pairs")
def _lag_kept(whole: _Whole) -> pl.DataFrame:
    """Between the work in two regions of a pair lies the larger pair_lag of the two campaigns."""
    meetings = whole.lagged_meetings.filter(pl.col("start_ms_other") < pl.col("end_ms") + pl.col("lag_ms"))
    return meetings.drop("lag_ms_other")


@_rule("R74", "part", over="outcomes", needs="events stages summary")
def _outcome_totals(part: _Part) -> pl.DataFrame:
    """Totals per VM, region and campaign equal a second computation from the events, to the millisecond."""
    figures = ["event_count", "paused_ms", "effects"]
    both = part.outcomes.join(part.hits.select("key", *figures), on="key", how="left", suffix="_expected")
    both = both.with_columns(pl.col(f"{figure}_expected").fill_null(0) for figure in figures)
    differs = [pl.col(figure) != pl.col(f"{figure}_expected") for figure in figures]
    told = [name for figure in figures for name in (figure, f"{figure}_expected")]
    return both.filter(pl.any_horizontal(*differs, pl.col("down_ms") != 0)).select(
        "campaign", "iteration", "vm_row", *told, "down_ms"
    )


def _differences(expected: pl.DataFrame, found: pl.DataFrame, needed: Sequence[str]) -> pl.DataFrame:
    """Figures that differ or are told twice. An absent one counts as 0, but *needed* ones must be there."""
    key = [*_STAGE, "figure", "bin_start_ms"]
    told = found.group_by(key)

    told_once = told.agg(pl.col("value").first(), row_count=pl.len())
    both = expected.select(*key, expected="value").join(told_once, on=key, how="full", coalesce=True, nulls_equal=True)
    is_missing = pl.col("figure").is_in(needed) & pl.col("value").is_null() & pl.col("expected").is_not_null()
    # Whole numbers are compared to the last; a ratio may be off by how its quotient was rounded.
    slack = pl.when(pl.col("figure").str.contains("ratio")).then(1e-12).otherwise(0.0)
    differs = (pl.col("value").fill_null(0) - pl.col("expected").fill_null(0)).abs() > slack
    return both.filter(differs | is_missing | (pl.col("row_count") > 1)).drop("row_count")


@_rule("R74", "run", over="stage_claims", needs="events stages summary")
def _stage_totals(whole: _Whole) -> pl.DataFrame:
    """Every stage there must be is there once, with the counts and times of its events and outcomes."""
    times = {"first_start_ms": "first_start_ms", "end_ms": "last_end_ms"}
    one = {"figure": pl.lit("stage_count"), "bin_start_ms": pl.lit(None, pl.Int64), "value": pl.lit(1.0)}
    expected = whole.figures.filter(pl.col("figure").is_in([*_OUTCOME_COUNTS, *times]))
    return _differences(
        pl.concat(
            [
                expected.with_columns(pl.col("figure").replace(times)),
                whole.claims.scope.select(*_STAGE, **one),
            ]
        ),
        pl.concat([whole.stage_claims, whole.claims.stages.select(*_STAGE, **one)]),
        list(times.values()),
    )


@_rule("R74", "run", over="summary", needs="events stages summary")
def _summary_totals(whole: _Whole) -> pl.DataFrame:
    """Every figure of the summary that events can tell is what they tell."""
    claims = whole.claims
    single = {"bin_start_ms": pl.lit(None, pl.Int64)}
    asked = claims.of_campaign(claims.scope, "asked_ms").select(
        *_STAGE, **single, figure=pl.lit("asked_ms"), value=pl.col("asked_ms").cast(pl.Float64)
    )
    # When its region was taken is the calendar's to say: here it must only be there.
    taken = claims.stage_times.select(
        *_STAGE, **single, figure=pl.lit("start_ms"), value=pl.col("start_ms").fill_null(0).cast(pl.Float64)
    )
    recomputed = whole.figures.filter(~pl.col("figure").is_in(_OUTCOME_COUNTS))
    expected = pl.concat([recomputed, *(frame.select(recomputed.columns) for frame in (asked, taken))])
    told = claims.summary.filter(~pl.col("figure").is_in(_NOT_TOLD_BY_EVENTS))
    return _differences(expected, told, ["asked_ms", "start_ms", "first_start_ms", "end_ms"])


@_rule("R74", "run", over="last_walks", needs="events stages summary")
def _last_walk(whole: _Whole) -> pl.DataFrame:
    """The walk a stage is said to have ended with did end last, and its spread, work and gaps add up."""
    expected = {
        "last_spread_ms": pl.col("first_start_ms") - pl.col("start_ms"),
        "last_gap_ms": (pl.col("domain_count") - 1) * pl.col("gap_ms"),
        "last_domain_count": pl.col("domain_count"),
        "last_work_ms": pl.col("end_ms") - pl.col("start_ms") - pl.col("last_spread_ms") - pl.col("last_gap_ms"),
    }
    problem = pl.coalesce(
        pl.when(pl.col("end_ms_walk").ne_missing(pl.col("end_ms"))).then(pl.lit("is no walk that ends last")),
        *(
            pl.when(pl.col(name).ne_missing(value)).then(pl.lit(f"{name} is not that of the walk"))
            for name, value in expected.items()
        ),
    )
    shown = [*_STAGE, "start_ms", "end_ms", *_NOT_TOLD_BY_EVENTS]
    return (
        whole.last_walks.with_columns(problem=problem).filter(pl.col("problem").is_not_null()).select(*shown, "problem")
    )


@_rule("R74", "run", over="counts", needs="events stages summary")
def _manifest_totals(whole: _Whole) -> pl.DataFrame:
    """The counts of the manifest are those of the files."""
    return whole.counts.filter(pl.col("value").ne_missing(pl.col("expected")))


@_rule("R77", "part", over="constant_spans", needs="events")
def _closed_form(part: _Part) -> pl.DataFrame:
    """With one length for all, a set of k update domains takes k lengths and k - 1 gaps from first start."""
    held_ms = pl.max_horizontal("length_ms_max", "work_ms")
    expected = part.constant_spans.with_columns(
        took_ms=pl.col("end_ms") - pl.col("first_start_ms"),
        expected_ms=pl.col("domain_count") * held_ms + (pl.col("domain_count") - 1) * pl.col("gap_ms"),
    )
    shown = [*_STAGE, "walk_row", "domain_count", "took_ms", "expected_ms"]
    return expected.filter(pl.col("took_ms") != pl.col("expected_ms")).select(shown)


@_rule("R78", "run", over="bounds", needs="events stages summary pairs")
def _not_below_bounds(whole: _Whole) -> pl.DataFrame:
    """A campaign takes at least its longest walk, and the longest walks of two paired regions in turn."""
    return whole.bounds.filter((pl.col("length_ms") < pl.col("bound_ms")).fill_null(True))
