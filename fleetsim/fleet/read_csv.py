"""Fleets as CSV: column types settled from the whole file, then batches, in memory bounded by a block.

A first look reads everything as text. `vm` and `set` are integers only if every value is a canonical decimal,
so that '007' stays what it is; unknown columns are integers, numbers, booleans or text by the same care.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from fleetsim.errors import InputError, wrong_separator
from fleetsim.schema import FLEET

_BLOCK_BYTES = 1 << 24
_RAGGED_ROWS_TOLD = 20
_TRUTHS = ("true", "false", "True", "False", "TRUE", "FALSE")
_NUMBER = r"^(-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?|NaN|nan|-?inf)$"


def open_csv(path: Path) -> tuple[pa.Schema, Callable[[], Iterator[pa.RecordBatch]]]:
    """Schema and batches of the CSV file *path*. `InputError` names rows with too many or too few fields."""
    ragged: list[str] = []

    def note_ragged(row: pyarrow.csv.InvalidRow) -> str:
        ragged.append(
            f"{path}: row {row.number - 1}: must have {row.expected_columns} fields, got {row.actual_columns}"
        )
        return "skip"

    try:
        names = _header(path)
        if problem := wrong_separator(names):
            raise InputError(f"{path}: {problem}")
        types = dict.fromkeys(names, pa.string())
        found: dict[str, set[pa.DataType]] = {}
        for batch in _batches(path, types, note_ragged):
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                found[name] = {kind for kind in found.get(name, _candidates(name)) if _fits(column, kind)}
    except (pa.ArrowException, UnicodeDecodeError) as error:
        told = "text that is not UTF-8" if "UTF8" in str(error) or "utf-8" in str(error) else str(error)
        raise InputError(f"{path}: must be a readable CSV file, got: {told.partition(chr(10))[0]}") from error
    if ragged:
        more = [f"{path}: {len(ragged) - _RAGGED_ROWS_TOLD:,} more rows like these"]
        raise InputError(ragged[:_RAGGED_ROWS_TOLD] + more * (len(ragged) > _RAGGED_ROWS_TOLD))
    types = {
        name: next((kind for kind in _candidates(name) if kind in found.get(name, ())), pa.string()) for name in names
    }
    schema = pa.schema([pa.field(name, types[name]) for name in names])
    # A column without any value has no type: the first look left it every candidate.
    return schema, lambda: _batches(path, {name: kind for name, kind in types.items() if kind != pa.null()}, None)


def _header(path: Path) -> list[str]:
    skipping = pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=lambda _: "skip")
    with pyarrow.csv.open_csv(path, parse_options=skipping) as reader:
        return list(reader.schema.names)


def _batches(
    path: Path,
    types: dict[str, pa.DataType],
    on_ragged: Callable[[pyarrow.csv.InvalidRow], str] | None,
) -> Iterator[pa.RecordBatch]:
    with pyarrow.csv.open_csv(
        path,
        # On one thread: only then are rows counted, and rows in a file's order are what places are told by.
        read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=on_ragged),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=types, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=True
        ),
    ) as reader:
        yield from reader


def _candidates(name: str) -> tuple[pa.DataType, ...]:
    """Types column *name* may turn out to have, the narrowest first. What fits none is text."""
    known = next((column for column in FLEET.columns if column.name == name), None)
    if known is None:
        return pa.null(), pa.int64(), pa.float64(), pa.bool_()
    return (pa.null(), pa.int64()) if known.dtype == "identity" else ()


def _fits(column: pa.Array, kind: pa.DataType) -> bool:
    """Whether every value of the text *column* is one of *kind*, and is spelled as one."""
    if kind == pa.null():
        return bool(column.null_count == len(column))
    if kind == pa.int64():
        try:
            is_same = pc.equal(column.cast(pa.int64()).cast(pa.string()), column)
        except pa.ArrowInvalid:
            return False
    elif kind == pa.float64():
        is_same = pc.match_substring_regex(column, _NUMBER)
    else:
        is_same = pc.is_in(column.drop_null(), value_set=pa.array(_TRUTHS))
    return bool(is_same.false_count == 0)
