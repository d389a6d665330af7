"""The border of fleets: any file, folder or Arrow object, as a stream of batches with one normalised schema.

Every field is judged here, once, with file, column and row; what needs more than one row (duplicates, sets)
is judged by `prepare`. Types are settled before the first batch, so that a fleet is the same whether it comes
as CSV, Parquet or from Polars. Memory is bounded by a batch.
"""

import contextlib
import json
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fleetsim.errors import InputError, nearest, nearest_name, nearest_path, renaming
from fleetsim.fleet.prepared import MANIFEST, open_prepared
from fleetsim.regions import HOW_TO_LIST, Relation
from fleetsim.schema import FLEET, PREPARED, UPDATE_DOMAIN_COUNT_MAX, Column, Table
from fleetsim.tables import arrow_type

BATCH_ROWS = 1 << 20
"""Rows of a batch, at most: what bounds the memory of a reader."""
INVENTED_KEY = b"fleetsim.invented"
"""Metadata of a fleet's file: JSON list of sentences on what an importer made up."""
SET_KINDS = ("availability_set", "scale_set")
TOLD_MAX = 20
"""Faults of one kind that are told; of the rest, the number."""

_TEXT = pa.dictionary(pa.int32(), pa.string())
_WAS_DEALT = ("is_update_domain_assigned", "is_fault_domain_assigned")
_INSTANT = pa.timestamp("ms", tz="UTC")
_INSTANT_MS = (-62_135_596_800_000, 253_402_300_799_999)  # the years 1 to 9999, beyond which readers fail
_ZONED = r":[0-9.]+(Z|[+-][0-9]{2}(:?[0-9]{2})?)$"
_ARROW_SUFFIXES = (".arrow", ".arrows", ".feather", ".ipc")
_STREAM_MAGIC = b"\xff\xff\xff\xff"
_STREAM_END = _STREAM_MAGIC + bytes(4)
_NO_FLOATS = '; a column of integers with gaps must not become floats (pandas: .astype("Int64"))'
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


class Findings:
    """Faults of a fleet: each kind of fault once, with its first place in words and how many rows have it."""

    def __init__(self) -> None:
        self._sentences: dict[tuple[Hashable, Hashable], str] = {}
        self._counts: dict[tuple[Hashable, Hashable], int] = {}
        self._subjects: dict[Hashable, int] = {}

    def add(self, kind: Hashable, subject: Hashable, sentence: str, count: int = 1) -> None:
        """Note that *count* rows have a fault; *sentence* tells the first of its (*kind*, *subject*)."""
        fault = (kind, subject)
        if fault not in self._sentences:
            self._sentences[fault] = sentence
            self._counts[fault] = 0
            self._subjects[kind] = self._subjects.get(kind, 0) + 1
        self._counts[fault] += count

    def has(self, kind: Hashable, subject: Hashable) -> bool:
        return (kind, subject) in self._sentences

    def merge(self, other: "Findings") -> None:
        for (kind, subject), sentence in other._sentences.items():
            self.add(kind, subject, sentence, other._counts[kind, subject])

    def sentences(self) -> list[str]:
        """One line a fault; of one kind, twenty."""
        lines: list[str] = []
        told: dict[Hashable, int] = {}
        for (kind, subject), sentence in self._sentences.items():
            told[kind] = told.get(kind, 0) + 1
            if told[kind] <= TOLD_MAX:
                count = self._counts[kind, subject]
                lines.append(f"{sentence} ({count:,} rows)" if count > 1 else sentence)
            elif told[kind] == self._subjects[kind]:
                lines.append(f"{sentence}, like {told[kind] - TOLD_MAX - 1:,} more not listed here")
        return lines

    def raise_any(self) -> None:
        if self._sentences:
            raise InputError(self.sentences())


@dataclass(frozen=True)
class _Piece:
    """One file, or one object: its raw schema, what its path says of all its rows, and its raw batches."""

    name: str
    schema: pa.Schema
    batches: Callable[[], Iterator[pa.RecordBatch]]
    constants: Mapping[str, str | None] = field(default_factory=dict)
    row_count: int = 0
    is_file: bool = True


