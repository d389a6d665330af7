"""The Azure 2017 public VM trace as a fleet: everybody in it throughout, or those alive from one of its days on.

The trace says which VMs were created together, and their sizes; of those of its last days also when they were
created and, in bins, how long they lived. Regions, sets and update domains it does not say: they are made up here,
and each sentence about that goes into the file, the prepared fleet and the run.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fleetsim.errors import InputError, nearest, nearest_path
from fleetsim.fleet.draws import below, drawn_codes, draws_of, fleet_key
from fleetsim.fleet.facts import render_facts
from fleetsim.fleet.read import INVENTED_KEY
from fleetsim.progress import Progress
from fleetsim.regions import public_regions
from fleetsim.schema import FLEET, UPDATE_DOMAIN_COUNT_DEFAULT, Stream
from fleetsim.shipped import dataset_path
from fleetsim.tables import arrow_field, check_new, folder_above, instant_ms, instants, provenance_of, write_parquet

if TYPE_CHECKING:
    from rich.console import Console

TRACE = "azure_v1_vms.parquet"
"""The trace as shipped: Azure Public Dataset (Cortez et al., SOSP 2017), CC-BY 4.0."""

_SET_VMS = 100  # a batch is cut into sets of this many
_BATCH_SETS = 100  # set id: batch * this + its piece
_COLUMNS = {"vm_id": "integer", "batch_id": "integer", "vcpus": "integer", "memory_gib": "floating"}
_LIFE_COLUMNS = {
    "created_s": "integer",
    "lifetime_lo_s": "integer",
    "lifetime_hi_s": "integer",
    "censored": "boolean",
}
_OPTIONAL = ("lifetime_lo_s", "lifetime_hi_s", "censored")  # null where the life of a VM is not known
_IS_KIND = {"integer": pa.types.is_integer, "floating": pa.types.is_floating, "boolean": pa.types.is_boolean}
_DAY_MS = 86_400_000
_AT_DAY_DEFAULT = 24.0  # the last whole day on which the trace still watches everybody of whom it knows more
_START_DEFAULT = datetime(2026, 12, 1, tzinfo=UTC)
_TRACE_DAYS = 30
_EVERYBODY = ("creations over 30 days, not a snapshot: every VM of the trace is present throughout",)


@dataclass(frozen=True, slots=True)
class Imported:
    """An imported fleet on disk, in sentences.

    invented  what its source does not say, and was made up
    notes     what was settled, or left open to `prepare`
    warnings  what the source may lack
    """

    path: Path
    counts: Mapping[str, int]
    invented: tuple[str, ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The facts as plain JSON values."""
        told = {name: list(getattr(self, name)) for name in ("invented", "notes", "warnings")}
        return {"fleet": str(self.path), "counts": dict(self.counts), **told}

    def render(self, console: "Console") -> None:
        """Print the facts to *console*."""
        facts = [
            *((name.replace("_", " "), f"{count:,}") for name, count in self.counts.items()),
            *(("note", sentence) for sentence in self.notes),
            *(("invented", sentence) for sentence in self.invented),
            *(("warning", sentence) for sentence in self.warnings),
        ]
        render_facts(console, f"fleet {self.path}", facts)


