"""The Azure 2017 public VM trace as a fleet: everybody in it, present throughout.

The trace says which VMs were created together, and their sizes. Regions, sets and update domains it does not
say: they are made up here, and each sentence about that goes into the file, the prepared fleet and the run.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fleetsim.errors import InputError, nearest, nearest_path
from fleetsim.fleet.draws import drawn_codes, fleet_key
from fleetsim.fleet.facts import render_facts
from fleetsim.fleet.read import INVENTED_KEY
from fleetsim.progress import Progress
from fleetsim.regions import dataset_path, public_regions
from fleetsim.schema import FLEET, UPDATE_DOMAIN_COUNT_DEFAULT, Stream
from fleetsim.tables import arrow_field, check_new, folder_above, provenance_of, write_parquet

if TYPE_CHECKING:
    from rich.console import Console

TRACE = "azure_v1_vms.parquet"
"""The trace as shipped: Azure Public Dataset (Cortez et al., SOSP 2017), CC-BY 4.0."""

_SET_VMS = 100  # a batch is cut into sets of this many
_BATCH_SETS = 100  # set id: batch * this + its piece
_COLUMNS = {"vm_id": "integer", "batch_id": "integer", "vcpus": "integer", "memory_gib": "floating"}


@dataclass(frozen=True, slots=True)
class Imported:
    """An imported fleet on disk; `invented`: what its source does not say, a sentence each."""

    path: Path
    counts: Mapping[str, int]
    invented: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The facts as plain JSON values."""
        return {"fleet": str(self.path), "counts": dict(self.counts), "invented": list(self.invented)}

    def render(self, console: "Console") -> None:
        """Print the facts to *console*."""
        facts = [
            *((name, f"{count:,}") for name, count in self.counts.items()),
            *(("invented", sentence) for sentence in self.invented),
        ]
        render_facts(console, f"fleet {self.path}", facts)


def import_trace(
    out: str | Path, source: str | Path | None = None, seed: int = 0, *, progress: Progress | None = None
) -> Imported:
    """Write the trace *source* (default: the one shipped) as the new Parquet file *out*.

    Batches of one VM become singles, of 2 to 100 availability sets, larger ones sets of 100 in order of VM;
    *seed* draws a region for each batch.
    """
    out = Path(out)
    check_new(out)
    folder_above(out)
    key = fleet_key(seed)
    trace = _read(dataset_path(TRACE) if source is None else Path(source))
    vm, batch = trace["vm_id"].to_numpy().astype(np.int64), trace["batch_id"].to_numpy().astype(np.int64)

    order = np.lexsort((vm, batch))
    batches, batch_start, batch_size = np.unique(batch[order], return_index=True, return_counts=True)
    batch_row = np.repeat(np.arange(len(batches)), batch_size)
    piece, place = np.divmod(np.arange(len(vm)) - batch_start[batch_row], _SET_VMS)
    is_single = batch_size[batch_row] == 1
    regions = public_regions()
    zipf = [Fraction(1, rank) for rank in range(1, len(regions) + 1)]
    region = drawn_codes(key, Stream.REGION, batches, zipf)

    invented = (
        "creations over 30 days, not a snapshot: every VM of the trace is present throughout",
        f"regions: the trace has one; each batch is in one of the {len(regions)} public regions, drawn by Zipf(1) by"
        f" place in the list of regions, which is in order of display name: the first, {regions[0]}, has most",
        f"availability sets: VMs created together are a set, in sets of {_SET_VMS} where they are more;"
        " those created alone are in none",
        f"update domains: round robin over {UPDATE_DOMAIN_COUNT_DEFAULT}, in order of VM",
    )
    vcpus, memory_gib = trace["vcpus"].take(pa.array(order)), trace["memory_gib"].take(pa.array(order))
    columns = {
        "vm": pa.array(vm[order]),
        "region": _text(region[batch_row], regions),
        "set": pa.array(batches[batch_row] * _BATCH_SETS + piece, mask=is_single),
        "set_kind": pa.DictionaryArray.from_arrays(
            pa.array(np.zeros(len(vm), np.int32), mask=is_single), pa.array(["availability_set"])
        ),
        "update_domain": pa.array((place % UPDATE_DOMAIN_COUNT_DEFAULT).astype(np.uint8), mask=is_single),
        "size": _sizes(vcpus, memory_gib),
        "vcpus": vcpus.cast(pa.float64()),
        "memory_gib": memory_gib.cast(pa.float64()),
    }
    schema = pa.schema(
        [arrow_field(FLEET[name], pa.int64()) for name in columns],
        metadata={
            "fleetsim.table": FLEET.name,
            INVENTED_KEY.decode(): json.dumps(invented),
            **provenance_of(seed=seed),
        },
    )
    write_parquet(out, pa.table(columns, schema=schema))
    if progress is not None:
        progress("import", len(vm), len(vm))
    counts = {
        "vms": len(vm),
        "batches": len(batches),
        "sets": int(((batch_size[batch_size > 1] + _SET_VMS - 1) // _SET_VMS).sum()),
        "singles": int(is_single.sum()),
        "regions": len(np.unique(region)),
    }
    return Imported(out, counts, invented)


def _read(path: Path) -> pa.Table:
    """The columns used of the trace, in one chunk each; `InputError` where *path* is not the trace."""
    expected = f"must be the Azure 2017 VM trace as Parquet with the columns {', '.join(_COLUMNS)}"
    if not path.is_file():
        raise InputError(f"{path}: {expected}, got no such file{nearest_path(path)}")
    try:
        schema = pq.read_schema(path)
        if lacking := [name for name in _COLUMNS if name not in schema.names]:
            raise InputError(f"{path}: {expected}, got no '{lacking[0]}'{nearest(lacking[0], schema.names)}")
        trace = pq.read_table(path, columns=list(_COLUMNS)).combine_chunks()
    except (pa.ArrowException, OSError) as error:
        told = str(error).partition("\n")[0]
        raise InputError(f"{path}: {expected}, got a file that cannot be read: {told}") from error
    problems = []
    for name, kind in _COLUMNS.items():
        found = trace[name].type
        is_right = pa.types.is_integer(found) if kind == "integer" else pa.types.is_floating(found)
        if not is_right:
            problems.append(f"{path}: column '{name}' must be {kind}, got {found}")
        elif trace[name].null_count:
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
