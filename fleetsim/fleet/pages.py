"""Pages of an inventory: what a cloud's API, its command line or a spreadsheet wrote, as items with their places.

A page is a list of items. Which of them are VMs, and what is said of them, is for the importer to judge.
"""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleetsim.errors import InputError, nearest_path, wrong_separator

_SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv")
_BLANK = re.compile(r"\s*")
_RAGGED_ROWS_TOLD = 20


@dataclass(frozen=True, slots=True)
class Page:
    """One list of *items*: objects, or anything else that must not be there.

    name       the file, with the line where it holds more than this page
    places     where each item is, in words; None: `item 1`, `item 2`, ...
    next_link  where the API goes on, if it does
    """

    name: str
    items: list[Any]
    places: list[str] | None = None
    next_link: str | None = None

    def place(self, number: int) -> str:
        """Where item *number* (from 0) is, in words."""
        return f"{self.name}: {self.places[number] if self.places else f'item {number + 1}'}"


def read_pages(sources: Iterable[Path], problems: list[str]) -> Iterator[Page]:
    """The pages in *sources*, which are files or folders of them; one page is in memory at a time.

    A file holds one JSON document, several in a row (JSON lines, or what `>>` left), or CSV with a header; any
    may be gzipped, and in UTF-16 as PowerShell writes. What cannot be read is added to *problems*.
    """
    for file in _files(sources, problems):
        try:
            content = file.read_bytes()
            if content[:2] == b"\x1f\x8b":
                content = gzip.decompress(content)
            text = content.decode(json.detect_encoding(content)).removeprefix("\ufeff")
        except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
            told = (getattr(error, "strerror", None) or str(error)).lower()
            told = "bytes that are no text" if isinstance(error, UnicodeDecodeError) else told
            problems.append(f"{file}: must be readable text, got: {told}")
            continue
        is_csv = file.name.removesuffix(".gz").endswith(".csv")
        yield from (_csv_page if is_csv else _json_pages)(str(file), text, problems)


def _files(sources: Iterable[Path], problems: list[str]) -> Iterator[Path]:
    """Each file once, in the order of *sources*, those of a folder by name."""
    seen = set()
    for source in sources:
        if source.is_dir():
            found = [
                file
                for file in sorted(source.rglob("*"))
                if file.name.removesuffix(".gz").endswith(_SUFFIXES)
                and file.is_file()
                and not any(part.startswith(".") for part in file.relative_to(source).parts)
            ]
            if not found:
                problems.append(
                    f"{source}: must hold files named {', '.join(f'*{end}' for end in _SUFFIXES)}, got none"
                )
        elif source.exists():
            found = [source]
        else:
            found = []
            problems.append(f"{source}: must be a file or folder, got nothing there{nearest_path(source)}")
        for file in found:
            if file.resolve() not in seen:
                seen.add(file.resolve())
                yield file


def _json_pages(name: str, text: str, problems: list[str]) -> Iterator[Page]:
    """The pages of the JSON documents in *text*; documents that are no page are items of one last page."""
    items, places = [], []
    start, line, is_alone = _skip_blank(text, 0), 1, True
    if start == len(text):
        problems.append(f"{name}: must be a page of VMs as JSON, got an empty file")
    decode = json.JSONDecoder().raw_decode
    reached = 0
    while start < len(text):
        line += text.count("\n", reached, start)
        try:
            document, end = decode(text, start)
        except json.JSONDecodeError as error:
            is_cut = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated")
            told = "a file that is cut off there" if is_cut else f"what is none: {error.msg.lower()}"
            problems.append(f"{name}: line {error.lineno}: must be JSON, got {told}")
            break
        except (RecursionError, ValueError):  # a million brackets, a number of a million digits
            problems.append(f"{name}: line {line}: must be a page of VMs, got JSON too large to be one")
            break
        reached, start = start, _skip_blank(text, end)
        is_alone = is_alone and start == len(text)
        where = name if is_alone else f"{name}: line {line}"
        listed = document if isinstance(document, list) else None
        next_link = None
        if isinstance(document, dict):
            if isinstance(document.get("error"), dict):
                code, message = (str(document["error"].get(key)) for key in ("code", "message"))
                told = f"got an error of the API, '{code}': '{message.strip().partition(chr(10))[0]}'"
                problems.append(f"{where}: must be a page of VMs, {told}; call it anew")
                continue
            # `value` of the resource API, `data` of the resource graph
            listed = next((document[key] for key in ("value", "data") if isinstance(document.get(key), list)), None)
            links = (document.get(key) for key in ("nextLink", "skip_token", "$skipToken"))
            next_link = next((link for link in links if isinstance(link, str) and link), None)
        if listed is not None:
            yield Page(where, listed, next_link=next_link)
        else:
            items.append(document)
            places.append(f"line {line}")
    if items:
        yield Page(name, items, places)


def _skip_blank(text: str, start: int) -> int:
    match = _BLANK.match(text, start)
    assert match is not None
    return match.end()


def _csv_page(name: str, text: str, problems: list[str]) -> Iterator[Page]:
    """The rows of the CSV *text* as objects; empty fields are left out of them."""
    rows = csv.reader(io.StringIO(text, newline=""))
    items, places, ragged = [], [], []
    try:
        header = next(rows, [])
        if problem := wrong_separator(header) or ("" if header else "must have a header, got an empty file"):
            raise InputError(f"{name}: {problem}")
        for number, fields in enumerate(rows, 1):
            if len(fields) == len(header):
                items.append({column: field for column, field in zip(header, fields, strict=True) if field})
                places.append(f"row {number}")
            elif fields:
                ragged.append(f"{name}: row {number}: must have {len(header)} fields, got {len(fields)}")
    except InputError as error:
        problems += error.problems
        return
    except csv.Error as error:
        problems.append(f"{name}: line {rows.line_num}: must be CSV, got what is none: {error}")
        return
    problems += ragged[:_RAGGED_ROWS_TOLD]
    if len(ragged) > _RAGGED_ROWS_TOLD:
        problems.append(f"{name}: {len(ragged) - _RAGGED_ROWS_TOLD:,} more rows like these")
    yield Page(name, items, places)