def import_trace(
    out: str | Path,
    source: str | Path | None = None,
    seed: int = 0,
    *,
    present: str = "throughout",
    at_day: float | None = None,
    start: str | datetime | None = None,
    progress: Progress | None = None,
) -> Imported:
    """Write the trace *source* (default: the one shipped) as the new Parquet file *out*.

    Batches of one VM become singles, of 2 to 100 availability sets, larger ones sets of 100 in order of VM;
    *seed* draws a region for each batch, and lives within their bins.

    present  throughout: every VM of the trace, always; alive: those whose life it knows and that are alive at
             *at_day* or created later, with `created` and `deleted`
    at_day   with alive: day of the trace, 0 to 30, that becomes *start*; default 24
    start    with alive: an instant with a zone, in ISO 8601 where it is text; default 2026-12-01T00:00:00Z

    Raises `InputError` for arguments that are none, and where *source* is not the trace.
    """
    out = Path(out)
    check_new(out)
    folder_above(out)
    key = fleet_key(seed)
    moment = _moment(present, at_day, start)
    trace = _read(dataset_path(TRACE) if source is None else Path(source), has_lives=moment is not None)
    vm, batch = trace["vm_id"].to_numpy().astype(np.int64), trace["batch_id"].to_numpy().astype(np.int64)

    order = np.lexsort((vm, batch))
    batches, batch_start, batch_size = np.unique(batch[order], return_index=True, return_counts=True)
    batch_row = np.repeat(np.arange(len(batches)), batch_size)
    piece, place = np.divmod(np.arange(len(vm)) - batch_start[batch_row], _SET_VMS)
    is_single = batch_size[batch_row] == 1
    set_id = batches[batch_row] * _BATCH_SETS + piece
    regions = public_regions()
    zipf = [Fraction(1, rank) for rank in range(1, len(regions) + 1)]
    region = drawn_codes(key, Stream.REGION, batches, zipf)

    vcpus, memory_gib = trace["vcpus"].take(pa.array(order)), trace["memory_gib"].take(pa.array(order))
    columns = {
        "vm": pa.array(vm[order]),
        "region": _text(region[batch_row], regions),
        "set": pa.array(set_id, mask=is_single),
        "set_kind": pa.DictionaryArray.from_arrays(
            pa.array(np.zeros(len(vm), np.int32), mask=is_single), pa.array(["availability_set"])
        ),
        "update_domain": pa.array((place % UPDATE_DOMAIN_COUNT_DEFAULT).astype(np.uint8), mask=is_single),
        "size": _sizes(vcpus, memory_gib),
        "vcpus": vcpus.cast(pa.float64()),
        "memory_gib": memory_gib.cast(pa.float64()),
    }
    is_kept, counts = np.ones(len(vm), np.bool_), {"vms": len(vm)}
    who: tuple[str, ...] = _EVERYBODY
    if moment is not None:
        lives = _lives(trace.take(pa.array(order)), key, *moment)
        columns |= {"created": lives.created, "deleted": lives.deleted}
        is_kept, who, counts = lives.is_kept, lives.invented, lives.counts
    invented = (
        *who,
        f"regions: the trace has one; each batch is in one of the {len(regions)} public regions, drawn by Zipf(1) by"
        f" place in the list of regions, which is in order of display name: the first, {regions[0]}, has most",
        f"availability sets: VMs created together are a set, in sets of {_SET_VMS} where they are more;"
        " those created alone are in none",
        f"update domains: round robin over {UPDATE_DOMAIN_COUNT_DEFAULT}, in order of VM",
    )
    schema = pa.schema(
        [arrow_field(FLEET[name], pa.int64()) for name in columns],
        metadata={
            "fleetsim.table": FLEET.name,
            INVENTED_KEY.decode(): json.dumps(invented),
            **provenance_of(seed=seed),
        },
    )
    write_parquet(out, pa.table(columns, schema=schema).filter(pa.array(is_kept)))
    if progress is not None:
        progress("import", len(vm), len(vm))
    counts = {
        **counts,
        "batches": len(np.unique(batch_row[is_kept])),
        "sets": len(np.unique(set_id[is_kept & ~is_single])),
        "singles": int((is_kept & is_single).sum()),
        "regions": len(np.unique(region[batch_row[is_kept]])),
    }
    return Imported(out, counts, invented)


@dataclass(frozen=True, slots=True)
class _Lives:
    """Who of the trace is kept, and when each is created and deleted."""

    is_kept: npt.NDArray[np.bool_]
    created: pa.Array
    deleted: pa.Array
    invented: tuple[str, ...]
    counts: dict[str, int]


def _moment(present: str, at_day: float | None, start: str | datetime | None) -> tuple[float, int] | None:
    """Which day of the trace is which instant, in ms since 1970; None where everybody is present throughout."""
    problems = []
    if present not in ("throughout", "alive"):
        hint = nearest(present, ("throughout", "alive"))
        raise InputError(f"present: must be throughout or alive, got '{present}'{hint}")
    if present == "throughout":
        for name, value in (("at_day", at_day), ("start", start)):
            if value is not None:
                problems.append(f"{name}: must not be given where everybody is present throughout, got '{value}'")
        if problems:
            raise InputError(problems)
        return None
    day = _AT_DAY_DEFAULT if at_day is None else at_day
    if isinstance(day, bool) or not isinstance(day, int | float) or not 0 <= day <= _TRACE_DAYS:
        problems.append(f"at_day: must be a day of the trace, from 0 to {_TRACE_DAYS}, got '{at_day}'")
    start_ms = 0
    try:
        start_ms = instant_ms("start", _START_DEFAULT if start is None else start)
    except InputError as error:
        problems += error.problems
    if problems:
        raise InputError(problems)
    return day, start_ms


def _lives(trace: pa.Table, key: int, day: float, start_ms: int) -> _Lives:
    """Lives of the rows of *trace*, whose *day* is *start_ms*: lengths are drawn within their bins, by VM."""
    low_s, high_s = (trace[name].fill_null(0).to_numpy().astype(np.int64) for name in _OPTIONAL[:2])
    is_known = trace["lifetime_lo_s"].is_valid().to_numpy()
    is_endless = trace["censored"].fill_null(False).to_numpy()
    draws = draws_of(key, Stream.LIFE, trace["vm_id"].to_numpy().astype(np.int64))
    length_ms = np.maximum(low_s * 1000 + below(draws, (high_s - low_s) * 1000), 1)
    at_ms = round(day * _DAY_MS)
    created_ms = trace["created_s"].to_numpy().astype(np.int64) * 1000 - at_ms
    is_kept = is_known & (is_endless | (created_ms + length_ms > 0))
    if not is_kept.any():
        raise InputError(f"at_day: must be a day on which a VM of known life is alive, or before one is, got '{day:g}'")
    told = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=start_ms)).isoformat().replace("+00:00", "Z")
    return _Lives(
        is_kept,
        instants(start_ms + created_ms),
        pc.if_else(pa.array(is_endless), None, instants(start_ms + created_ms + length_ms)),
        (
            f"presence: of the {len(is_kept):,} VMs of the trace it tells the lives of {int(is_known.sum()):,}, created"
            f" in its last days; of them those alive on day {day:g} or created later are here, none that is older",
            f"time: day {day:g} of the trace is {told}; a VM is created when the five minutes begin in which it was",
            "deletions: the trace has lives in bins; each is drawn uniformly from its bin, and VMs it lost sight of"
            " before they ended are never deleted",
        ),
        {
            "vms": int(is_kept.sum()),
            "alive_at_start": int((is_kept & (created_ms <= 0)).sum()),
            "created_later": int((is_kept & (created_ms > 0)).sum()),
            "never_deleted": int((is_kept & is_endless).sum()),
        },
    )