class FleetSource:
    """A fleet about to be read, or its hosts, under a normalised `schema`: columns as in *table*, others by name.

    `vm` and `set` are int64 or large_string, text is dictionary-encoded, unknown integers and floats are 64
    bits wide. `row_count` is 0 where the source does not say.
    """

    def __init__(self, name: str, pieces: list[_Piece], relation: Relation, table: Table = FLEET) -> None:
        self.name = name
        self.warnings: list[str] = []
        self.invented: list[str] = []
        self.row_count = sum(piece.row_count for piece in pieces)
        self.metadata = {key: value for piece in pieces for key, value in (piece.schema.metadata or {}).items()}
        self._pieces = pieces
        self._relation = relation
        self._table = table
        findings = Findings()
        self.schema = self._settle(findings)
        findings.raise_any()

    def _settle(self, findings: Findings) -> pa.Schema:
        """The normalised schema, from what each piece has."""
        raw: dict[str, dict[str, pa.DataType]] = {}
        dropped: set[str] = set()
        for piece in self._pieces:
            own = {part.name: part.type for part in piece.schema}
            for name in own:
                if piece.schema.names.count(name) > 1:
                    findings.add("twice", name, f"{piece.name}: column '{name}' must be there once, got it twice")
            if not _is_ours(piece.schema):
                dropped.update(name for name in PREPARED.names() if name in own)
            for name, data_type in {**dict.fromkeys(piece.constants, pa.string()), **own}.items():
                if name not in PREPARED.names() and not name.startswith("__index_level_"):
                    raw.setdefault(name, {})[piece.name] = data_type
            for sentence in json.loads((piece.schema.metadata or {}).get(INVENTED_KEY, b"[]")):
                if sentence not in self.invented:
                    self.invented.append(sentence)
        unknown = sorted(set(raw) - set(self._table.names()))
        absent = [known for known in self._table.columns if known.name not in raw]
        for column in self._table.columns:
            lacking = [piece.name for piece in self._pieces if piece.name not in raw.get(column.name, {})]
            if column.is_required and lacking:
                there = ", ".join(f"'{name}'" for name, found in raw.items() if lacking[0] in found) or "none"
                missing = [column.name, *(known.name for known in absent)]
                findings.add(
                    "missing",
                    column.name,
                    f"{lacking[0]}: column '{column.name}' must be there,"
                    f" got {there}{renaming(column.name, unknown, missing)}",
                )
        self.warnings += [
            f"{self.name}: column '{name}' is left out: fleetsim makes one of that name; rename it to keep it"
            for name in sorted(dropped)
        ]
        alike = {known.name for known in absent if not known.is_required}
        for name in unknown:
            if (meant := _spelt_alike(name)) in alike:
                # Sets that are none for the sake of a capital letter are no matter of a warning.
                hint = f"rename '{name}' to '{meant}', or to another name if it is none"
                findings.add("spelt", name, f"{self.name}: column '{meant}' must be spelt so, got '{name}'; {hint}")
            elif hint := _mistaken(name, absent):
                self.warnings.append(f"{self.name}: column '{name}' is not one of fleetsim's and kept as it is{hint}")
        fields = []
        for name in [known for known in self._table.names() if known in raw] + unknown:
            data_type = self._settled_type(name, raw[name], findings)
            if data_type is not None:
                fields.append(pa.field(name, data_type))
        kept = {name for piece in self._pieces if _is_ours(piece.schema) for name in piece.schema.names}
        return pa.schema([*fields, *(pa.field(name, pa.bool_()) for name in _WAS_DEALT if name in kept)])

    def _settled_type(self, name: str, found: Mapping[str, pa.DataType], findings: Findings) -> pa.DataType | None:
        """Normalised type of column *name*, found as (type by piece); None for one that cannot be kept."""
        known = next((column for column in self._table.columns if column.name == name), None)
        if known is not None and known.dtype == "instant":
            self._settle_instants(name, found, findings)
        if known is not None and known.dtype != "identity":
            return arrow_type(known)
        kinds: dict[pa.DataType, str] = {}
        for piece, data_type in found.items():
            settled = _kept_type(data_type)
            if settled is None and known is None:
                self.warnings.append(
                    f"{piece}: column '{name}' must hold numbers, text, booleans, dates or instants to be"
                    " kept,"
                    f" got {data_type}; it is left out"
                )
                return None
            if settled is not None:
                kinds.setdefault(settled, piece)
            if known is not None and not (settled is None or settled in (pa.int64(), _TEXT, pa.null())):
                hint = _NO_FLOATS if settled == pa.float64() else ""
                findings.add(
                    "identity",
                    name,
                    f"{piece}: column '{name}' must be integers or strings, got {data_type}{hint}",
                )
                return None
        kinds.pop(pa.null(), None)
        if set(kinds) == {pa.int64(), pa.float64()}:
            return pa.float64()
        if len(kinds) > 1:
            told = " and ".join(f"{_type_word(data_type)} in {piece}" for data_type, piece in kinds.items())
            findings.add("mixed", name, f"{self.name}: column '{name}' must have one type, got {told}")
        settled = next(iter(kinds), _TEXT if known is None else pa.int64())
        return pa.large_string() if known is not None and settled == _TEXT else settled

    def _settle_instants(self, name: str, found: Mapping[str, pa.DataType], findings: Findings) -> None:
        """Judge the types of column *name*, of instants. Those without a zone are taken as UTC, with a warning."""
        is_unzoned = False
        for piece, data_type in found.items():
            plain = data_type.value_type if pa.types.is_dictionary(data_type) else data_type
            is_unzoned |= pa.types.is_date(plain) or (pa.types.is_timestamp(plain) and plain.tz is None)
            if not (
                _is_text(plain) or pa.types.is_null(plain) or pa.types.is_date(plain) or pa.types.is_timestamp(plain)
            ):
                told = f"{piece}: column '{name}' must be timestamps, dates or text, got {data_type}"
                findings.add("instant", name, told)
        if is_unzoned:
            self.warnings.append(f"{self.name}: column '{name}' has no time zone: it is taken as UTC")

    def batches(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        """Normalised batches of at most BATCH_ROWS rows; rows with a faulty key are left out and found."""
        for piece in self._pieces:
            row_start = 0
            for raw in _evenly(map(_without_views, _guarded(piece))):
                yield self._normalised(piece, raw, row_start, findings)
                row_start += raw.num_rows

    def rows_with(self, name: str, values: list[Any]) -> dict[Any, list[str]]:
        """Where *values* of identity *name* are, in words. Looks anew, so only into files."""
        places: dict[Any, list[str]] = {}
        target = self.schema.field(name).type
        for piece in self._pieces:
            row_start = 0
            for raw in map(_without_views, _guarded(piece)) if piece.is_file and values else ():
                column = _Judge(piece.name, row_start, Findings()).converted(name, raw.column(name), target)
                is_met = pc.is_in(column, value_set=pa.array(values, target))
                for row in np.flatnonzero(is_met.to_numpy(zero_copy_only=False)).tolist():
                    of_file = "" if len(self._pieces) == 1 else f" of {piece.name}"
                    places.setdefault(column[row].as_py(), []).append(f"row {row_start + row + 1}{of_file}")
                row_start += raw.num_rows
        return places

    def _normalised(self, piece: _Piece, raw: pa.RecordBatch, row_start: int, findings: Findings) -> pa.RecordBatch:
        judge = _Judge(piece.name, row_start, findings)
        arrays = []
        for part in self.schema:
            if part.name in _WAS_DEALT and not _is_ours(piece.schema):
                array = pa.nulls(raw.num_rows, part.type)
            elif part.name in raw.schema.names:
                array = judge.converted(part.name, raw.column(part.name), part.type)
            else:
                word = piece.constants.get(part.name)
                array = judge.converted(part.name, pa.repeat(pa.scalar(word, pa.string()), raw.num_rows), part.type)
            arrays.append(array)
        batch = pa.RecordBatch.from_arrays(arrays, schema=self.schema)
        keep = judge.known_regions(batch.column("region"), self._relation)
        if "set_kind" in self.schema.names:
            judge.must_be_one_of("set_kind", batch.column("set_kind"), SET_KINDS)
        if "pause_max_ms" in self.schema.names:
            judge.must_not_be_negative("pause_max_ms", batch.column("pause_max_ms"))
        if {"created", "deleted"} <= set(self.schema.names):
            judge.must_live(batch.column("created"), batch.column("deleted"))
        identity = self._table.columns[0].name
        keep &= judge.present(identity, batch.column(identity))
        return batch if keep.all() else batch.filter(pa.array(keep))


@dataclass(frozen=True)
class _Judge:
    """Converts and judges the columns of one batch; places are rows of its piece, counted from 1."""

    piece: str
    row_start: int
    findings: Findings

    def _place(self, name: str, row: int) -> str:
        return f"{self.piece}: column '{name}', row {self.row_start + row + 1}"

    def converted(self, name: str, array: pa.Array, target: pa.DataType) -> pa.Array:
        """*array* as *target*; values that are none are found, and null. Empty text and NaN are null."""
        if pa.types.is_null(array.type):
            return pa.nulls(len(array), target)
        if target == _TEXT:
            return _as_text(array)
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        if _is_text(array.type):
            array = _without_empty(array.cast(pa.large_string()))
        if target == _INSTANT:
            return self._instants(name, array)
        if pa.types.is_floating(array.type) and not pa.types.is_floating(target):
            array = pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)
        if target != pa.uint8():
            return self._cast(name, array, target)
        return self._small(name, self._cast(name, array, pa.int64()), UPDATE_DOMAIN_COUNT_MAX)

    def _cast(self, name: str, array: pa.Array, target: pa.DataType) -> pa.Array:
        if array.type == target:
            return array
        try:
            return array.cast(target)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            pass
        faulty = []
        for value in pc.unique(array).drop_null():
            try:
                pa.array([value.as_py()], array.type).cast(target)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                faulty.append(value.as_py())
        is_faulty = pc.is_in(array, value_set=pa.array(faulty, array.type))
        row = pc.index(is_faulty, True).as_py()
        self.findings.add(
            "cast",
            (self.piece, name),
            f"{self._place(name, row)}: must be {_type_word(target)}, got '{array[row].as_py()}'",
            pc.sum(is_faulty).as_py(),
        )
        return pc.if_else(is_faulty, pa.scalar(None, array.type), array).cast(target)

    def _instants(self, name: str, array: pa.Array) -> pa.Array:
        """*array*, of text, timestamps or dates, as instants; what is none in whole milliseconds is found, and null."""
        is_text = _is_text(array.type)
        exact = _instants_of_text(array) if is_text else _instants_of_time(array)
        bounds = pa.array(_INSTANT_MS, _INSTANT)
        is_sound = pc.and_(pc.greater_equal(exact, bounds[0]), pc.less_equal(exact, bounds[1])).fill_null(False)
        is_faulty = pc.and_(array.is_valid(), pc.invert(is_sound))
        if row_count := is_faulty.true_count:
            row = pc.index(is_faulty, True).as_py()
            zoned = " with a zone" if is_text else ""
            self.findings.add(
                "instant",
                (self.piece, name),
                f"{self._place(name, row)}: must be an instant{zoned} in whole milliseconds of the years 1 to 9999, as"
                f" 2026-12-01T00:00:00.000Z, got '{_time_word(array[row])}'",
                row_count,
            )
            exact = pc.if_else(is_sound, exact, pa.scalar(None, _INSTANT))
        return exact

    def _small(self, name: str, array: pa.Array, bound: int) -> pa.Array:
        """int64 *array* as uint8; what is not in [0, bound) is found."""
        is_faulty = pc.or_(pc.less(array, 0), pc.greater_equal(array, bound)).fill_null(False)
        if row_count := pc.sum(is_faulty).as_py():
            row = pc.index(is_faulty, True).as_py()
            self.findings.add(
                "range",
                (self.piece, name),
                f"{self._place(name, row)}: must be a whole number from 0 to {bound - 1}, got {array[row].as_py()}",
                row_count,
            )
            array = pc.if_else(is_faulty, pa.scalar(None, array.type), array)
        return array.cast(pa.uint8())

    def present(self, name: str, array: pa.Array) -> npt.NDArray[np.bool_]:
        """Which rows have a value; those that have none are found."""
        if not array.null_count:
            return np.ones(len(array), np.bool_)
        is_there: npt.NDArray[np.bool_] = array.is_valid().to_numpy(zero_copy_only=False)
        if not self.findings.has("cast", (self.piece, name)):  # what could not be converted is null as well
            told = f"{self._place(name, int(np.argmin(is_there)))}: must not be empty"
            self.findings.add("null", (self.piece, name), told, array.null_count)
        return is_there

    def known_regions(self, array: pa.DictionaryArray, relation: Relation) -> npt.NDArray[np.bool_]:
        """Which rows are in a region of *relation*; others are found, each region once."""
        keep = self.present("region", array)
        indices = array.indices.fill_null(-1)
        for code, word in enumerate(array.dictionary.to_pylist()):
            if word not in relation.paired:
                is_faulty = indices.to_numpy() == code
                if count := int(is_faulty.sum()):
                    place = self._place("region", int(np.argmax(is_faulty)))
                    near = nearest(word, relation.regions)
                    hint = f"{near}; {'or ' if near else ''}{HOW_TO_LIST}"
                    self.findings.add(
                        "region",
                        word,
                        f"{place}: must be a known region, got '{word}'{hint}",
                        count,
                    )
                    keep &= ~is_faulty
        return keep

    def must_be_one_of(self, name: str, array: pa.DictionaryArray, known: Iterable[str]) -> None:
        indices = array.indices.fill_null(-1).to_numpy()
        for code, word in enumerate(array.dictionary.to_pylist()):
            is_faulty = indices == code
            if word not in known and is_faulty.any():
                self.findings.add(
                    name,
                    word,
                    f"{self._place(name, int(np.argmax(is_faulty)))}: must be {' or '.join(known)},"
                    f" got '{word}'{nearest(word, known)}",
                    int(is_faulty.sum()),
                )

    def must_not_be_negative(self, name: str, array: pa.Array) -> None:
        is_faulty = pc.less(array, 0).fill_null(False)
        if row_count := is_faulty.true_count:
            row = pc.index(is_faulty, True).as_py()
            told = f"{self._place(name, row)}: must not be negative, got {array[row].as_py()}"
            self.findings.add("negative", (self.piece, name), told, row_count)

    def must_live(self, created: pa.Array, deleted: pa.Array) -> None:
        """Find rows with a life that is empty."""
        is_faulty = pc.less_equal(deleted, created).fill_null(False)
        if row_count := is_faulty.true_count:
            row = pc.index(is_faulty, True).as_py()
            self.findings.add(
                "life",
                self.piece,
                f"{self._place('deleted', row)}: must be later than its 'created', {_time_word(created[row])},"
                f" got {_time_word(deleted[row])}",
                row_count,
            )


