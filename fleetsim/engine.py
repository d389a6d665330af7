"""The engine: takes the cells of one block through a stage, and keeps the sums the summary is made of.

A block is one part of a prepared fleet: whole sets, then singles, of one region. Nothing in one cell can affect
another, so blocks run on any thread, in any order. Without hosts and caps every cell is one set or single, which
`walk` takes in one pass; cells that share hosts or a cap will go through the gate here, in `advance`.
"""

import hashlib
import threading
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fleetsim.errors import InputError
from fleetsim.fleet.prepared import PreparedPart
from fleetsim.kernels import impact, walk
from fleetsim.scenario import Campaign
from fleetsim.schema import NEVER_MS, NO_ROW, UPDATE_DOMAIN_COUNT_MAX, DomainOrder, Stream
from fleetsim.tables import to_numpy

ITERATION = 1
"""Campaigns without windows have one iteration (semantics.md 25)."""

Int64s = npt.NDArray[np.int64]
_Scalar = TypeVar("_Scalar", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Block:
    """One part of a prepared fleet as arrays; V VMs, U units, S sets. Rows count from the part's first."""

    vm_key: Int64s  # [V]
    set_offsets: Int64s  # [S+1] units of each set
    set_key: Int64s  # [S]
    unit_set_key: Int64s  # [U]
    update_domain: npt.NDArray[np.uint8]  # [U]
    unit_offsets: Int64s  # [U+1] VM rows of each unit; singles are the rows after the last


@dataclass(slots=True)
class Sums:
    """What a stage adds up over its blocks: the single figures of `summary`, and its bins."""

    first_start_ms: int = NEVER_MS
    end_ms: int = 0
    longest_ms: int = 0
    vm_hit_count: int = 0
    unavailable_ms: int = 0
    set_count: int = 0
    single_count: int = 0
    down_count: int = 0  # the fullest domain: down_count of down_of_count VMs of its set
    down_of_count: int = 1
    set_out_ms: int = 0
    last_vm_row: int = 0
    last_spread_ms: int = 0
    last_work_ms: int = 0
    last_gap_ms: int = 0
    last_domain_count: int = 0
    hourly: dict[int, tuple[int, int]] = field(default_factory=dict)  # hour -> starts, VM-ms unavailable
    histogram: Int64s = field(default_factory=lambda: np.zeros(impact.HISTOGRAM_BIN_COUNT, np.int64))

    def add(self, other: "Sums") -> None:
        """Take in the sums of the next block in row order: of two that end last together, the first is kept."""
        if other.end_ms > self.end_ms:
            self.end_ms = other.end_ms
            self.last_vm_row = other.last_vm_row
            self.last_spread_ms = other.last_spread_ms
            self.last_work_ms = other.last_work_ms
            self.last_gap_ms = other.last_gap_ms
            self.last_domain_count = other.last_domain_count
        if other.down_count * self.down_of_count > self.down_count * other.down_of_count:
            self.down_count, self.down_of_count = other.down_count, other.down_of_count
        self.first_start_ms = min(self.first_start_ms, other.first_start_ms)
        self.longest_ms = max(self.longest_ms, other.longest_ms)
        self.vm_hit_count += other.vm_hit_count
        self.unavailable_ms += other.unavailable_ms
        self.set_count += other.set_count
        self.single_count += other.single_count
        self.set_out_ms += other.set_out_ms
        for hour, (start_count, unavailable_ms) in other.hourly.items():
            starts, sum_ms = self.hourly.get(hour, (0, 0))
            self.hourly[hour] = (starts + start_count, sum_ms + unavailable_ms)
        self.histogram += other.histogram


@dataclass(frozen=True, slots=True)
class Impacts:
    """What happens to the VMs of a block, in row order. The arrays are the thread's until its next block."""

    start_at_ms: Int64s  # [V] since the origin, as files have it
    duration_ms: npt.NDArray[np.uint32]  # [V]
    sums: Sums


class _Scratch(threading.local):
    """Arrays a thread keeps from block to block: mapping fresh memory makes the threads wait for one another."""

    def __init__(self) -> None:
        self._kept: dict[str, npt.NDArray[Any]] = {}

    def array(self, name: str, count: int, dtype: type[_Scalar]) -> npt.NDArray[_Scalar]:
        """An array with anything in it, until the thread asks for *name* again."""
        kept = self._kept.get(name)
        if kept is None or len(kept) < count:
            kept = self._kept[name] = np.empty(count, dtype)
        return kept[:count]


_scratch = _Scratch()


def campaign_key(seed: int, name: str) -> int:
    """Key of a campaign's draws: the seed mixed with a digest of the name, so that other campaigns change nothing."""
    digest = hashlib.sha256(seed.to_bytes(8, "little") + name.encode())
    return int.from_bytes(digest.digest()[:8], "little")


def load_block(part: PreparedPart) -> Block:
    """Read what kernels need of *part*: the keys of its VMs, and its units. Raises `InputError` where it is damaged."""
    # ParquetFile and not read_table, which sets up a data set for each file and takes longer than the reading.
    try:
        with pq.ParquetFile(part.path) as vms:
            key_name = "vm_key" if "vm_key" in vms.schema_arrow.names else "vm"
            vm_key = to_numpy(vms.read(columns=[key_name], use_threads=False)[key_name])
        with pq.ParquetFile(part.units_path) as file:
            units = file.read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{part.path.parent.parent.parent}: part {part.number} of {part.path.parent.name} must be readable,"
            f" got: {str(error).splitlines()[0]}; prepare the fleet anew"
        ) from error
    unit_offsets = np.zeros(len(units) + 1, np.int64)
    np.cumsum(to_numpy(units["vm_count"]), out=unit_offsets[1:])
    set_row, unit_set_key = to_numpy(units["set_row"]), to_numpy(units["set_key"])
    set_offsets = np.append(np.flatnonzero(np.diff(set_row, prepend=np.uint32(NO_ROW))), len(units))
    return Block(
        vm_key=_frozen(vm_key),
        set_offsets=_frozen(set_offsets),
        set_key=_frozen(unit_set_key[set_offsets[:-1]]),
        unit_set_key=_frozen(unit_set_key),
        update_domain=_frozen(to_numpy(units["update_domain"])),
        unit_offsets=_frozen(unit_offsets),
    )


