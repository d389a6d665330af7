"""The border between declared tables and Arrow, Parquet and NumPy: types, encodings, provenance, atomic writes.

Words are mapped to codes and back here and nowhere else. Columns that cannot be null are declared so in files:
pyarrow writes them about twice as fast.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fleetsim import __version__
from fleetsim.errors import InputError
from fleetsim.schema import EVENTS, OUTCOMES, SCHEMA_VERSION, Column, Table, effect_names, words
from fleetsim.storage import Place, Url

_ARROW_TYPES = {
    "text": pa.dictionary(pa.int32(), pa.string()),
    "code": pa.dictionary(pa.int8(), pa.string()),
    "bool": pa.bool_(),
    "u8": pa.uint8(),
    "u16": pa.uint16(),
    "u32": pa.uint32(),
    "i64": pa.int64(),
    "f64": pa.float64(),
    "instant": pa.timestamp("ms", tz="UTC"),
}


def arrow_type(column: Column, identity: pa.DataType | None = None) -> pa.DataType:
    """Type of *column* in a file. *identity*: what the user's own names are here, int64 or string."""
    if column.dtype == "identity":
        return identity if identity is not None else pa.int64()
    return _ARROW_TYPES[column.dtype]


def arrow_field(column: Column, identity: pa.DataType | None = None) -> pa.Field:
    return pa.field(
        column.name, arrow_type(column, identity), nullable=column.is_nullable, metadata={"doc": column.doc}
    )


def arrow_schema(
    table: Table,
    provenance: Mapping[str, str],
    identity: pa.DataType | None = None,
    optional: Collection[str] = (),
) -> pa.Schema:
    """Schema of *table*, with *provenance* (from `provenance_of`) as metadata of the file.

    optional  columns to have besides those that are always there
    """
    columns = [column for column in table.columns if column.is_required or column.name in optional]
    fields = [arrow_field(column, identity) for column in columns]
    return pa.schema(fields, metadata={"fleetsim.table": table.name, **_extras(table), **provenance})


def _extras(table: Table) -> dict[str, str]:
    return {"fleetsim.effects": json.dumps(effect_names())} if table in (EVENTS, OUTCOMES) else {}


def provenance_of(**facts: object) -> dict[str, str]:
    """Metadata of every file: versions and *facts* (digests, seed). No wall time, no host: equal runs, equal bytes."""
    stated = {"version": __version__, "schema_version": SCHEMA_VERSION, **facts}
    return {f"fleetsim.{name}": str(value) for name, value in stated.items()}


def constant_text(word: str, zeros: npt.NDArray[np.int32]) -> pa.DictionaryArray:
    """A text column that says *word* in every row; *zeros* are its indices, shared among columns."""
    return pa.DictionaryArray.from_arrays(pa.array(zeros), pa.array([word]))


def coded(column: Column, codes: npt.NDArray[np.int8]) -> pa.DictionaryArray:
    """A coded column from our codes: the dictionary is the enumeration, whole and in code order."""
    assert column.codes is not None
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(words(column.codes)))


def instants(milliseconds: npt.NDArray[np.int64]) -> pa.Array:
    """Milliseconds since 1970 as timestamp[ms, UTC], without a copy."""
    return pa.array(milliseconds).view(_ARROW_TYPES["instant"])


def instant_ms(name: str, given: str | datetime) -> int:
    """Milliseconds since 1970 of the instant *given* for *name*; `InputError` where it is none with a zone."""
    instant: object = given
    if isinstance(given, str):
        with contextlib.suppress(ValueError):
            instant = datetime.fromisoformat(given)
    is_instant = isinstance(instant, datetime) and instant.tzinfo is not None and instant.microsecond % 1000 == 0
    if not (isinstance(instant, datetime) and is_instant and 1900 <= instant.year < 9999):
        raise InputError(
            f"{name}: must be an instant with a zone in whole milliseconds of the years 1900 to 9998,"
            f" as 2026-12-01T00:00:00Z, got '{given}'"
        )
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def to_numpy(column: pa.ChunkedArray | pa.Array) -> npt.NDArray[Any]:
    """A read-only NumPy view of an integer column without nulls, copied only where it comes in chunks."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # what combine_chunks leaves of a column without chunks
        array = array.chunk(0) if array.num_chunks else pa.array([], array.type)
    view: npt.NDArray[Any] = array.to_numpy(zero_copy_only=True)
    return view


def parquet_bytes(table: pa.Table, profile: str = "fast") -> pa.Buffer:
    """*table* as one Parquet file in memory, in encodings that are "fast" or that any reader knows ("interchange").

    Numbers and instants are BYTE_STREAM_SPLIT + lz4: three to five times as fast as pyarrow's default and a third
    smaller; a constant column costs 1 ns a row, a dictionary of one word as much. Words have no statistics: minimum
    and maximum of a constant word are worth nothing and take four times as long as writing it.
    """
    if profile == "interchange":
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="snappy", version="2.4", row_group_size=1 << 20)
        return sink.getvalue()
    is_split = {field.name: splits(field.type) for field in table.schema}
    split = [name for name, splits in is_split.items() if splits]
    whole = [name for name, splits in is_split.items() if not splits]
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression="lz4",
        use_dictionary=whole or False,
        column_encoding=dict.fromkeys(split, "BYTE_STREAM_SPLIT") or None,
        write_statistics=split or False,
    ) as writer:
        writer.write_table(table, row_group_size=1 << 20)
    return sink.getvalue()


def splits(data_type: pa.DataType) -> bool:
    """Whether a column of *data_type* is written as BYTE_STREAM_SPLIT."""
    return bool(pa.types.is_integer(data_type) or pa.types.is_floating(data_type) or pa.types.is_timestamp(data_type))


_OTHER_FORMATS = (".csv", ".json", ".arrow", ".feather", ".ipc")


def check_new(path: Place) -> None:
    """Raise `InputError` where *path*, of a fleet or its hosts, is there already, or is named as another format."""
    if PurePosixPath(path.name).suffix.lower() in _OTHER_FORMATS:
        raise InputError(f"{path}: must end in .parquet, or be a folder, as it is written as Parquet")
    if path.exists() or (isinstance(path, Path) and path.is_symlink()):
        raise InputError(f"{path}: must not be there yet, got an existing {'folder' if path.is_dir() else 'file'}")


def folder_above(path: Path) -> Path:
    """The nearest folder above *path* that is there already. Raises `InputError` where a file is in the way."""
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir():
        raise InputError(f"{path}: must be in a folder, got the file '{above}' in its way")
    return above


def write_atomic(path: Place, content: pa.Buffer | bytes) -> str:
    """Write *content* under a temporary name, fsync, rename to *path*; or put it to a URL. Returns its sha256.

    A file under its own name is therefore always whole. Raises OSError (disk full), leaving nothing behind.
    """
    view = memoryview(content)
    if isinstance(path, Url):
        path.put(view)
        return hashlib.sha256(view).hexdigest()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(view)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).rename(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return hashlib.sha256(view).hexdigest()


def write_parquet(path: Path, table: pa.Table) -> str:
    """Write *table* to *path* atomically. Returns the file's sha256."""
    return write_atomic(path, parquet_bytes(table))


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def row_count(file: Path | IO[bytes]) -> int | None:
    """Rows of the Parquet *file* as its footer tells; None where it has none that can be read."""
    try:
        return int(pq.read_metadata(file).num_rows)
    except (pa.ArrowException, OSError):
        return None