def open_fleet(fleet: object, relation: Relation, table: Table = FLEET) -> FleetSource:
    """*fleet*, rows of *table*, ready to be read: a path, or an object that speaks Arrow."""
    if isinstance(fleet, str | Path):
        path = Path(fleet)
        return FleetSource(str(path), list(_pieces_of_path(path)), relation, table)
    kind = type(fleet)
    name = f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
    if hasattr(fleet, "__arrow_c_stream__"):
        reader = pa.RecordBatchReader.from_stream(fleet)
        return FleetSource(name, [_Piece(name, reader.schema, lambda: iter(reader), is_file=False)], relation, table)
    if hasattr(fleet, "__arrow_c_array__"):
        batch = pa.record_batch(fleet)
        return FleetSource(name, [_Piece(name, batch.schema, lambda: iter([batch]), is_file=False)], relation, table)
    hint = "; collect() it first" if hasattr(fleet, "collect") else ""
    raise InputError(
        f"{table.name}: must be a path or an Arrow table (pyarrow, polars, pandas, duckdb), got {name}{hint}"
    )


def readable_again(rows: object) -> object:
    """*rows*, which `open_fleet` takes; as a table where they are a stream, that can be read once only."""
    return rows.read_all() if isinstance(rows, pa.RecordBatchReader) else rows