def _frozen(array: npt.NDArray[_Scalar]) -> npt.NDArray[_Scalar]:
    # Arrow's arrays are read-only; ours as well, so that each kernel is compiled once and not once a mixture.
    array.flags.writeable = False
    return array


def _address(stream: Stream, iteration: int) -> np.uint64:
    return np.uint64(int(stream) << 26 | iteration << 18)


def advance(
    block: Block,
    campaign: Campaign,
    *,
    key: int,
    start_ms: int,
    vm_row_start: int,
    origin_ms: int,
    iteration: int = ITERATION,
    replica: int = 0,
) -> Impacts:
    """Take the VMs of *block* through a stage of *campaign* that starts at *start_ms* since scenario.start.

    key           the campaign's key for draws (`campaign_key`)
    vm_row_start  vm_row of the block's first VM
    origin_ms     scenario.start, from where instants in files are counted
    """
    assert 0 < iteration < 1 << 8
    philox_key, replica_word = np.uint64(key), np.uint64(replica)
    vm_count, unit_count = len(block.vm_key), len(block.update_domain)
    single_row = int(block.unit_offsets[-1])
    sums = Sums(
        end_ms=start_ms,
        vm_hit_count=vm_count,
        set_count=len(block.set_offsets) - 1,
        single_count=vm_count - single_row,
    )
    duration_ms = _lengths(block, campaign, philox_key, iteration, replica_word)

    unit_ms = _scratch.array("unit_ms", unit_count, np.int64)
    unit_unavailable_ms = _scratch.array("unit_unavailable_ms", unit_count, np.int64)
    impact.measure_units(block.unit_offsets, duration_ms, unit_ms, unit_unavailable_ms)
    totals = np.zeros(walk.TOTAL_COUNT, np.int64)
    totals[walk.FIRST_START_MS], totals[walk.DOWN_OF_COUNT] = NEVER_MS, 1
    priorities = _priorities(block, campaign, philox_key, iteration, replica_word)
    set_start_ms = _scratch.array("set_start_ms", sums.set_count, np.int64)
    spread = (start_ms, campaign.spread_ms, philox_key)
    walk.draw_starts(*spread, _address(Stream.SET_SPREAD, iteration), replica_word, block.set_key, set_start_ms)
    unit_start_ms = _scratch.array("unit_start_ms", unit_count, np.int64)
    walk.walk_sets(
        start_ms, campaign.work_ms, campaign.update_domain_gap_ms,
        block.set_offsets, set_start_ms,
        block.unit_offsets, priorities, unit_ms, np.empty(UPDATE_DOMAIN_COUNT_MAX, np.int64),
        unit_start_ms,
        totals,
    )  # fmt: skip
    single_start_ms = _scratch.array("single_start_ms", sums.single_count, np.int64)
    single_address = _address(Stream.SINGLE_SPREAD, iteration)
    walk.draw_starts(*spread, single_address, replica_word, block.vm_key[single_row:], single_start_ms)
    walk.walk_singles(start_ms, campaign.work_ms, single_row, single_start_ms, duration_ms[single_row:], totals)
    start_at_ms = _scratch.array("start_at_ms", vm_count, np.int64)
    walk.start_vms(origin_ms, block.unit_offsets, unit_start_ms, start_at_ms)
    np.add(single_start_ms, origin_ms, out=start_at_ms[single_row:])

    sums.first_start_ms = int(totals[walk.FIRST_START_MS])
    sums.end_ms = int(totals[walk.END_MS])
    sums.longest_ms = int(totals[walk.LONGEST_MS])
    sums.down_count, sums.down_of_count = int(totals[walk.DOWN_COUNT]), int(totals[walk.DOWN_OF_COUNT])
    sums.set_out_ms = int(walk.sets_out_ms(block.set_offsets, block.unit_offsets, duration_ms))
    sums.last_vm_row = vm_row_start + int(totals[walk.LAST_ROW])
    sums.last_spread_ms = int(totals[walk.LAST_SPREAD_MS])
    sums.last_work_ms = int(totals[walk.LAST_WORK_MS])
    sums.last_gap_ms = int(totals[walk.LAST_GAP_MS])
    sums.last_domain_count = int(totals[walk.LAST_DOMAIN_COUNT])
    _tally(sums, block, start_ms, unit_start_ms, unit_unavailable_ms, single_start_ms, duration_ms)
    return Impacts(start_at_ms, duration_ms, sums)