def _read(path: Path, *, has_lives: bool) -> pa.Table:
    """The columns used of the trace, in one chunk each; `InputError` where *path* is not the trace."""
    columns = _COLUMNS | _LIFE_COLUMNS if has_lives else _COLUMNS
    expected = f"must be the Azure 2017 VM trace as Parquet with the columns {', '.join(columns)}"
    if not path.is_file():
        raise InputError(f"{path}: {expected}, got no such file{nearest_path(path)}")
    try:
        schema = pq.read_schema(path)
        if lacking := [name for name in columns if name not in schema.names]:
            raise InputError(f"{path}: {expected}, got no '{lacking[0]}'{nearest(lacking[0], schema.names)}")
        trace = pq.read_table(path, columns=list(columns)).combine_chunks()
    except (pa.ArrowException, OSError) as error:
        told = str(error).partition("\n")[0]
        raise InputError(f"{path}: {expected}, got a file that cannot be read: {told}") from error
    problems = []
    for name, kind in columns.items():
        if not _IS_KIND[kind](trace[name].type):
            problems.append(f"{path}: column '{name}' must be {kind}, got {trace[name].type}")
        elif trace[name].null_count and name not in _OPTIONAL:
            problems.append(f"{path}: column '{name}' must not be empty, got {trace[name].null_count:,} empty rows")
    if not (problems or trace.num_rows):
        problems.append(f"{path}: must hold at least one VM, got none")
    if problems:
        raise InputError(problems)
    vm, batch = trace["vm_id"].to_numpy(), trace["batch_id"].to_numpy()
    if len(np.unique(vm)) < len(vm):
        problems.append(f"{path}: column 'vm_id' must be unique, got {len(vm) - len(np.unique(vm)):,} repeated")
    if vm.min() < 0 or batch.min() < 0 or batch.max() >= (1 << 62) // _BATCH_SETS:
        problems.append(f"{path}: columns 'vm_id' and 'batch_id' must be counted from 0")
    largest = int(np.unique(batch, return_counts=True)[1].max())
    if largest > _SET_VMS * _BATCH_SETS:
        problems.append(f"{path}: a batch must have at most {_SET_VMS * _BATCH_SETS:,} VMs, got one of {largest:,}")
    if has_lives:
        low, high, censored = (trace[name] for name in _OPTIONAL)
        is_there = [column.is_valid().to_numpy() for column in (low, high, censored)]
        if not (is_there[0] == is_there[1]).all() or not (is_there[0] == is_there[2]).all():
            problems.append(f"{path}: columns {', '.join(_OPTIONAL)} must be given together, got some alone")
        elif not pc.all(pc.and_(pc.greater_equal(low, 0), pc.less(low, high))).as_py():
            problems.append(f"{path}: columns 'lifetime_lo_s' and 'lifetime_hi_s' must be bins: 0 <= lo < hi")
        elif (pc.max(high).as_py() or 0) > _TRACE_DAYS * 86_400:
            problems.append(f"{path}: column 'lifetime_hi_s' must be at most {_TRACE_DAYS} days, got {pc.max(high)} s")
        if trace["created_s"].to_numpy().min() < 0:
            problems.append(f"{path}: column 'created_s' must be counted from 0")
    if problems:
        raise InputError(problems)
    return trace


def _text(codes: "np.ndarray[Any, np.dtype[np.int64]]", words: list[str]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(words))


def _sizes(vcpus: pa.ChunkedArray, memory_gib: pa.ChunkedArray) -> pa.DictionaryArray:
    """Names like 2x3.5: vcpus x GiB."""
    cores, core_codes = np.unique(vcpus.to_numpy(), return_inverse=True)
    memories, memory_codes = np.unique(memory_gib.to_numpy(), return_inverse=True)
    pairs, codes = np.unique(core_codes * len(memories) + memory_codes, return_inverse=True)
    words = [f"{cores[pair // len(memories)]}x{memories[pair % len(memories)]:g}" for pair in pairs]
    return _text(codes, words)