def _pieces_of_path(path: Path) -> Iterator[_Piece]:
    if not path.exists():
        raise InputError(f"{path}: must be a file or folder, got nothing there{nearest_path(path)}")
    if path.is_file():
        yield _piece_of_file(path, {})
        return
    invented: list[str] = []
    if (path / MANIFEST).is_file():
        invented = list(open_prepared(path).invented)
        path = path / "fleet"
    elif (path / "resolved.toml").is_file():
        raise InputError(f"{path}: must be a fleet, got a run; its fleet is in '{path / 'fleet'}'")
    files = sorted(
        file
        for file in path.rglob("*")
        if file.suffix in (".parquet", *_ARROW_SUFFIXES)
        and file.is_file()
        and not any(part.startswith((".", "_")) for part in file.relative_to(path).parts)
    )
    if not files:
        raise InputError(
            f"{path}: must hold Parquet files (*.parquet) or Arrow files (*{', *'.join(_ARROW_SUFFIXES)}), got none"
        )
    for file in files:
        piece = _piece_of_file(file, _partition_of(file.relative_to(path)))
        if invented:
            metadata = {**(piece.schema.metadata or {}), INVENTED_KEY: json.dumps(invented)}
            piece = replace(piece, schema=piece.schema.with_metadata(metadata))
        yield piece


