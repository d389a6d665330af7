"""Plans of customers: which VM they will start the maintenance of, and when; a CSV file of `vm` and `at`."""

import csv
import hashlib
import io
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fleetsim.errors import InputError, nearest_path, renaming, wrong_separator

_COLUMNS = ("vm", "at")
_PROBLEMS_TOLD = 10
_EXAMPLE = "2026-12-09T09:00:00Z"


@dataclass(frozen=True)
class Plan:
    """Requests as a file lists them, R of them: `lines` are those of the file, `text` is what it says."""

    path: str
    text: str = field(repr=False)
    vm: pa.StringArray = field(repr=False)  # [R]
    at_ms_epoch: npt.NDArray[np.int64] = field(repr=False)  # [R]
    lines: tuple[int, ...] = field(repr=False)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def read_plan(path: Path) -> Plan:
    """The plan in the CSV file *path*; `InputError` with what is wrong in it, by line."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or str(error)).lower() if isinstance(error, OSError) else "it is not UTF-8 text"
        hint = nearest_path(path) if isinstance(error, FileNotFoundError) else ""
        raise InputError(f"{path}: must be a readable CSV file of vm and at, got: {reason}{hint}") from None
    rows = csv.reader(io.StringIO(text, newline=""))
    header = next(rows, [])
    if wrong := wrong_separator(header):
        raise InputError(f"{path}: {wrong}")
    if missing := [name for name in _COLUMNS if name not in header]:
        raise InputError(
            f"{path}: needs a column '{name}', got none{renaming(name, header, missing)}" for name in missing
        )
    vm_place, at_place = map(header.index, _COLUMNS)
    vms, instants_ms, lines, problems = [], [], [], []
    met: dict[tuple[str, int], int] = {}
    for row in rows:
        if not row:
            continue
        line = rows.line_num
        if len(row) != len(header):
            problems.append(f"{path}:{line}: must have {len(header)} cells, got {len(row)}")
            continue
        vm, at_ms = row[vm_place], _instant_ms(row[at_place])
        if not vm:
            problems.append(f"{path}:{line}: vm: is needed, got nothing")
        elif at_ms is None:
            problems.append(
                f"{path}:{line}: at: must be a time with a time zone in whole milliseconds, as {_EXAMPLE},"
                f" got '{row[at_place]}'"
            )
        elif (vm, at_ms) in met:
            problems.append(f"{path}:{line}: must be no request a second time, got that of line {met[vm, at_ms]}")
        else:
            met[vm, at_ms] = line
            vms.append(vm)
            instants_ms.append(at_ms)
            lines.append(line)
    if problems:
        raise InputError(first_of(problems, str(path)))
    return Plan(str(path), text, pa.array(vms, pa.string()), np.array(instants_ms, np.int64), tuple(lines))


def first_of(problems: list[str], path: str) -> list[str]:
    """As many *problems* of the file *path* as one can read, and how many more there are."""
    more = len(problems) - _PROBLEMS_TOLD
    return problems[:_PROBLEMS_TOLD] + ([f"{path}: and {more:,} more"] if more > 0 else [])


def _instant_ms(text: str) -> int | None:
    """*text* in ms since the epoch; None where it is no instant."""
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    if at.tzinfo is None or at.microsecond % 1000:
        return None
    since = at - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000 + since.microseconds // 1_000