def _lengths(
    block: Block, campaign: Campaign, key: np.uint64, iteration: int, replica: np.uint64
) -> npt.NDArray[np.uint32]:
    duration_ms = _scratch.array("duration_ms", len(block.vm_key), np.uint32)
    if campaign.length.is_constant:
        duration_ms.fill(campaign.length.length_ms_min)
        return duration_ms
    address = _address(Stream.LENGTH, iteration)
    impact.draw_lengths(key, address, replica, _frozen(campaign.length.table), block.vm_key, duration_ms)
    return duration_ms


def _priorities(
    block: Block, campaign: Campaign, key: np.uint64, iteration: int, replica: np.uint64
) -> npt.NDArray[np.uint64]:
    """What the domains of a set are ordered by, smallest first: uint64[U]."""
    match campaign.update_domain_order:
        case DomainOrder.SEQUENTIAL:
            return np.zeros(len(block.update_domain), np.uint64)
        case DomainOrder.LARGEST_FIRST:
            return np.iinfo(np.uint64).max - np.diff(block.unit_offsets).astype(np.uint64)
        case DomainOrder.RANDOM:
            priorities = _scratch.array("priorities", len(block.update_domain), np.uint64)
            address = _address(Stream.UPDATE_DOMAIN_ORDER, iteration)
            walk.draw_units(key, address, replica, block.unit_set_key, block.update_domain, priorities)
            return priorities


def _tally(
    sums: Sums,
    block: Block,
    stage_start_ms: int,
    unit_start_ms: Int64s,
    unit_unavailable_ms: Int64s,
    single_start_ms: Int64s,
    duration_ms: npt.NDArray[np.uint32],
) -> None:
    """Fill the bins of *sums*, and with them the time lost in all."""
    first_hour = stage_start_ms // impact.HOUR_MS
    hour_count = sums.end_ms // impact.HOUR_MS - first_hour + 1
    starts, unavailable_ms = np.zeros(hour_count, np.int64), np.zeros(hour_count, np.int64)
    single_row = int(block.unit_offsets[-1])
    impact.tally_unit_hours(first_hour, unit_start_ms, block.unit_offsets, unit_unavailable_ms, starts, unavailable_ms)
    impact.tally_single_hours(first_hour, single_start_ms, duration_ms[single_row:], starts, unavailable_ms)
    impact.tally_lengths(duration_ms, sums.histogram)
    sums.unavailable_ms = int(unavailable_ms.sum())
    sums.hourly = {
        first_hour + int(hour): (int(starts[hour]), int(unavailable_ms[hour])) for hour in np.flatnonzero(starts)
    }


@cache
def histogram_bin_starts_ms() -> Int64s:
    """Lower bounds of the bins of `Sums.histogram`."""
    bounds = np.empty(impact.HISTOGRAM_BIN_COUNT, np.int64)
    impact.bin_starts_ms(bounds)
    return bounds