def _partition_of(relative: Path) -> dict[str, str | None]:
    """What the folders of a hive-partitioned file say: {"region": "a"} of region=a/x.parquet."""
    pairs = [part.partition("=") for part in relative.parts[:-1]]
    return {key: None if value == _HIVE_NULL else unquote(value) for key, mark, value in pairs if mark}


def _piece_of_file(path: Path, constants: Mapping[str, str | None]) -> _Piece:
    try:
        with path.open("rb") as file:
            magic = file.read(6)
    except OSError as error:
        raise InputError(f"{path}: must be a readable file, got: {(error.strerror or str(error)).lower()}") from error
    if not magic:
        raise InputError(f"{path}: must be a fleet as Parquet, CSV or Arrow, got an empty file")
    if magic[:4] == b"PAR1":
        return _parquet_piece(path, constants)
    if magic == b"ARROW1":
        return _arrow_piece(path, constants, pa.ipc.open_file)
    if magic[:4] == _STREAM_MAGIC:
        return _arrow_piece(path, constants, pa.ipc.open_stream)
    if magic[:4] == b"FEA1":
        raise InputError(f"{path}: must be a fleet as Parquet, CSV or Arrow, got Feather version 1; write version 2")
    if path.name.endswith((".csv", ".csv.gz")):
        from fleetsim.fleet.read_csv import open_csv

        return _Piece(str(path), *open_csv(path), constants)
    raise InputError(f"{path}: must be a fleet as Parquet, CSV (*.csv) or Arrow, got a file that is none of them")


def _arrow_piece(path: Path, constants: Mapping[str, str | None], open_as: Callable[..., Any]) -> _Piece:
    """An Arrow IPC file, or stream: *open_as* is the one of `pa.ipc` that reads it."""
    is_stream = open_as is pa.ipc.open_stream
    kind = "stream" if is_stream else "file"

    def batches() -> Iterator[pa.RecordBatch]:
        with pa.memory_map(str(path)) as content, open_as(content) as reader:
            if is_stream:
                yield from reader
            else:
                yield from map(reader.get_batch, range(reader.num_record_batches))

    try:
        with pa.memory_map(str(path)) as content, open_as(content) as reader:
            schema = reader.schema
            # Readers take a stream that stops between two batches for one that is over.
            if is_stream and (content.read_at(8, max(0, content.size() - 8)) != _STREAM_END):
                raise pa.ArrowInvalid("it stops before its end")
    except (pa.ArrowException, OSError) as error:
        told = _first_line(error)
        raise InputError(f"{path}: must be a whole Arrow {kind}, got one that cannot be read: {told}") from error
    return _Piece(str(path), schema, batches, constants)


def _parquet_piece(path: Path, constants: Mapping[str, str | None]) -> _Piece:
    known_texts = {column.name for column in FLEET.columns if column.dtype == "text"}
    try:
        schema = pq.read_schema(path)
        # Text comes as a dictionary straight from the pages, instead of as strings to be looked up again.
        texts = [part.name for part in schema if part.name in known_texts and _is_text(part.type)]
        file = pq.ParquetFile(path, memory_map=True, pre_buffer=False, read_dictionary=texts)
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path}: must be a whole Parquet file, got one that cannot be read: {_first_line(error)}"
        ) from error
    kept = [name for name in file.schema_arrow.names if name not in PREPARED.names() or name in _WAS_DEALT]
    return _Piece(
        str(path),
        file.schema_arrow,
        lambda: file.iter_batches(batch_size=BATCH_ROWS, columns=kept),
        constants,
        file.metadata.num_rows,
    )


def _guarded(piece: _Piece) -> Iterator[pa.RecordBatch]:
    """Batches of *piece*, whose trouble in reading is the input's."""
    try:
        yield from piece.batches()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{piece.name}: must be readable to its end, got: {_first_line(error)}") from error


def _evenly(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in batches near BATCH_ROWS: some sources hand out two thousand rows at a time."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH_ROWS):
            part = batch.slice(start, BATCH_ROWS)
            if sum(held.num_rows for held in waiting) + part.num_rows > BATCH_ROWS:
                yield _joined(waiting)
                waiting = []
            waiting.append(part)
    if waiting:
        yield _joined(waiting)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    table = pa.Table.from_batches(batches).unify_dictionaries().combine_chunks()
    return pa.RecordBatch.from_arrays(
        [column.chunk(0) if column.num_chunks else pa.array([], column.type) for column in table.columns],
        schema=table.schema,
    )


def _without_views(batch: pa.RecordBatch) -> pa.RecordBatch:
    """*batch* with string views as strings: Arrow computes little on views yet, and Polars hands them out."""

    def plain(array: pa.Array) -> pa.Array:
        if pa.types.is_dictionary(array.type) and pa.types.is_string_view(array.type.value_type):
            return pa.DictionaryArray.from_arrays(array.indices, array.dictionary.cast(pa.string()))
        return array.cast(pa.large_string()) if pa.types.is_string_view(array.type) else array

    columns = [plain(column) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, batch.schema.names) if batch.num_columns else batch


def _instants_of_text(array: pa.Array) -> pa.Array:
    """Text as instants; null where it is none, has no zone or needs more than milliseconds."""
    for unit in ("ms", "us"):  # Polars writes six digits, which is fine while three of them are zero
        with contextlib.suppress(pa.ArrowInvalid):
            return array.cast(pa.timestamp(unit, tz="UTC")).cast(_INSTANT)
    array = pc.replace_substring_regex(array, r"(\.[0-9]{3})0+", r"\1")
    # Most often the zone is what lacks, everywhere: that is not to be found word by word.
    array = pc.if_else(pc.match_substring_regex(array, _ZONED), array, pa.scalar(None, array.type))
    try:
        return array.cast(_INSTANT)
    except pa.ArrowInvalid:
        pass
    faulty = []
    for value in pc.unique(array).drop_null():
        try:
            value.cast(_INSTANT)
        except pa.ArrowInvalid:
            faulty.append(value.as_py())
    is_faulty = pc.is_in(array, value_set=pa.array(faulty, array.type))
    return pc.if_else(is_faulty, pa.scalar(None, array.type), array).cast(_INSTANT)


def _instants_of_time(array: pa.Array) -> pa.Array:
    """Timestamps and dates as instants; null where milliseconds cannot tell them."""
    try:
        return array.cast(_INSTANT)
    except pa.ArrowInvalid:
        rough = array.cast(_INSTANT, safe=False)
    is_same = pc.equal(rough.cast(array.type, safe=False), array)
    return pc.if_else(is_same, rough, pa.scalar(None, _INSTANT))


def _time_word(value: pa.Scalar) -> str:
    """A timestamp, date or text, as a message tells it."""
    if not pa.types.is_timestamp(value.type):
        return str(value.as_py()) if _is_text(value.type) else str(value.cast(pa.string()))
    told = pa.scalar(value.value, pa.timestamp(value.type.unit)).cast(pa.string()).as_py()
    return f"{told}Z" if value.type.tz else str(told)


def _is_ours(schema: pa.Schema) -> bool:
    """Whether fleetsim wrote it: columns named like those of `schema.PREPARED` are what they say."""
    return bool((schema.metadata or {}).get(b"fleetsim.table") == FLEET.name.encode())


def _as_text(array: pa.Array) -> pa.DictionaryArray:
    """*array* as distinct words and indices into them; empty words are null."""
    if not pa.types.is_dictionary(array.type):
        array = (array if _is_text(array.type) else array.cast(pa.string())).dictionary_encode()
    words = array.dictionary.cast(pa.string())
    if words.null_count or pc.any(pc.equal(words, "")).as_py() or len(pc.unique(words)) < len(words):
        return _without_empty(array.dictionary_decode().cast(pa.string())).dictionary_encode()
    return pa.DictionaryArray.from_arrays(array.indices.cast(pa.int32()), words)


def _without_empty(array: pa.Array) -> pa.Array:
    is_empty = pc.equal(array, "")
    return pc.if_else(is_empty, pa.scalar(None, array.type), array) if pc.any(is_empty).as_py() else array


def _is_text(data_type: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(data_type) or pa.types.is_large_string(data_type) or pa.types.is_string_view(data_type)
    )


def _kept_type(data_type: pa.DataType) -> pa.DataType | None:
    """The normalised type of an unknown column; None for what cannot be grouped by."""
    is_type = pa.types
    if is_type.is_dictionary(data_type):
        return _kept_type(data_type.value_type)
    if is_type.is_integer(data_type):
        return pa.int64()
    if is_type.is_floating(data_type):
        return pa.float64()
    if _is_text(data_type):
        return _TEXT
    if is_type.is_boolean(data_type) or is_type.is_null(data_type):
        return data_type
    if is_type.is_temporal(data_type) or is_type.is_decimal(data_type):
        return data_type
    return None


def _type_word(data_type: pa.DataType) -> str:
    named = {
        pa.int64(): "a whole number of 64 bits",
        pa.uint8(): "a small whole number",
        pa.float64(): "a number",
        pa.bool_(): "true or false",
        _TEXT: "text",
        pa.large_string(): "text",
    }
    return named.get(data_type, str(data_type))


def _spelt_alike(name: str) -> str:
    """The user's column *name* without capitals, blanks and hyphens."""
    return re.sub("[- ]", "_", name.strip().casefold())


def _mistaken(name: str, absent: Iterable[Column]) -> str:
    """What to say of the user's column *name* if it may be meant for one of the *absent* ones, or nothing."""
    # Strict: a column of the user's own may well be a little like one of ours.
    if near := nearest_name(name, [column.name for column in absent], cutoff=0.8):
        return f"; did you mean '{near}'?"
    spaced = f"_{_spelt_alike(name)}_"
    within = [column.name for column in absent if not column.is_required and f"_{column.name}_" in spaced]
    if not within:
        return ""
    # Of `scale_set_size` the last word says what it is.
    meant = max(within, key=lambda known: spaced.rfind(f"_{known}_") + len(known))
    return f"; rename it to '{meant}' if that is what it is"


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
